"""The methods that can be compared, by name."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scanpy_sct.evaluate._packages import how_to_install, is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    import numpy as np

    from scanpy_sct.evaluate.observed import Guess, Observed

    Function = Callable[[Observed], Guess | np.ndarray]

logger = logging.getLogger(__name__)

_PACKAGE = "package:"
# What a method may need, and what a user can do about it.
_NEEDS = {
    "checkpoint": "name a model with `model=`",
    "training_frequencies": "name a model that keeps how often its training cells express each gene with `model=`",
    "convolutions": "name a model with convolutions with `model=`",
    "cell_types": "name the column of adata.obs with cell types with `labels_key=`",
    "coordinates": "put the place of each cell in adata.obsm['spatial']",
}


@dataclass(frozen=True)
class Method:
    """A way to predict hidden entries."""

    name: str
    function: Function
    needs: tuple[str, ...] = ()
    """What it cannot do without: "checkpoint", "training_frequencies", "convolutions", "cell_types", "coordinates",
    "package:NAME"."""

    def lacks(self, available: Collection[str]) -> list[str]:
        """Tell which of its needs are not met; packages are looked for without being imported."""
        return [
            need
            for need in self.needs
            if (not is_installed(need.removeprefix(_PACKAGE)) if need.startswith(_PACKAGE) else need not in available)
        ]


_methods: dict[str, Method] = {}


def method(name: str, *, needs: Iterable[str] = (), replace: bool = False) -> Callable[[Function], Function]:
    """Register a function as a method that :func:`scanpy_sct.evaluate.imputation` knows by name.

    The function takes an :class:`~scanpy_sct.evaluate.Observed` and returns the expected count of every wanted entry,
    or a :class:`~scanpy_sct.evaluate.Guess`. It should take all chance from `observed.seed`.

    Parameters
    ----------
    name
        Name of the method in `methods=` and in results.
    needs
        What it cannot do without, any of "checkpoint", "training_frequencies" and "convolutions" (of the checkpoint),
        "cell_types", "coordinates", and "package:NAME" for an optional package, named as pip names it.
    replace
        Put it in the place of another method of that name.

    Returns
    -------
    A decorator, which returns the function as it is.

    Raises
    ------
    ValueError
        The name is taken, or nothing is known of such a need.

    Examples
    --------
    >>> @method("half_the_mean", replace=True)
    ... def half_the_mean(observed):
    ...     mean = observed.counts.mean(axis=0)
    ...     return observed.at_wanted(lambda rows: mean / 2)
    """
    needs = (needs,) if isinstance(needs, str) else tuple(needs)
    unknown = [need for need in needs if need not in _NEEDS and not need.startswith(_PACKAGE)]
    if unknown:
        msg = f"`needs` of method {name!r} may hold {', '.join(_NEEDS)} and package:NAME; found {unknown}."
        raise ValueError(msg)
    if name in _methods and not replace:
        msg = f"There is a method {name!r} already; choose another `name`, or pass replace=True."
        raise ValueError(msg)

    def register(function: Function) -> Function:
        _methods[name] = Method(name, function, needs)
        return function

    return register


def methods() -> tuple[str, ...]:
    """Names of all registered methods, in the order in which they were registered."""
    return tuple(_methods)


def find_method(name_or_callable: str | Function) -> Method:
    """Find a method by its name, or make one of a function.

    A function that is registered keeps its registered name and needs; any other goes by its own name and needs nothing.

    Raises
    ------
    ValueError
        There is no method of that name.
    TypeError
        It is neither a name nor a function.
    """
    if isinstance(name_or_callable, str):
        if name_or_callable not in _methods:
            msg = f"`methods` must be some of {', '.join(_methods)}, or functions; found {name_or_callable!r}."
            raise ValueError(msg)
        return _methods[name_or_callable]
    if not callable(name_or_callable):
        msg = f"`methods` must hold names and functions, found {type(name_or_callable).__name__}."
        raise TypeError(msg)
    for registered in _methods.values():
        if registered.function is name_or_callable:
            return registered
    return Method(getattr(name_or_callable, "__name__", type(name_or_callable).__name__), name_or_callable)


def choose_methods(wanted: str | Function | Iterable[str | Function], available: Collection[str]) -> list[Method]:
    """Find the methods a user asked for, and refuse those whose needs are not met.

    Parameters
    ----------
    wanted
        A name, a function, or several; "all": every registered method whose needs are met.
    available
        Needs that are met, some of "checkpoint", "training_frequencies", "convolutions", "cell_types", "coordinates".

    Raises
    ------
    ValueError
        No method, an unknown one, two of one name, or needs that are not met.
    ImportError
        An optional package is missing.
    """
    if isinstance(wanted, str) and wanted == "all":
        return [candidate for candidate in _methods.values() if _is_able(candidate, available)]
    found = [find_method(each) for each in ([wanted] if isinstance(wanted, str) or callable(wanted) else wanted)]
    names = [each.name for each in found]
    if not found or len(set(names)) < len(names):
        msg = f"`methods` must be different ones of {', '.join(_methods)}, or functions; found {names or 'none'}."
        raise ValueError(msg)
    for each in found:
        _refuse_unmet(each, each.lacks(available))
    return found


def _is_able(candidate: Method, available: Collection[str]) -> bool:
    """Whether the needs of a method are met; say so where they are not."""
    lacks = candidate.lacks(available)
    if lacks:
        logger.info("Method %s is left out: it needs %s.", candidate.name, ", ".join(lacks))
    return not lacks


def _refuse_unmet(unable: Method, lacks: list[str]) -> None:
    """Say what is missing and the way out."""
    packages = [need.removeprefix(_PACKAGE) for need in lacks if need.startswith(_PACKAGE)]
    if packages:
        msg = f"Method {unable.name!r} of `methods` needs the package {', '.join(packages)}: {how_to_install(packages)}"
        msg += ", or leave the method out."
        raise ImportError(msg)
    if lacks:
        ways_out = "; ".join(_NEEDS[need] for need in lacks)
        msg = f"Method {unable.name!r} of `methods` needs {', '.join(lacks)}: {ways_out}, or leave the method out."
        raise ValueError(msg)
