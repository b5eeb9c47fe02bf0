"""Annotation methods to compare: the annotators of the package, simple baselines, and functions of users.

Each takes labelled cells, cells to annotate, the column with the labels and a seed, and returns probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from scanpy_sct.annotate.annotators import ANNOTATORS
from scanpy_sct.annotate.features import N_COMPONENTS, normalised_genes
from scanpy_sct.annotate.label_head import can_label
from scanpy_sct.annotate.marker_names import read_marker_names
from scanpy_sct.annotate.marker_table import marker_table
from scanpy_sct.annotate.markers import score_markers
from scanpy_sct.evaluate import registry
from scanpy_sct.evaluate.registry import Function, Method, method
from scanpy_sct.read.found_scale import find_scale
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.read.matrix import read_matrix
from scanpy_sct.read.scale import to_log
from scanpy_sct.storable import storable_name

if TYPE_CHECKING:
    from scipy import sparse

    from scanpy_sct.annotate.marker_table import Markers
    from scanpy_sct.checkpoints.checkpoint import Checkpoint

N_NEIGHBORS = 15
MIN_SHARED_GENES = 2
MARKERS = "markers"
"""Key of `.uns` of the cells to annotate: the markers, a table with the columns `label` and `gene`."""
SCALE = "scale"
"""Key of `.uns` of all cells: what their values are, as in :func:`scanpy_sct.tl.impute`."""
SCT_NAMES = {"reference": "sct"}
"""Names that annotators of the package have here; the others have "sct_" before their own."""


@dataclass(frozen=True)
class Context:
    """The arguments of the user, beside the cells."""

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
                if head is None or self.labels.isdisjoint(head.labels):
                    return False
                genes = self.checkpoint.genes
                return can_label(head, (genes != "") & np.isin(genes, to_ensembl(self.var_names).ensembl_ids))
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
    return _classify(LogisticRegression(max_iter=1000), reference, query, labels_key, rng)


@method("knn", task="annotation", needs="reference")
def knn(reference: AnnData, query: AnnData, labels_key: str, rng: int) -> pd.DataFrame:
    """Let the 15 nearest reference cells vote, in 50 principal components of the reference."""
    return _classify(KNeighborsClassifier(min(N_NEIGHBORS, reference.n_obs)), reference, query, labels_key, rng)


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
    # From the last to the first: of several columns with one name, the first remains.
    column_of = dict(zip(to_ensembl(var_names).ensembl_ids[::-1], range(len(var_names))[::-1], strict=True))
    by_name = dict(zip(var_names[::-1], range(len(var_names))[::-1], strict=True))
    meanings = read_marker_names(markers["gene"])
    columns = {
        name: [by_name[name]] if name in by_name else [column_of.get(id_, -1) for id_ in meaning.ensembl_ids]
        for name, meaning in meanings.items()
        if name in by_name or meaning.is_found
    }
    table = markers.assign(column=markers["gene"].map(columns)).explode("column").query("column >= 0")
    return {label: np.unique(rows.astype(int)) for label, rows in table.groupby("label", sort=False)["column"]}


def _classify(
    model: LogisticRegression | KNeighborsClassifier, reference: AnnData, query: AnnData, labels_key: str, seed: int
) -> pd.DataFrame:
    known, others = shared_components(reference, query, seed)
    model.fit(known, reference.obs[labels_key].astype(str).to_numpy())
    return pd.DataFrame(model.predict_proba(others), index=query.obs_names, columns=model.classes_)


def shared_components(reference: AnnData, query: AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Project both on up to 50 principal components of the reference, over the genes of both; (cells, components)."""
    names = shared_genes(reference, query)
    # Of several columns with one name, the first counts.
    known, others = (log_values(cells[:, ~cells.var_names.duplicated()][:, names]) for cells in (reference, query))
    n_components = min(N_COMPONENTS, min(known.shape) - 1)
    pca = PCA(n_components, svd_solver="arpack", random_state=seed).fit(known)
    return pca.transform(known), pca.transform(others)


def shared_genes(reference: AnnData, query: AnnData) -> pd.Index:
    """Return the names of genes that both have, each once; raise an error if there are almost none."""
    names = reference.var_names.unique().intersection(query.var_names.unique())
    names = names[names != ""]  # a column without a name is not a gene
    if len(names) < MIN_SHARED_GENES:
        examples = [", ".join(map(repr, cells.var_names[:3])) for cells in (query, reference)]
        msg = (
            f"Methods 'logistic_regression' and 'knn' need at least {MIN_SHARED_GENES} genes with the same names in "
            f"adata and the labelled cells; found {len(names)} (adata: {examples[0]}, ...; labelled cells: "
            f"{examples[1]}, ...). Name the column of .var with the same kind of names with `gene_names=`, or leave "
            "these methods out."
        )
        raise ValueError(msg)
    return names


def log_values(cells: AnnData) -> sparse.csr_matrix:
    """Return ``log1p`` of counts per 10,000, (cells, genes), whatever the scale of `X`."""
    matrix = read_matrix(cells, None)
    return normalised_genes(to_log(matrix, find_scale(matrix, cells.uns.get(SCALE, "auto"))), np.arange(cells.n_vars))


def sct_methods(context: Context) -> dict[str, Method]:
    """Make a method of every annotator of the package, by name, whether or not its needs are met."""
    names = {annotator: SCT_NAMES.get(annotator, f"sct_{annotator}") for annotator in ANNOTATORS}
    return {
        name: Method("annotation", name, partial(_annotate, context, annotator), ("checkpoint", annotator))
        for annotator, name in names.items()
    }


def _annotate(
    context: Context, annotator: str, reference: AnnData, query: AnnData, labels_key: str, rng: int
) -> pd.DataFrame:
    """Annotate by :func:`scanpy_sct.tl.annotate`; its probabilities, reduced by that of no label being right."""
    from scanpy_sct.tl import annotate

    source: dict[str, Any] = {"scale": query.uns.get(SCALE, "auto")}
    if ANNOTATORS[annotator].learns:
        labels = reference.obs[labels_key].astype(str).unique()
        key = context.library_key
        key = key if key in query.obs and key in reference.obs else None
        source |= {
            "reference": reference,
            "labels_key": labels_key,
            "library_key": key,
            "reference_scale": reference.uns.get(SCALE, "auto"),
        }
    elif annotator == "markers":
        labels = query.uns[MARKERS]["label"].unique()
        source["markers"] = context.markers
    else:
        labels = context.checkpoint.label_head.labels
    options = {"gene_names": context.gene_names, "key_added": "label", "rng": rng, "copy": True}
    annotated = annotate(query, model=context.checkpoint, **options, **source)
    table = annotated.obsm["label_probs"].rename(columns={storable_name(label): label for label in labels})
    if "label_novelty" in annotated.obs:
        table = table.mul(1 - annotated.obs["label_novelty"].fillna(1), axis=0)
    return table


def choose(requested: str | Function | Iterable[str | Function] | None, context: Context) -> list[Method]:
    """Find the requested methods, names and functions; None: all whose needs are met."""
    of_sct = sct_methods(context)
    if requested is None:
        return registry.able([*of_sct.values(), *registry.registered("annotation").values()], context.has)
    return registry.choose("annotation", requested, context.has, more=of_sct)
