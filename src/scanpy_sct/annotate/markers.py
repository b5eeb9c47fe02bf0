"""Annotation by marker genes: scores, and the annotator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import softmax

from scanpy_sct.annotate.features import standardisation
from scanpy_sct.annotate.labels import Annotation, empty_cells
from scanpy_sct.impute import ImputeSettings, impute_cells

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock, CellReader
    from scanpy_sct.run.options import ComputeOptions

logger = logging.getLogger(__name__)

SHARPNESS = 3.0
"""Factor of the scores before the softmax."""
THRESHOLD_WEIGHT = 0.5
MIN_WEIGHTED = 3
"""Markers of a type from which on they are weighted."""
N_ROUNDS = 3
_TINY = 1e-9
CELLS_AT_ONCE = 8192
MIN_CELLS = 10
"""With fewer cells, a warning says that they can hardly be compared with one another."""


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
    names: Mapping[str, Any] = field(default_factory=dict)
    """What became of their names, recorded in `.uns`."""

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Score all types in every cell."""
        if cells.n_cells < MIN_CELLS:
            logger.warning(
                "Markers are compared between cells, and adata has only %d: annotate them together with others, or do "
                "not rely on their labels.",
                cells.n_cells,
            )
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
            **self.names,
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
    """Score cell types by the mean of their markers, weighted by how far these agree; see :func:`score_type`.

    A softmax turns scores into probabilities that are NOT calibrated. "None of these" has the score 0.

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
    scores = np.zeros((len(values), 1 + len(markers)))
    for number, columns in enumerate(markers.values(), start=1):
        scores[:, number] = score_type(values[:, list(columns)])
    none = softmax(SHARPNESS * scores, axis=1)[:, 0]
    return softmax(SHARPNESS * scores[:, 1:], axis=1), none


def score_type(values: np.ndarray) -> np.ndarray:
    """Score how far each cell expresses the markers of a type, (n_cells,), from their ``values`` (n_cells, n_markers).

    Markers are standardised and weighted by their correlation with the weighted mean, so that genes of a long list
    that do not go with the others hardly count. The mean is divided by its standard deviation, which is small for long
    lists. If most cells are of a type, their scores are hardly above the average: half of the threshold that divides
    the cells into two groups is therefore subtracted (half, since few types make two clear groups).
    """
    mean, scale = standardisation(values)
    parts = [slice(start, start + CELLS_AT_ONCE) for start in range(0, len(values), CELLS_AT_ONCE)]
    products = np.zeros((values.shape[1], values.shape[1]))
    for part in parts:
        z_values = (values[part] - mean) / scale
        products += z_values.T @ z_values
    weights = agreement(products / len(values))
    spread = np.sqrt(weights @ products @ weights / len(values))
    if spread < _TINY:
        return np.zeros(len(values))
    score = np.concatenate([(values[part] - mean) / scale @ weights for part in parts]) / spread
    return score - THRESHOLD_WEIGHT * two_group_threshold(score)


def agreement(correlations: np.ndarray) -> np.ndarray:
    """Return the weight of each marker, (n_markers,), from their correlations, (n_markers, n_markers).

    It is the correlation with the weighted mean, not below zero; equal for one or two markers, which always agree.
    """
    weights = np.ones(len(correlations))
    if len(weights) < MIN_WEIGHTED:
        return weights
    for _ in range(N_ROUNDS):
        spread = np.sqrt(max(weights @ correlations @ weights, 0))
        found = np.maximum(correlations @ weights, 0) / max(spread, _TINY)
        if not found.any():
            return weights
        weights = found
    return weights


def two_group_threshold(score: np.ndarray) -> float:
    """Return the threshold that divides scores (n_cells,) into two groups of the least variance (Otsu 1979)."""
    score = np.sort(score)
    n_lower = np.arange(1, len(score))
    if not len(n_lower):
        return 0.0
    total = np.cumsum(score)
    n_upper = len(score) - n_lower
    between = n_lower * n_upper * (total[:-1] / n_lower - (total[-1] - total[:-1]) / n_upper) ** 2
    last = int(between.argmax())
    return float(score[last : last + 2].mean())
