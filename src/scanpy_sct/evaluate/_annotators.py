"""Ways to name cells that can be compared: each takes labelled cells and others, and returns probabilities."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import softmax

from scanpy_sct.annotate.labels import N_COMPONENTS, log_cp10k
from scanpy_sct.evaluate._packages import how_to_install, is_installed
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import find_scale, to_log
from scanpy_sct.storable import storable_name

if TYPE_CHECKING:
    from scipy import sparse

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

Function = Callable[[AnnData, AnnData, str, int], pd.DataFrame]
"""Labelled cells, cells to name, column with the labels, seed -> probabilities, cells to name x labels."""

N_NEIGHBORS = 15
MIN_SHARED_GENES = 2


@dataclass(frozen=True)
class Context:
    """What the methods of this module need beside the cells."""

    checkpoint: Checkpoint | None = None
    library_key: str | None = None
    markers: Any = None
    gene_names: str | None = None


@dataclass(frozen=True)
class Annotator:
    """A way to name cells."""

    name: str
    function: Function
    calibrated: bool = True
    """Whether it means to give probabilities; a ranking has no calibration error."""
    learns: bool = True
    """Whether it needs labelled cells; the others know types by their markers."""
    shares_genes: bool = False
    """Whether it takes the genes whose names both objects have, as they are written."""


def logistic_regression(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Do what most would try first: a regression on 50 principal components of the reference."""
    from sklearn.linear_model import LogisticRegression

    known, others = shared_components(reference, query, rng)
    return _predicted(LogisticRegression(max_iter=1000), known, others, reference, query, labels_key)


