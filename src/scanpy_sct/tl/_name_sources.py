"""Where `annotate` gets names from: a labelled reference, marker genes, or the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.predict import labels as naming
from scanpy_sct.predict import predict_embedding, predict_entries
from scanpy_sct.read.expression import Expression, read_expression
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.storable import storable_name

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

MIN_SHARED_GENES = 50
N_VARIABLE_GENES = 4000
MAX_CELLS_A_LABEL = 5000
"""More cells of one label teach little that is new, and each has to be embedded."""
PANGLAO_COLUMNS = ["cell.type", "official.gene.symbol"]
Markers = Mapping[str, Sequence[str]] | pd.DataFrame


@dataclass(frozen=True)
class Answer:
    """What a source says about the cells."""

    names: tuple[str, ...]
    probabilities: np.ndarray
    """(cells, names)."""
    empty: np.ndarray
    """(cells,) bool: nothing is known about these cells."""
    details: dict[str, Any] = field(default_factory=dict)
    """What is worth recording."""


@dataclass(frozen=True)
class Reference:
    """Labelled cells, read and checked."""

    expression: Expression
    labels: np.ndarray
    """(cells,) text."""
    usable: np.ndarray
    """(cells,) bool: cells to learn from."""


def read_reference(
    reference: AnnData,
    labels_key: str,
    checkpoint: Checkpoint,
    *,
    layer: str | None,
    library_key: str | None,
    gene_names: str | None,
) -> Reference:
    """Read and check the reference; all that can be wrong with it is found here."""
    if not isinstance(reference, AnnData):
        msg = f"reference must be an AnnData, found {type(reference).__name__}."
        raise TypeError(msg)
    try:
        expression = read_expression(
            reference,
            checkpoint.genes,
            token_scale=checkpoint.tokens.scale,
            layer=layer,
            library_key=library_key if library_key in reference.obs else None,
            gene_names=gene_names if gene_names in reference.var else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        error.add_note("This is about the reference.")
        raise
    return Reference(expression, *read_labels(reference, labels_key, "reference", has_counts(expression)))


def read_labels(
    adata: AnnData, labels_key: str, argument: str, has_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the cells, and which cells to learn from."""
    if labels_key not in adata.obs:
        columns = ", ".join(map(repr, adata.obs.columns)) or "none"
        msg = f"labels_key={labels_key!r} is not a column of {argument}.obs; there are: {columns}."
        raise KeyError(msg)
    source = f"{argument}.obs[{labels_key!r}]"
    labels, usable = naming.checked_labels(adata.obs[labels_key], source, has_counts)
    _check_distinct(np.unique(labels), source)
    return labels, usable


def by_reference(
    checkpoint: Checkpoint, expression: Expression, reference: Reference, bags: str, computing: Mapping[str, Any]
) -> Answer:
    """Learn the labels of the reference from what both objects measured."""
    shared = np.flatnonzero(expression.measured & reference.expression.measured)
    if len(shared) < MIN_SHARED_GENES:
        msg = (
            f"reference and adata share {len(shared)} genes that the model {checkpoint.name!r} knows; at least "
            f"{MIN_SHARED_GENES} are needed: give a reference that measured the same genes."
        )
        raise ValueError(msg)
    seed = computing["rng"]
    rows = draw_rows(reference.labels, reference.usable, seed)
    labels = reference.labels[rows]
    # What only one side measured would set both apart, so neither the components nor the network see it.
    query, known = take(expression, None, shared), take(reference.expression, rows, shared)
    query_vectors = predict_embedding(checkpoint, query, bags=bags, **computing)
    known_vectors = predict_embedding(checkpoint, known, bags="random", **computing)
    genes = shared[_variable_genes(naming.log_cp10k(known.token_values, shared))]
    known_scores, query_scores = naming.principal_components(
        naming.log_cp10k(known.token_values, shared)[:, np.isin(shared, genes)],
        naming.log_cp10k(query.token_values, shared)[:, np.isin(shared, genes)],
        seed,
    )
    mean, scale = naming.standardisation(known_vectors)
    head = naming.fit_classifier(np.hstack([known_scores, (known_vectors - mean) / scale]), labels, seed)
    probabilities = naming.label_probabilities(head, np.hstack([query_scores, (query_vectors - mean) / scale]))
    details = {"source": "reference", "reference": {"cells": len(rows), "shared_genes": len(shared)}}
    return Answer(head.labels, probabilities, ~has_counts(query), details)


