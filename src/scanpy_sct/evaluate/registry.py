"""The registry of methods to compare, by task, and of metrics of embeddings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, Literal, get_args

logger = logging.getLogger(__name__)

Task = Literal["imputation", "embedding", "annotation"]
Kind = Literal[Task, "embedding metric"]
Function = Callable[..., Any]
Has = Callable[[str], bool]
"""Whether a need is met."""

_PACKAGE = "package:"
NEEDS = {
    "checkpoint": "name a model with `model=`",
    "training_frequencies": "name a model that stores the detection rates of its training cells with `model=`",
    "labels": "name the column of adata.obs with labels with `labels_key=`",
    "batches": "name the column of adata.obs with batches with `batch_key=`",
    "coordinates": "put the coordinates of each cell into adata.obsm['spatial']",
    "sections": "put coordinates into adata.obsm['spatial'] (samples of over 10 cells)",
    "regions": "give labels of which a sample has at least two, since each sample is clustered by itself",
    "expression": "name the layer with the expression with `layer=`",
    "counts": "name the layer with counts with `layer=`",
    "reference": "give labelled cells with `reference=`",
    "markers": "give marker genes with `markers=`",
    "measured_markers": "give markers of at least two types among the genes of adata (see `gene_names=`)",
    "label_head": "name a model with `model=` whose label head has some of the labels, and reads genes, of adata",
}
"""What a method or metric may need, and what a user can do about it."""


@dataclass(frozen=True)
class Method:
    """A registered method or metric."""

    kind: Kind
    name: str
    function: Function
    needs: tuple[str, ...] = ()

    def missing(self, has: Has) -> list[str]:
        """Return the needs that are not met; packages are looked for without being imported."""
        return [need for need in self.needs if not (_is_installed(need) if need.startswith(_PACKAGE) else has(need))]


_registered: dict[tuple[Kind, str], Method] = {}


def method(
    name: str, *, task: Task = "imputation", needs: str | Iterable[str] = (), replace: bool = False
) -> Callable[[Function], Function]:
    """Register a function as a method that an evaluation finds by name.

    Parameters
    ----------
    name
        Name of the method in `methods=` and in results.
    task
        The evaluation that the method is for. It decides what the function takes and returns:

        - `"imputation"`: takes an :class:`~scanpy_sct.evaluate.Observed`; returns the expected count of every target
          entry, or a :class:`~scanpy_sct.evaluate.Prediction`;
        - `"embedding"`: takes an :class:`~scanpy_sct.evaluate.EmbeddingInput`; returns one vector per cell;
        - `"annotation"`: takes labelled cells, cells to annotate (both AnnData), the column with the labels and a seed;
          returns a DataFrame of probabilities, cells x labels. A method that needs "markers" finds them in
          `.uns["markers"]` of the cells to annotate, and uses no labelled cells.

        A method should draw all its random numbers from the given seed.
    needs
        What the method requires: "checkpoint", "training_frequencies", "labels", "batches", "coordinates",
        "expression", "counts", "reference", "markers", "measured_markers", "label_head", or "package:NAME" for an
        optional package, named as pip does.
    replace
        Replace a method of that name.

    Returns
    -------
    A decorator, which returns the function unchanged.

    Raises
    ------
    ValueError
        The name is taken, or the task or a need is not known.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> @sct.evaluate.method("half_the_mean", replace=True)
    ... def half_the_mean(observed):
    ...     mean = observed.counts.mean(axis=0)
    ...     return observed.at_targets(lambda rows: mean / 2)
    """
    if task not in get_args(Task):
        msg = f"task={task!r} must be one of {', '.join(map(repr, get_args(Task)))}."
        raise ValueError(msg)
    return _register(task, [name], needs, replace)


def metric(*names: str, needs: str | Iterable[str] = (), replace: bool = False) -> Callable[[Function], Function]:
    """Register a function as one or several metrics of :func:`scanpy_sct.evaluate.embedding`.

    Parameters
    ----------
    names
        Names in `metrics=` and in results. A function that has several is called once for all of them.
    needs
        "labels", "batches", "sections" (coordinates), "regions", or "package:NAME", as for
        :func:`scanpy_sct.evaluate.method`.
    replace
        Replace metrics of these names.

    Returns
    -------
    A decorator, which returns the function unchanged. The function takes :class:`~scanpy_sct.evaluate.Cells`, their
    vectors (n_cells, n_dimensions) and the set of the requested names; it returns a
    :class:`~scanpy_sct.evaluate.Score` for each of these names.

    Raises
    ------
    ValueError
        A name is taken, or a need is not known.
    """
    return _register("embedding metric", names, needs, replace)


def _register(
    kind: Kind, names: Iterable[str], needs: str | Iterable[str], replace: bool
) -> Callable[[Function], Function]:
    needs = (needs,) if isinstance(needs, str) else tuple(needs)
    unknown = [need for need in needs if need not in NEEDS and not need.startswith(_PACKAGE)]
    for name in names:
        if unknown:
            msg = f"`needs` of {name!r} must hold some of {', '.join(NEEDS)} and package:NAME; found {unknown}."
            raise ValueError(msg)
        if (kind, name) in _registered and not replace:
            msg = f"{kind} {name!r} is already registered; choose another name, or pass replace=True."
            raise ValueError(msg)

    def register(function: Function) -> Function:
        for name in names:
            _registered[kind, name] = Method(kind, name, function, needs)
        return function

    return register


def methods(task: Task = "imputation") -> tuple[str, ...]:
    """Return the names of the methods that are registered for a task, in the order of registration."""
    return tuple(registered(task))


def registered(kind: Kind) -> dict[str, Method]:
    """Return what is registered for a kind, by name."""
    return {name: each for (of, name), each in _registered.items() if of == kind}


def find_method(
    requested: str | Function, kind: Kind = "imputation", *, more: Mapping[str, Method] | None = None
) -> Method:
    """Find a method by its name, or make one of a function.

    A registered function keeps its name and needs; any other function has its own name and needs nothing. Raises a
    ValueError for unknown names and for functions with the name of another method, a TypeError for anything else.
    """
    known = {**(more or {}), **registered(kind)}
    if isinstance(requested, str):
        if requested not in known:
            msg = f"`{_argument(kind)}` must be some of {', '.join(known)}, or functions; found {requested!r}."
            raise ValueError(msg)
        return known[requested]
    if not callable(requested):
        msg = f"`{_argument(kind)}` must hold strings and functions, found {type(requested).__name__}."
        raise TypeError(msg)
    for each in known.values():
        if each.function is requested:
            return each
    own_name = getattr(requested, "__name__", type(requested).__name__)
    if own_name in known:
        msg = f"`{_argument(kind)}` holds a function with the name of another method, {own_name!r}; rename it."
        raise ValueError(msg)
    return Method(kind, own_name, requested)


def choose(
    kind: Kind,
    requested: str | Function | Iterable[str | Function],
    has: Has,
    *,
    more: Mapping[str, Method] | None = None,
) -> list[Method]:
    """Find the requested methods or metrics; "all" is every registered one whose needs are met.

    `more` are methods for this call only, by name. Raises a ValueError or TypeError for what is unknown, requested
    twice or lacks what it needs, and an ImportError where a package is missing.
    """
    if isinstance(requested, str) and requested == "all":
        return able(registered(kind).values(), has)
    single = isinstance(requested, str) or callable(requested)
    found = [find_method(each, kind, more=more) for each in ([requested] if single else requested)]
    names = [each.name for each in found]
    if not found or len(set(names)) < len(names):
        known = ", ".join([*registered(kind), *(more or {})])
        msg = f"`{_argument(kind)}` must be different ones of {known}, or functions; found {names or 'none'}."
        raise ValueError(msg)
    for each in found:
        missing = each.missing(has)
        if missing:
            hints = "; ".join(NEEDS.get(need, f"`pip install {need.removeprefix(_PACKAGE)}`") for need in missing)
            msg = f"{each.name!r} of `{_argument(kind)}` needs {', '.join(missing)}: {hints}, or leave it out."
            raise (ImportError if missing[0].startswith(_PACKAGE) else ValueError)(msg)
    return found


def able(candidates: Iterable[Method], has: Has) -> list[Method]:
    """Keep the methods whose needs are met; the others are logged."""
    found = []
    for each in candidates:
        missing = each.missing(has)
        if missing:
            logger.info("%s is left out: it needs %s.", each.name, ", ".join(missing))
        else:
            found.append(each)
    return found


def _argument(kind: Kind) -> str:
    return "metrics" if kind == "embedding metric" else "methods"


def _is_installed(need: str) -> bool:
    """Whether there is a package of the name that `pip install` takes: two packages are imported as `magic`."""
    try:
        distribution(need.removeprefix(_PACKAGE))
    except PackageNotFoundError:
        return False
    return True
