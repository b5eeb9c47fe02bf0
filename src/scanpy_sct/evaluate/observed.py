"""What a method may see of the data, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from scanpy_sct.checkpoints import Checkpoint

# Dense tables are made for this many cells at a time: 512 cells x 20,000 genes are 80 MB.
_CELLS_AT_ONCE = 512
# Total to which the depth of a cell is normalised before taking logarithms, as is usual with scanpy.
_TARGET = 1e4
# By so much a probability may leave the range from 0 to 1, for rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Observed:
    """What a method may see: the visible entries, and which entries it is asked about."""

    counts: sparse.csr_matrix
    """(n_cells, n_genes) linear scale, hidden entries removed."""
    log: sparse.csr_matrix
    """(n_cells, n_genes) log scale of the input, natural logarithms of 1 + value, same entries as `counts`."""
    hidden: np.ndarray
    """bool (n_cells, n_genes): entries of which the method sees nothing. A gene may be hidden in all cells."""
    wanted: np.ndarray
    """bool (n_cells, n_genes): entries to predict: hidden ones, all or some; or, where nothing is hidden, all."""
    samples: np.ndarray
    """int (n_cells,): the sample of each cell."""
    bags: np.ndarray
    """int (n_cells,): the bag of each cell, 0, 1, ..."""
    seed: int = 0
    """All chance of a method comes from it."""
    coordinates: np.ndarray | None = None
    """float (n_cells, 2): place of each cell on the tissue, in the data's own unit; None: not spatial."""
    cell_types: np.ndarray | None = None
    """str (n_cells,): label of each cell; None: none given."""
    seen: AnnData | None = None
    """The same cells as AnnData, hidden entries removed, `X` on the scale of the input, for methods that want one.
    It has all columns of the data but those of genes hidden as not measured, so also genes that no one asks about.
    `obsm["spatial"]` and `obs[library_key]` are kept."""
    library_key: str | None = None
    """Column of `seen.obs` that names the sample."""
    checkpoint: Checkpoint | None = None
    """The model under test."""
    positions: np.ndarray | None = None
    """int (n_genes,): place of each gene in the vocabulary, that of `checkpoint` or, without one, the released one."""

    @cached_property
    def depth(self) -> np.ndarray:
        """Visible total of each cell, float64 (n_cells,)."""
        return np.asarray(self.counts.sum(axis=1, dtype=np.float64)).ravel()

    @cached_property
    def hidden_ones(self) -> sparse.csr_matrix:
        """1 where an entry is hidden, float32 (n_cells, n_genes)."""
        return sparse.csr_matrix(self.hidden, dtype=np.float32)

    @cached_property
    def hidden_depth(self) -> sparse.csr_matrix:
        """Depth of the cell where an entry is hidden, nothing elsewhere, float64 (n_cells, n_genes)."""
        ones = self.hidden_ones
        return sparse.csr_matrix(
            (np.repeat(self.depth, np.diff(ones.indptr)), ones.indices, ones.indptr), shape=ones.shape
        )

    @cached_property
    def normalised(self) -> sparse.csr_matrix:
        """Log of 1 + counts scaled to 10,000 a cell, (n_cells, n_genes)."""
        scaled = self.counts.multiply((_TARGET / np.maximum(self.depth, 1e-12))[:, None])
        return scaled.tocsr().log1p()

    @cached_property
    def neighbors(self) -> sparse.csr_matrix:
        """The 15 nearest cells of each cell in 50 principal components, 1 where near, (n_cells, n_cells).

        Found from `normalised`, in which hidden entries count as zeros, over all samples; never the cell itself.
        """
        n_components = min(50, min(self.counts.shape) - 1)
        components = PCA(n_components, svd_solver="arpack", random_state=0).fit_transform(self.normalised)
        n_neighbors = min(15, len(components) - 1)
        return NearestNeighbors(n_neighbors=n_neighbors).fit(components).kneighbors_graph()

    @cached_property
    def unit(self) -> np.ndarray:
        """Units of the input's linear scale that one count of each cell is worth, float64 (n_cells,).

        1 where the input are counts; 10,000 / depth where it was normalised to 10,000.
        """
        linear = np.asarray(self.log.expm1().sum(axis=1, dtype=np.float64)).ravel()
        return np.divide(linear, self.depth, out=np.ones_like(linear), where=self.depth > 0)

    @cached_property
    def n_wanted(self) -> int:
        """Number of entries to predict."""
        return int(self.wanted.sum())

    def at_wanted(self, dense: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Collect the wanted entries of a table that is too large to be held whole.

        Parameters
        ----------
        dense
            Returns the table for the cells of a slice, (n_rows, n_genes) or (1, n_genes) when they are all alike.

        Returns
        -------
        float32 array (n_wanted,), in row-major order (that of `numpy.nonzero(wanted)`).
        """
        return at_entries(self.wanted, dense)

    def by_cell(self, values: np.ndarray) -> np.ndarray:
        """Repeat a value of each cell for all its wanted entries.

        Parameters
        ----------
        values
            (n_cells,).

        Returns
        -------
        float32 array (n_wanted,), in row-major order.
        """
        return np.repeat(values.astype(np.float32), self.wanted.sum(axis=1))


class Guess(NamedTuple):
    """Predictions for the wanted entries, in row-major order (that of `numpy.nonzero(wanted)`)."""

    count: np.ndarray
    """float32 (n_wanted,): expected count at the depth of what is visible, the linear scale of `Observed.counts`."""
    detection: np.ndarray | None = None
    """float32 (n_wanted,): probability that the entry is expressed; None: that of a Poisson count."""
    value: np.ndarray | None = None
    """float32 (n_wanted,): expected value on the log scale of the input; None: worked out from the other two."""


def at_entries(chosen: np.ndarray, dense: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Collect some entries of a table that is too large to be held whole.

    Parameters
    ----------
    chosen
        bool array (n_cells, n_genes).
    dense
        Returns the table for the cells of a slice, (n_rows, n_genes) or (1, n_genes) when they are all alike.

    Returns
    -------
    float32 array (n_chosen,), in row-major order.
    """
    parts = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(chosen), _CELLS_AT_ONCE):
        rows = slice(start, start + _CELLS_AT_ONCE)
        parts.append(np.broadcast_to(dense(rows), chosen[rows].shape)[chosen[rows]].astype(np.float32))
    return np.concatenate(parts)


