"""Annotation by marker genes: reading of markers, scores, and the annotator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from scipy.special import softmax

from scanpy_sct.annotate.features import standardisation
from scanpy_sct.annotate.labels import Annotation, check_label_names, empty_cells
from scanpy_sct.impute import ImputeSettings, impute_cells
from scanpy_sct.read.requested import find_genes_of_object

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock, CellReader
    from scanpy_sct.run.options import ComputeOptions

logger = logging.getLogger(__name__)

PANGLAO_COLUMNS = ["cell.type", "official.gene.symbol"]
Markers = Mapping[str, Sequence[str]] | pd.DataFrame
"""Genes of each type: a dict, or a table with one row per type and gene."""
SHARPNESS = 2.0
"""Factor of the scores before the softmax."""
CELLS_AT_ONCE = 8192


@dataclass(frozen=True)
class MarkerAnnotator:
    """Scores the markers of each type on the sum of their measured and imputed values.

    The sum is more accurate than either (benchmarks/annotation.py); unmeasured markers have an imputed value only.
    """

    name: ClassVar[str] = "markers"
    learns: ClassVar[bool] = False
    calibrated: ClassVar[bool] = False

    markers: Mapping[str, np.ndarray]
    """`gene_index` of the markers of each type."""

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Score all types in every cell."""
        gene_index = np.unique(np.concatenate(list(self.markers.values())))
        settings = ImputeSettings(genes=gene_index, blend=False)
        values = impute_cells(checkpoint, cells, options, settings).values
        empty = np.zeros(cells.n_cells, dtype=bool)
        for block in cells.blocks():
            values[block.rows] += _measured_or_imputed(block, gene_index, values[block.rows])
            empty[block.rows] = empty_cells(block)
        columns = {label: np.searchsorted(gene_index, genes) for label, genes in self.markers.items()}
        probabilities, none = score_markers(values, columns)
        details = {
            "types": list(self.markers),
            "genes": [len(genes) for genes in self.markers.values()],
            "measured": [int(cells.measured[genes].sum()) for genes in self.markers.values()],
        }
        return Annotation(
            labels=tuple(self.markers),
            probabilities=probabilities,
            empty=empty,
            novelty=np.where(empty, np.nan, none),
            details={"source": self.name, "markers": details},
        )


def _measured_or_imputed(block: CellBlock, gene_index: np.ndarray, imputed: np.ndarray) -> np.ndarray:
    """Return the measured values of some genes, and the imputed ones where the sample of a cell lacks the gene."""
    values = block.log_values[:, gene_index].toarray()
    return values if block.hidden is None else np.where(block.hidden[:, gene_index].toarray(), imputed, values)


def score_markers(values: np.ndarray, markers: Mapping[str, Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Score cell types by the mean of their markers, each standardised over the cells.

    A softmax turns scores into probabilities that are NOT calibrated. "None of these" has the score 0, that of a cell
    with average expression of the markers.

    Parameters
    ----------
    values
        (n_cells, n_genes) expression.
    markers
        Columns of ``values`` with the markers of each type.

    Returns
    -------
    Probability of each type, given that it is one of them, (n_cells, n_types), rows sum to one; and the probability of
    none of them, (n_cells,).
    """
    mean, scale = standardisation(values)
    scores = np.zeros((len(values), 1 + len(markers)))
    for start in range(0, len(values), CELLS_AT_ONCE):
        part = slice(start, start + CELLS_AT_ONCE)
        z_values = (values[part] - mean) / scale
        for number, columns in enumerate(markers.values(), start=1):
            scores[part, number] = z_values[:, list(columns)].mean(axis=1)
    none = softmax(SHARPNESS * scores, axis=1)[:, 0]
    return softmax(SHARPNESS * scores[:, 1:], axis=1), none


def read_markers(markers: Markers, checkpoint: Checkpoint, cells: CellReader) -> dict[str, np.ndarray]:
    """Return the `gene_index` of the markers of each type; types without a gene that the model knows are left out.

    Parameters
    ----------
    markers
        The user's argument.
    checkpoint
        Its name is used in messages.
    cells
        Markers are names of their columns, symbols or Ensembl ids.

    Raises
    ------
    ValueError, TypeError
        The markers cannot be read, or fewer than two types have a gene that the model knows.
    """
    table = marker_table(markers)
    labels = table["label"].unique()
    check_label_names(labels, "markers")
    table["gene_index"] = find_genes_of_object(table["gene"].tolist(), cells)
    table = table.dropna().drop_duplicates(["label", "gene_index"])
    found = {label: rows["gene_index"].to_numpy(dtype=int) for label, rows in table.groupby("label", sort=False)}
    if len(found) < 2:
        msg = (
            f"markers: {len(found)} of {len(labels)} types have a gene that the model {checkpoint.name!r} knows; at "
            "least two are needed: give symbols or Ensembl ids of human genes."
        )
        raise ValueError(msg)
    missing = [label for label in labels if label not in found]
    if missing:
        logger.warning("markers: left out types without a gene that the model knows: %s.", ", ".join(missing))
    return found


def marker_table(markers: Markers) -> pd.DataFrame:
    """Return a table of strings with one row per type and gene, columns `label` and `gene`."""
    if isinstance(markers, pd.DataFrame):
        table = _human_rows(markers)
        columns = PANGLAO_COLUMNS if set(PANGLAO_COLUMNS) <= set(table) else list(table.columns[:2])
        if len(columns) < 2:
            msg = f"markers has the columns {list(table.columns)}; a table needs two: type and gene."
            raise ValueError(msg)
        rows = table[columns].dropna().to_numpy().tolist()
    elif isinstance(markers, Mapping):
        rows = [
            (label, gene) for label, genes in markers.items() for gene in ([genes] if isinstance(genes, str) else genes)
        ]
    else:
        msg = f"markers must be a dict of types and their genes, or a DataFrame; found {type(markers).__name__}."
        raise TypeError(msg)
    if not rows:
        msg = "markers is empty; give at least two types with their genes."
        raise ValueError(msg)
    return pd.DataFrame(rows, columns=["label", "gene"]).astype(str)


def _human_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of PanglaoDB for humans or without a species; other tables unchanged."""
    if "species" not in table or not set(PANGLAO_COLUMNS) <= set(table):
        return table
    return table[table["species"].isna() | table["species"].astype(str).str.contains("Hs")]