def knn(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Let the 15 nearest reference cells vote, in 50 principal components of the reference."""
    from sklearn.neighbors import KNeighborsClassifier

    known, others = shared_components(reference, query, rng)
    model = KNeighborsClassifier(min(N_NEIGHBORS, len(known)))
    return _predicted(model, known, others, reference, query, labels_key)


def celltypist(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Train CellTypist with its two steps: the 300 strongest genes of each label, then the model that is used.

    Stochastic gradient descent takes the place of the default solver, which breaks with recent scikit-learn.
    """
    import celltypist as package

    known, others = (_log_normalised(cells) for cells in (reference, query))
    known.obs["label"] = reference.obs[labels_key].astype(str).to_numpy()
    quiet = logging.getLogger("celltypist")
    level = quiet.level
    quiet.setLevel(logging.WARNING)
    try:
        options = {"labels": "label", "use_SGD": True, "feature_selection": True, "random_state": rng}
        model = package.train(known, check_expression=False, **options)
        answer = package.annotate(others, model=model)
    finally:
        quiet.setLevel(level)
    return answer.probability_matrix


def shared_components(reference: AnnData, query: AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Project both on up to 50 principal components of the reference, over the genes of both; (cells, components)."""
    from sklearn.decomposition import PCA

    known, others = (log_values(cells) for cells in shared_genes(reference, query))
    n_components = min(N_COMPONENTS, min(known.shape) - 1)
    pca = PCA(n_components, svd_solver="arpack", random_state=seed).fit(known)
    return pca.transform(known), pca.transform(others)


def shared_genes(reference: AnnData, query: AnnData) -> tuple[AnnData, AnnData]:
    """Both objects on the genes that both have, in one order; of columns with one name the first."""
    reference, query = (cells[:, ~cells.var_names.duplicated()] for cells in (reference, query))
    names = _shared_names(reference, query)
    return reference[:, names], query[:, names]


def _shared_names(reference: AnnData, query: AnnData) -> pd.Index:
    """Names of genes that both have, each once; a column without a name is no gene."""
    names = reference.var_names.unique().intersection(query.var_names.unique())
    return names[names != ""]


def check_shared_genes(chosen: Iterable[Annotator], reference: AnnData, query: AnnData) -> None:
    """Refuse methods that go by shared genes where there are next to none."""
    refused = [repr(method.name) for method in chosen if method.shares_genes]
    n_shared = len(_shared_names(reference, query))
    if refused and n_shared < MIN_SHARED_GENES:
        names = [", ".join(map(repr, cells.var_names[:3])) for cells in (query, reference)]
        msg = (
            f"Methods {', '.join(refused)} of `methods` need at least {MIN_SHARED_GENES} genes that adata and the "
            f"labelled cells name alike; found {n_shared} (adata: {names[0]}, ...; labelled cells: {names[1]}, ...). "
            "Name the column of .var with the same kind of names with `gene_names=`, or leave these methods out."
        )
        raise ValueError(msg)


def log_values(cells: AnnData) -> sparse.csr_matrix:
    """`log1p` of counts per 10,000, (cells, genes), whatever the scale of `X`."""
    matrix = read_matrix(cells, None)
    return log_cp10k(to_log(matrix, find_scale(matrix)), np.arange(cells.n_vars))


def _log_normalised(cells: AnnData) -> AnnData:
    """Cells with nothing but normalised values and the names of cells and genes."""
    return AnnData(log_values(cells), obs=cells.obs[[]].copy(), var=cells.var[[]].copy())


def _predicted(
    model: Any, known: np.ndarray, others: np.ndarray, reference: AnnData, query: AnnData, labels_key: str
) -> pd.DataFrame:
    model.fit(known, reference.obs[labels_key].astype(str).to_numpy())
    return pd.DataFrame(model.predict_proba(others), index=query.obs_names, columns=model.classes_)


def sct_by_reference(context: Context) -> Function:
    """Make a method of :func:`scanpy_sct.tl.annotate`."""

    def sct(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
        names = reference.obs[labels_key].astype(str).unique()
        key = context.library_key
        key = key if key in query.obs and key in reference.obs else None
        return _annotated(query, context, names, rng, reference=reference, labels_key=labels_key, library_key=key)

    return sct


def sct_by_markers(context: Context) -> Function:
    """Make a method of :func:`scanpy_sct.tl.annotate` with markers."""

    def sct_markers(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
        return _annotated(query, context, list(marker_table(context.markers)["source"].unique()), rng, markers=True)

    return sct_markers


def _annotated(query: AnnData, context: Context, names: Iterable[str], seed: int, **source: Any) -> pd.DataFrame:
    """Probabilities of `annotate`, less that of being none of the names."""
    from scanpy_sct.tl import annotate

    if source.pop("markers", False):
        source["markers"] = context.markers
    options = {"gene_names": context.gene_names, "key_added": "name", "rng": seed, "copy": True}
    named = annotate(query, model=context.checkpoint, **options, **source)
    table = named.obsm["name_probs"].rename(columns={storable_name(name): name for name in names})
    if "name_novelty" in named.obs:
        table = table.mul(1 - named.obs["name_novelty"].fillna(1), axis=0)
    return table


def ulm_by_markers(context: Context) -> Function:
    """Make a method of decoupler's univariate linear model: the t-value of a type's markers among all genes."""

    def ulm(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
        import decoupler

        cells = _log_normalised(query)
        is_named = context.gene_names is not None or "gene_symbol" not in query.var
        symbols = query.var_names if is_named else query.var["gene_symbol"]
        cells.var_names = pd.Index(np.asarray(symbols, dtype=str))
        cells.var_names_make_unique()
        decoupler.mt.ulm(cells, marker_table(context.markers), tmin=1, verbose=False)
        scores = cells.obsm["score_ulm"]
        return pd.DataFrame(softmax(scores.to_numpy(), axis=1), index=query.obs_names, columns=scores.columns)

    return ulm


def marker_table(markers: Any) -> pd.DataFrame:
    """One row per type (`source`) and gene (`target`), of what `annotate` takes as markers."""
    from scanpy_sct.annotate.marker_sets import marker_table

    return marker_table(markers).rename(columns={"name": "source", "gene": "target"}).drop_duplicates()


def built_in(context: Context) -> dict[str, Annotator]:
    """All methods that come with the package, by name, whether or not their needs are met."""
    return {
        "sct": Annotator("sct", sct_by_reference(context)),
        "logistic_regression": Annotator("logistic_regression", logistic_regression, shares_genes=True),
        "knn": Annotator("knn", knn, shares_genes=True),
        "celltypist": Annotator("celltypist", celltypist, shares_genes=True),
        "sct_markers": Annotator("sct_markers", sct_by_markers(context), calibrated=False, learns=False),
        "ulm": Annotator("ulm", ulm_by_markers(context), calibrated=False, learns=False),
    }


NEEDS = {
    "sct": ("model",),
    "celltypist": ("celltypist",),
    "sct_markers": ("model", "markers"),
    "ulm": ("markers", "decoupler"),
}
"""What a method cannot do without: arguments, or optional packages."""


def choose(wanted: Any, context: Context) -> list[Annotator]:
    """Find the methods a user asked for, names and functions; None: all that come with the package and can be used."""
    known = built_in(context)
    if wanted is None:
        return [method for name, method in known.items() if not _lacks(name, context)]
    chosen = [wanted] if isinstance(wanted, str) or callable(wanted) else list(wanted)
    found = [_find(each, known) for each in chosen]
    names = [method.name for method in found]
    if not found or len(set(names)) < len(names):
        msg = f"`methods` must be different ones of {', '.join(known)}, or functions; found {names or 'none'}."
        raise ValueError(msg)
    for method in found:
        _refuse_unmet(method.name, _lacks(method.name, context) if method is known.get(method.name) else [])
    return found


def _find(wanted: Any, known: dict[str, Annotator]) -> Annotator:
    if callable(wanted):
        return Annotator(getattr(wanted, "__name__", type(wanted).__name__), wanted)
    if not isinstance(wanted, str) or wanted not in known:
        msg = f"`methods` must be some of {', '.join(known)}, or functions; found {wanted!r}."
        raise ValueError(msg)
    return known[wanted]


def _lacks(name: str, context: Context) -> list[str]:
    """Which of its needs are not met."""
    given = {"model": context.checkpoint is not None, "markers": context.markers is not None}
    return [need for need in NEEDS.get(name, ()) if not (given[need] if need in given else is_installed(need))]


def _refuse_unmet(name: str, lacks: list[str]) -> None:
    packages = [need for need in lacks if need not in ("model", "markers")]
    arguments = [need for need in lacks if need in ("model", "markers")]
    if arguments:
        msg = f"Method {name!r} of `methods` needs {' and '.join(f'`{each}=`' for each in arguments)}, or leave it out."
        raise ValueError(msg)
    if packages:
        msg = f"Method {name!r} of `methods` needs the package {', '.join(packages)}: {how_to_install(packages)}."
        raise ImportError(msg)