def as_guess(observed: Observed, answer: Guess | np.ndarray) -> Guess:
    """Check what a method returned; a bare array is taken as `count`, a negative expectation as 0.

    Raises
    ------
    TypeError
        It is neither a `Guess` nor an array.
    ValueError
        It has another length than there are wanted entries, is NaN or infinite somewhere, or no probability.
    """
    if not isinstance(answer, Guess):
        if not isinstance(answer, np.ndarray):
            msg = f"A method must return an array or a Guess, found {type(answer).__name__}."
            raise TypeError(msg)
        answer = Guess(answer)
    for name, values in answer._asdict().items():
        if values is not None:
            _check(name, values, observed.n_wanted)
    detection = answer.detection
    if detection is not None and detection.size:
        low, high = detection.min(), detection.max()
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            msg = f"`detection` must lie between 0 and 1, found {low:.3g} to {high:.3g}."
            raise ValueError(msg)
    return Guess(
        np.maximum(answer.count, 0, dtype=np.float32),
        None if detection is None else np.clip(detection, 0, 1, dtype=np.float32),
        None if answer.value is None else answer.value.astype(np.float32, copy=False),
    )


def complete(observed: Observed, answer: Guess | np.ndarray) -> Guess:
    """Check what a method returned, and fill in what it left out.

    P(expressed) is that of a Poisson count, 1 - exp(-count). The expected log value is P(expressed) times the log of 1
    + the mean count where the gene is expressed, in units of the input's linear scale.

    Raises
    ------
    TypeError, ValueError
        As :func:`as_guess`.
    """
    count, detection, value = as_guess(observed, answer)
    if detection is None:
        detection = -np.expm1(-count)
    if value is None:
        given_expressed = np.divide(count, detection, out=np.ones_like(count), where=detection > 0)
        value = detection * np.log1p(observed.by_cell(observed.unit) * given_expressed)
    return Guess(count, detection, value)


def _check(name: str, values: np.ndarray, n_wanted: int) -> None:
    """Refuse predictions of a wrong shape, and missing ones."""
    if values.shape != (n_wanted,):
        msg = f"`{name}` must have one value for each of the {n_wanted} wanted entries, found shape {values.shape}."
        raise ValueError(msg)
    n_missing = n_wanted - int(np.isfinite(values).sum())
    if n_missing:
        msg = f"{n_missing} of {n_wanted} wanted entries were left without a prediction: `{name}` is NaN or infinite."
        raise ValueError(msg)