def draw_rows(labels: np.ndarray, usable: np.ndarray, seed: int) -> np.ndarray:
    """Rows to learn from, in their order: all usable ones, but no more than `MAX_CELLS_A_LABEL` of a label."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(usable))
    rank = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    return np.sort(order[rank < MAX_CELLS_A_LABEL])


def by_label_head(checkpoint: Checkpoint, expression: Expression, bags: str, computing: Mapping[str, Any]) -> Answer:
    """Use the labels the checkpoint carries."""
    head = checkpoint.label_head
    if head is None:
        msg = (
            f"The model {checkpoint.name!r} carries no labels. Give reference= and labels_key= (cells with known "
            "labels) or markers= (marker genes of each type), or fit a head: sct.train.fit_label_head."
        )
        raise ValueError(msg)
    vectors = predict_embedding(checkpoint, expression, bags=bags, **computing)
    probabilities = naming.label_probabilities(head, vectors)
    return Answer(head.labels, probabilities, ~has_counts(expression), {"source": "label_head"})


@dataclass(frozen=True)
class MarkerSets:
    """Markers of each type, as positions of the vocabulary."""

    positions: dict[str, np.ndarray]
    measured: dict[str, int]
    """How many of them were measured."""


def read_markers(
    markers: Markers, checkpoint: Checkpoint, expression: Expression, column_names: Sequence[str]
) -> MarkerSets:
    """Find the markers among the genes of the network; types without any are left out.

    Genes may have the names of the columns of the object, or be symbols or Ensembl ids.
    """
    table = _marker_table(markers)
    naming.check_names(table["name"].unique(), "markers")
    _check_distinct(table["name"].unique(), "markers")
    own_names = np.asarray(column_names)[expression.genes.columns]
    position_of_column = dict(zip(own_names, expression.genes.positions, strict=True))
    position_of_id = {name: place for place, name in enumerate(checkpoint.genes) if name}
    ids = to_ensembl(table["gene"].tolist(), vocabulary=checkpoint.genes).ensembl_ids
    table["position"] = [
        position_of_column.get(gene, position_of_id.get(ensembl_id, -1))
        for gene, ensembl_id in zip(table["gene"], ids, strict=True)
    ]
    names = table["name"].unique()
    table = table[table["position"] >= 0].drop_duplicates(["name", "position"])
    found = {name: rows["position"].to_numpy() for name, rows in table.groupby("name", sort=False)}
    lost = [name for name in names if name not in found]
    if len(found) < 2:
        msg = (
            f"markers: {len(found)} of {len(names)} types have a gene that the model {checkpoint.name!r} knows, and at "
            "least two are needed, to be scored against one another; give symbols or Ensembl ids of human genes."
        )
        raise ValueError(msg)
    if lost:
        logger.warning("markers: left out types without a gene that the model knows: %s.", ", ".join(lost))
    return MarkerSets(found, {name: int(expression.measured[places].sum()) for name, places in found.items()})


def by_markers(
    checkpoint: Checkpoint, expression: Expression, markers: MarkerSets, bags: str, computing: Mapping[str, Any]
) -> Answer:
    """Score the markers of each type on expression that the network predicts from all other genes."""
    positions = np.unique(np.concatenate(list(markers.positions.values())))
    prediction = predict_entries(checkpoint, expression, positions=positions, bags=bags, **computing)
    columns = {name: np.searchsorted(positions, places) for name, places in markers.positions.items()}
    probabilities = naming.score_markers(prediction.value, columns)
    details = {
        "source": "markers",
        "markers": {
            "types": list(columns),
            "genes": [len(places) for places in columns.values()],
            "measured": list(markers.measured.values()),
        },
    }
    return Answer(tuple(columns), probabilities, ~has_counts(expression), details)


def _marker_table(markers: Markers) -> pd.DataFrame:
    """One row per type and gene, columns `name` and `gene`, text."""
    if isinstance(markers, pd.DataFrame):
        table = _human_rows(markers)
        columns = PANGLAO_COLUMNS if set(PANGLAO_COLUMNS) <= set(table) else list(table.columns[:2])
        if len(columns) < 2:
            msg = f"markers has the columns {list(table.columns)}; a table needs two: the type, and a gene of it."
            raise ValueError(msg)
        rows = table[columns].dropna().to_numpy().tolist()
    elif isinstance(markers, Mapping):
        rows = [
            (name, gene) for name, genes in markers.items() for gene in ([genes] if isinstance(genes, str) else genes)
        ]
    else:
        msg = f"markers must be a dict of names and genes, or a DataFrame; found {type(markers).__name__}."
        raise TypeError(msg)
    if not rows:
        msg = "markers is empty; give at least two types with their genes."
        raise ValueError(msg)
    return pd.DataFrame(rows, columns=["name", "gene"]).astype(str)


def _human_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of PanglaoDB that hold for humans, or for which no species is given; other tables as they are."""
    if "species" not in table or not set(PANGLAO_COLUMNS) <= set(table):
        return table
    return table[table["species"].isna() | table["species"].astype(str).str.contains("Hs")]


def _check_distinct(names: Sequence[str], source: str) -> None:
    """Refuse names that would become the same in a file."""
    stored = pd.Index(names).map(storable_name)
    twice = sorted(set(stored[stored.duplicated()]))
    if twice:
        msg = f"{source}: names that differ only in '/' and '|' cannot be told apart in a file: {twice}."
        raise ValueError(msg)


def take(expression: Expression, rows: np.ndarray | None, positions: np.ndarray) -> Expression:
    """Take some cells (None: all), as if only the genes at ``positions`` had been measured."""
    rows = np.arange(len(expression.samples)) if rows is None else rows
    measured = np.zeros_like(expression.measured)
    measured[positions] = True
    keep = sparse.diags_array(measured.astype(np.float32), format="csr")

    def cut(values: sparse.csr_matrix) -> sparse.csr_matrix:
        part = sparse.csr_matrix(values[rows] @ keep)
        part.eliminate_zeros()
        part.sort_indices()
        return part

    return replace(
        expression,
        log_values=cut(expression.log_values),
        token_values=cut(expression.token_values),
        measured=measured,
        samples=expression.samples[rows],
        coordinates=None if expression.coordinates is None else expression.coordinates[rows],
    )


def _variable_genes(values: sparse.csr_matrix) -> np.ndarray:
    """Which columns of log-normalised ``values`` vary most for their mean, bool."""
    if values.shape[1] <= N_VARIABLE_GENES:
        return np.ones(values.shape[1], dtype=bool)
    import scanpy as sc

    table = sc.pp.highly_variable_genes(AnnData(values), n_top_genes=N_VARIABLE_GENES, inplace=False)
    return table["highly_variable"].to_numpy()


def has_counts(expression: Expression) -> np.ndarray:
    return np.diff(expression.log_values.indptr) > 0
