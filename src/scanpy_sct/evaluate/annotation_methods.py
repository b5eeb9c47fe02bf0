"""Annotation methods to compare: the annotators of the package, simple baselines, and functions of users.

Each takes labelled cells, cells to annotate, the column with the labels and a seed, and returns probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.annotate.annotators import ANNOTATORS, Annotator
from scanpy_sct.annotate.features import N_COMPONENTS, normalised_genes
from scanpy_sct.annotate.markers import marker_table, score_markers
from scanpy_sct.evaluate.registry import Function, Method, method, registered
from scanpy_sct.evaluate.registry import choose as choose_methods
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import find_scale, to_log
from scanpy_sct.storable import storable_name

if TYPE_CHECKING:
    from scipy import sparse

    from scanpy_sct.annotate.markers import Markers
    from scanpy_sct.checkpoints.checkpoint import Checkpoint

N_NEIGHBORS = 15
MIN_SHARED_GENES = 2
MARKERS = "markers"
"""Where in `.uns` of the cells to annotate methods find the markers: a table with the columns `label` and `gene`."""
SCT_NAMES = {"reference": "sct"}
"""Names that annotators of the package have here; the others have "sct_" before their own."""


@dataclass(frozen=True)
class Context:
    """What the user gave beside the cells."""

    checkpoint: Checkpoint | None = None
    library_key: str | None = None
    markers: Markers | None = None
    gene_names: str | None = None
    labels: frozenset[str] = frozenset()
    """Labels of the cells to annotate."""
    var_names: pd.Index | None = None
    """Names of their genes."""

    def has(self, need: str) -> bool:
        """Whether a method can have what it needs."""
        match need:
            case "checkpoint":
                return self.checkpoint is not None
            case "reference":
                return True  # the cells are labelled
            case "markers":
                return self.markers is not None
            case "measured_markers":
                return self.markers is not None and len(marker_columns(marker_table(self.markers), self.var_names)) > 1
            case "label_head":
                head = None if self.checkpoint is None else self.checkpoint.label_head
                return head is not None and not self.labels.isdisjoint(head.labels)
            case _:
                return False


def learns(each: Method) -> bool:
    """Whether a method learns from labelled cells, as all do that use neither markers nor a label head."""
    return not {"markers", "label_head"} & set(each.needs)


def is_calibrated(each: Method) -> bool:
    """Whether a method gives probabilities; scores of markers only rank cells, and have no calibration error."""
    return "markers" not in each.needs


@method("logistic_regression", task="annotation", needs="reference")
def logistic_regression(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Fit a logistic regression to 50 principal components of the reference."""
    from sklearn.linear_model import LogisticRegression

    known, others = shared_components(reference, query, rng)
    return _predict(LogisticRegression(max_iter=1000), known, others, reference, query, labels_key)


