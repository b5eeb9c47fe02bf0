"""What an imputation method may see of the data, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from scanpy_sct.sparse_tools import log_normalise, row_totals, with_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.options import GivenScale

# Dense tables are made for this many cells at a time: 512 cells x 20,000 genes are 80 MB.
_CELLS_AT_ONCE = 512
# Tolerance of probabilities below 0 or above 1, for rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Observed:
    """What a method may see: the visible entries, and which entries it is to predict."""

    counts: sparse.csr_matrix
    """(n_cells, n_genes) linear scale, masked entries removed."""
    log_values: sparse.csr_matrix
    """(n_cells, n_genes) log scale of the input, natural logarithms of 1 + value, same entries as `counts`."""
    masked: np.ndarray
    """bool (n_cells, n_genes): entries that the method does not see. A gene may be masked in all cells."""
    targets: np.ndarray
    """bool (n_cells, n_genes): entries to predict: masked ones, all or some; or, where nothing is masked, all."""
    samples: np.ndarray
    """int (n_cells,): the sample of each cell."""
    bags: np.ndarray
    """int (n_cells,): the bag of each cell, 0, 1, ..."""
    seed: int = 0
    """Seed of all random numbers of a method."""
    coordinates: np.ndarray | None = None
    """float (n_cells, 2): coordinates of each cell, in the data's own unit; None: not spatial."""
    labels: np.ndarray | None = None
    """str (n_cells,): label of each cell, such as its cell type; None: none given."""
    visible: AnnData | None = None
    """The same cells as AnnData, masked entries removed, `X` on the scale of the input, for methods that need one.
    It has all columns of the data but those of genes masked as not measured, so also genes that are not evaluated.
    `obsm["spatial"]` and `obs[library_key]` are kept."""
    library_key: str | None = None
    """Column of `visible.obs` that names the sample."""
    checkpoint: Checkpoint | None = None
    """The model to test."""
    gene_index: np.ndarray | None = None
    """int (n_genes,): index of each gene in the vocabulary of `checkpoint` or, without one, the released one."""
    columns: np.ndarray | None = None
    """int (n_genes,): column of `visible` with each gene, -1 where it is masked as not measured."""
    scale: GivenScale = "auto"
    """What the values of `visible` are, as in :func:`scanpy_sct.tl.impute`."""

    @cached_property
    def depth(self) -> np.ndarray:
        """Visible total of each cell, float64 (n_cells,)."""
        return row_totals(self.counts)

    @cached_property
    def masked_ones(self) -> sparse.csr_matrix:
        """1 where an entry is masked, float32 (n_cells, n_genes)."""
        return sparse.csr_matrix(self.masked, dtype=np.float32)

    @cached_property
    def masked_depth(self) -> sparse.csr_matrix:
        """Depth of the cell where an entry is masked, nothing elsewhere, float64 (n_cells, n_genes)."""
        return with_data(self.masked_ones, np.repeat(self.depth, np.diff(self.masked_ones.indptr)))

    @cached_property
    def normalised(self) -> sparse.csr_matrix:
        """Log of 1 + counts scaled to 10,000 per cell, (n_cells, n_genes)."""
        return log_normalise(self.counts, self.depth)

    @cached_property
    def neighbors(self) -> sparse.csr_matrix:
        """The 15 nearest cells of each cell in 50 principal components, 1 where near, (n_cells, n_cells).

        Distances are those of `normalised`, with zeros for masked entries; a cell is never its own neighbour.
        """
        from sklearn.decomposition import PCA
        from sklearn.neighbors import NearestNeighbors

        n_components = min(50, min(self.counts.shape) - 1)
        components = PCA(n_components, svd_solver="arpack", random_state=0).fit_transform(self.normalised)
        n_neighbors = min(15, len(components) - 1)
        return NearestNeighbors(n_neighbors=n_neighbors).fit(components).kneighbors_graph()

    @cached_property
    def unit(self) -> np.ndarray:
        """Value of a single count of each cell on the input's linear scale, float64 (n_cells,).

        1 where the input are counts; 10,000 / depth where it was normalised to 10,000.
        """
        linear = row_totals(self.log_values.expm1())
        return np.divide(linear, self.depth, out=np.ones_like(linear), where=self.depth > 0)

    @cached_property
    def n_targets(self) -> int:
        """Number of entries to predict."""
        return int(self.targets.sum())

    def at_targets(self, dense: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Collect the target entries of a table that is too large for memory.

        Parameters
        ----------
        dense
            Returns the table for the cells of a slice, (n_rows, n_genes), or (1, n_genes) where all are alike.

        Returns
        -------
        float32 array (n_targets,), in row-major order (that of `numpy.nonzero(targets)`).
        """
        parts = [np.empty(0, dtype=np.float32)]
        for start in range(0, len(self.targets), _CELLS_AT_ONCE):
            rows = slice(start, start + _CELLS_AT_ONCE)
            chosen = self.targets[rows]
            parts.append(np.broadcast_to(dense(rows), chosen.shape)[chosen].astype(np.float32))
        return np.concatenate(parts)

    def by_cell(self, values: np.ndarray) -> np.ndarray:
        """Repeat a value of each cell, (n_cells,), for all its target entries; float32 (n_targets,)."""
        return np.repeat(values.astype(np.float32), self.targets.sum(axis=1))


class Prediction(NamedTuple):
    """Predictions of the target entries, in row-major order (that of `numpy.nonzero(targets)`)."""

    count: np.ndarray
    """float32 (n_targets,): expected count at the depth of what is visible, the linear scale of `Observed.counts`."""
    detection: np.ndarray | None = None
    """float32 (n_targets,): probability that the entry is detected; None: that of a Poisson count."""
    value: np.ndarray | None = None
    """float32 (n_targets,): expected value on the log scale of the input; None: computed from the other two."""


def check_prediction(observed: Observed, answer: Prediction | np.ndarray) -> Prediction:
    """Check what a method returned; a bare array is taken as `count`, a negative expectation as 0.

    Raises a TypeError if it is neither a `Prediction` nor an array, a ValueError if its length is not the number of
    target entries, or if values are missing, infinite or not probabilities.
    """
    if not isinstance(answer, Prediction | np.ndarray):
        msg = f"A method must return an array or a Prediction, found {type(answer).__name__}."
        raise TypeError(msg)
    count, detection, value = answer if isinstance(answer, Prediction) else Prediction(answer)
    n_targets = observed.n_targets
    for name, values in (("count", count), ("detection", detection), ("value", value)):
        if values is None:
            continue
        if values.shape != (n_targets,):
            msg = f"`{name}` must have one value for each of {n_targets} target entries, found shape {values.shape}."
            raise ValueError(msg)
        n_missing = n_targets - int(np.isfinite(values).sum())
        if n_missing:
            msg = (
                f"`{name}` must be finite for every target entry; found NaN or infinite values for {n_missing} of "
                f"{n_targets}."
            )
            raise ValueError(msg)
    if detection is not None and detection.size:
        low, high = detection.min(), detection.max()
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            msg = f"`detection` must lie between 0 and 1, found {low:.3g} to {high:.3g}."
            raise ValueError(msg)
    return Prediction(
        np.maximum(count, 0, dtype=np.float32),
        None if detection is None else np.clip(detection, 0, 1, dtype=np.float32),
        None if value is None else value.astype(np.float32, copy=False),
    )


def complete(observed: Observed, answer: Prediction | np.ndarray) -> Prediction:
    """Check what a method returned as :func:`check_prediction` does, and compute what it left out.

    The detection probability is that of a Poisson count, 1 - exp(-count). The expected log value is the detection
    probability times the log of 1 + the mean count given detection, in units of the input's linear scale.
    """
    count, detection, value = check_prediction(observed, answer)
    if detection is None:
        detection = -np.expm1(-count)
    if value is None:
        given_detected = np.divide(count, detection, out=np.ones_like(count), where=detection > 0)
        value = detection * np.log1p(observed.by_cell(observed.unit) * given_detected)
    return Prediction(count, detection, value)