@method("knn", task="annotation", needs="reference")
def knn(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Let the 15 nearest reference cells vote, in 50 principal components of the reference."""
    from sklearn.neighbors import KNeighborsClassifier

    known, others = shared_components(reference, query, rng)
    model = KNeighborsClassifier(min(N_NEIGHBORS, len(known)))
    return _predict(model, known, others, reference, query, labels_key)


@method("marker_mean", task="annotation", needs=("markers", "measured_markers"))
def marker_mean(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Score each type by the mean of its measured markers, each standardised over the cells."""
    columns = marker_columns(query.uns[MARKERS], query.var_names)
    genes = np.unique(np.concatenate(list(columns.values())))
    values = log_values(query)[:, genes].toarray()
    probabilities, none = score_markers(values, {label: np.searchsorted(genes, own) for label, own in columns.items()})
    return pd.DataFrame(probabilities * (1 - none[:, None]), index=query.obs_names, columns=list(columns))


def marker_columns(markers: pd.DataFrame, var_names: pd.Index) -> dict[str, np.ndarray]:
    """Find the columns of the markers of each type, by name or else by Ensembl id; types without any are left out."""
    by_name, by_id = ({}, {})
    # Of several columns with one name the first counts.
    for column, (name, ensembl_id) in enumerate(zip(var_names, to_ensembl(var_names).ensembl_ids, strict=True)):
        by_name.setdefault(name, column)
        by_id.setdefault(ensembl_id, column)
    by_id.pop("", None)
    found: dict[str, set[int]] = {}
    for label, gene, ensembl_id in zip(
        markers["label"], markers["gene"], to_ensembl(markers["gene"]).ensembl_ids, strict=True
    ):
        column = by_name.get(gene, by_id.get(ensembl_id))
        if column is not None:
            found.setdefault(label, set()).add(column)
    return {label: np.array(sorted(columns)) for label, columns in found.items()}


def shared_components(reference: AnnData, query: AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Project both on up to 50 principal components of the reference, over the genes of both; (cells, components)."""
    from sklearn.decomposition import PCA

    known, others = (log_values(cells) for cells in shared_genes(reference, query))
    n_components = min(N_COMPONENTS, min(known.shape) - 1)
    pca = PCA(n_components, svd_solver="arpack", random_state=seed).fit(known)
    return pca.transform(known), pca.transform(others)


def shared_genes(reference: AnnData, query: AnnData) -> tuple[AnnData, AnnData]:
    """Return both objects on the genes that both have, in one order; of columns with one name the first."""
    reference, query = (cells[:, ~cells.var_names.duplicated()] for cells in (reference, query))
    names = _shared_names(reference, query)
    return reference[:, names], query[:, names]


def _shared_names(reference: AnnData, query: AnnData) -> pd.Index:
    """Names of genes that both have, each once; a column without a name is not a gene."""
    names = reference.var_names.unique().intersection(query.var_names.unique())
    return names[names != ""]


def check_shared_genes(chosen: Iterable[Method], reference: AnnData, query: AnnData) -> None:
    """Raise an error if a method reads shared genes and there are almost none."""
    names_of_methods = [repr(each.name) for each in chosen if each.function in (logistic_regression, knn)]
    n_shared = len(_shared_names(reference, query))
    if names_of_methods and n_shared < MIN_SHARED_GENES:
        names = [", ".join(map(repr, cells.var_names[:3])) for cells in (query, reference)]
        msg = (
            f"Methods {', '.join(names_of_methods)} of `methods` need at least {MIN_SHARED_GENES} genes that adata and "
            f"the labelled cells name alike; found {n_shared} (adata: {names[0]}, ...; labelled cells: {names[1]}, "
            "...). Name the column of .var with the same kind of names with `gene_names=`, or leave these methods out."
        )
        raise ValueError(msg)


def log_values(cells: AnnData) -> sparse.csr_matrix:
    """Return ``log1p`` of counts per 10,000, (cells, genes), whatever the scale of `X`."""
    matrix = read_matrix(cells, None)
    return normalised_genes(to_log(matrix, find_scale(matrix)), np.arange(cells.n_vars))


def _predict(
    model: Any, known: np.ndarray, others: np.ndarray, reference: AnnData, query: AnnData, labels_key: str
) -> pd.DataFrame:
    model.fit(known, reference.obs[labels_key].astype(str).to_numpy())
    return pd.DataFrame(model.predict_proba(others), index=query.obs_names, columns=model.classes_)


def sct_method(annotator: type[Annotator], context: Context) -> Function:
    """Make a method of :func:`scanpy_sct.tl.annotate` with an annotator of the package."""

    def annotate(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
        source: dict[str, Any] = {}
        if annotator.learns:
            labels = reference.obs[labels_key].astype(str).unique()
            key = context.library_key
            key = key if key in query.obs and key in reference.obs else None
            source = {"reference": reference, "labels_key": labels_key, "library_key": key}
        elif annotator.name == "markers":
            labels = query.uns[MARKERS]["label"].unique()
            source = {"markers": context.markers}
        else:
            labels = context.checkpoint.label_head.labels
        return _annotate(query, context, labels, rng, source)

    return annotate


def _annotate(
    query: AnnData, context: Context, labels: Iterable[str], seed: int, source: dict[str, Any]
) -> pd.DataFrame:
    """Return the probabilities of `annotate`, less that of no label being right."""
    from scanpy_sct.tl import annotate

    options = {"gene_names": context.gene_names, "key_added": "label", "rng": seed, "copy": True}
    annotated = annotate(query, model=context.checkpoint, **options, **source)
    table = annotated.obsm["label_probs"].rename(columns={storable_name(label): label for label in labels})
    if "label_novelty" in annotated.obs:
        table = table.mul(1 - annotated.obs["label_novelty"].fillna(1), axis=0)
    return table


def sct_methods(context: Context) -> dict[str, Method]:
    """Make a method of every annotator of the package, by name, whether or not its needs are met."""
    methods = {}
    for name, annotator in ANNOTATORS.items():
        method_name = SCT_NAMES.get(name, f"sct_{name}")
        needs = ("checkpoint", name)
        methods[method_name] = Method("annotation", method_name, sct_method(annotator, context), needs)
    return methods


def choose(requested: str | Function | Iterable[str | Function] | None, context: Context) -> list[Method]:
    """Find the methods a user requested, names and functions; None: all whose needs are met."""
    of_sct = sct_methods(context)
    if requested is None:
        return [each for each in {**of_sct, **registered("annotation")}.values() if not each.missing(context.has)]
    return choose_methods("annotation", requested, context.has, more=of_sct)


def markers_for_methods(markers: Markers | None) -> dict[str, pd.DataFrame]:
    """Return what is put into `.uns` of the cells to annotate."""
    return {} if markers is None else {MARKERS: marker_table(markers).drop_duplicates()}
