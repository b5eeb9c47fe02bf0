"""How far cells are from those that a label head was fitted to.

The mean expression of a cell and its nearest neighbours is correlated with the mean expression of each label. Shallow
cells and small panels correlate less whatever their type, so this correlation is divided by that of simulated cells of
the label with as many detected genes. The *distance* is one minus the ratio: near 0 for cells like those of the fit,
about 0.1 for the same types in another protocol, 0.2 and more for types of other tissues.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.special import expit

from scanpy_sct.annotate.features import normalised_genes
from scanpy_sct.annotate.novelty import Neighborhoods
from scanpy_sct.checkpoints.label_head import LabelHome
from scanpy_sct.plan.draw import draw_per_label
from scanpy_sct.read.matrix import consecutive
from scanpy_sct.sparse_tools import with_data

if TYPE_CHECKING:
    from scanpy_sct.annotate.classifier import Folds
    from scanpy_sct.read.reader import CellBlock, CellReader

logger = logging.getLogger(__name__)

MIN_SHARED_GENES = 50
MIN_LIMIT = 0.14
"""Smallest distance at which the novelty is one half.

Of blood of other protocols (10x v2, v3, 5'), 3 to 6 % of the cells are farther from sorted blood cells (10x v1) than
this, and about as many spots of a developing heart from another heart; of other tissues nearly all, of the immune cells
of a liver three quarters (benchmarks/label_head.py). Cells left out of the fit are closer than those of the next study
will be: by their distances alone every other protocol would be new.
"""
WIDTH = 1 / 8
"""Distance over which the novelty rises from 0.5 to 0.73, as a fraction of the limit."""
MAX_PER_LABEL = 500
"""Cells of a label whose distances are computed for the fit."""
CELLS_AT_ONCE = 512
DEPTHS = np.geomspace(10, 1e6, 24)
"""Counts of a simulated cell."""
_PER = 1e4
_TINY = 1e-9


def estimate_home(
    cells: Sequence[CellBlock],
    vectors: Sequence[np.ndarray],
    codes: np.ndarray,
    folds: Folds,
    sources: Sequence[str],
    seed: int,
) -> LabelHome:
    """Record the cells that a label head is fitted to.

    Parameters
    ----------
    cells, vectors
        Cells of each object, none of them empty, and their embedding.
    codes
        Index of the label of each cell of all objects, one object after the other.
    folds
        Rows of all cells, see :mod:`scanpy_sct.annotate.classifier`: the distances are those of left-out cells. Cells
        whose label the other folds lack are compared with the profile of all cells instead.
    sources
        Names of the data.
    seed
        Seed of the cells that are drawn.
    """
    starts = np.cumsum([0, *(block.n_cells for block in cells)])
    parts = [
        _Labelled.of(block, found, start, seed) for block, found, start in zip(cells, vectors, starts, strict=False)
    ]
    n_genes, n_labels = len(cells[0].measured), int(codes.max()) + 1
    everything = np.arange(len(codes))
    profiles = _label_profiles(parts, codes, everything, (n_labels, n_genes))
    drawn = draw_per_label(codes, MAX_PER_LABEL, seed)
    distance = np.full(len(codes), np.nan)
    for train, test in folds:
        of_others = _label_profiles(parts, codes, train, (n_labels, n_genes))
        _fill_distances(distance, np.intersect1d(drawn, test), parts, codes, of_others)
    _fill_distances(distance, drawn[np.isnan(distance[drawn])], parts, codes, profiles)
    quantiles = [np.nanquantile(distance[codes == code], [0.5, 0.99]) for code in range(n_labels)]
    return LabelHome(
        sources=tuple(sources),
        n_cells=tuple(np.bincount(codes).tolist()),
        profiles=profiles.astype(np.float32),
        distances=np.asarray(quantiles, dtype=np.float32),
    )


def check_shared(home: LabelHome, cells: CellReader, model: str) -> np.ndarray:
    """Return the `gene_index` of genes that the cells and those of the fit have; a ValueError if there are too few."""
    shared = np.flatnonzero(home.measured & cells.measured)
    if len(shared) < MIN_SHARED_GENES:
        msg = (
            f"adata shares {len(shared)} genes with the cells that the label head of {model!r} was fitted to; at least "
            f"{MIN_SHARED_GENES} are needed. Check the gene names, or pass reference= and labels_key= (labelled cells) "
            "or markers= instead."
        )
        raise ValueError(msg)
    return shared


def home_novelty(
    home: LabelHome, cells: CellReader, vectors: np.ndarray, empty: np.ndarray, genes: np.ndarray, seed: int
) -> np.ndarray:
    """Return the probability that each cell is of no type that the head was fitted to, (n_cells,); NaN for empty cells.

    Parameters
    ----------
    home
        The cells of the fit.
    cells, vectors, empty
        All cells, which are read block by block; their embedding; and which of them have no counts.
    genes
        From :func:`check_shared`.
    seed
        Seed of the up to 20,000 cells among which neighbours are searched.
    """
    result = np.full(len(empty), np.nan)
    full = np.flatnonzero(~empty)
    if not len(full):
        return result
    near = full[nearest_cells(vectors[full], seed)]
    drawn = np.unique(near[:, 1:])
    others = counts_per_10k(cells.block(drawn), genes)
    profiles = _Profiles.of(home.profiles[:, genes], near.shape[1])
    for block in cells.blocks():
        rows = np.flatnonzero(~empty[block.rows])
        neighbors = np.searchsorted(drawn, near[np.searchsorted(full, block.rows[rows]), 1:])
        distances = profiles.distances(counts_per_10k(block.block(rows), genes), others, neighbors)
        result[block.rows[rows]] = novelty_of(distances, home)
    return result


def novelty_of(distances: np.ndarray, home: LabelHome) -> np.ndarray:
    """Convert distances (n_cells, n_labels) to the novelty, (n_cells,): one half at the limit of the nearest label."""
    limit = np.maximum(home.distances[:, 1], MIN_LIMIT)
    return expit(((distances - limit) / (WIDTH * limit)).min(axis=1))


def nearest_cells(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows of each cell and of its up to ten nearest neighbours, (n_cells, 2 to 11)."""
    # A single cell is its own neighbour.
    return Neighborhoods(vectors, seed).rows if len(vectors) > 1 else np.zeros((1, 2), dtype=int)


def counts_per_10k(cells: CellBlock, genes: np.ndarray) -> sparse.csr_matrix:
    """Return counts per 10,000, (n_cells, len(genes)); other genes do not count towards the total of a cell."""
    values = normalised_genes(cells.token_values, genes)
    return with_data(values, np.expm1(values.data))


@dataclass(frozen=True)
class _Profiles:
    """Profiles of labels over some genes, and how well cells of each label correlate with them."""

    log_values: np.ndarray
    """(n_labels, n_genes): log1p of counts per 10,000 over these genes."""
    detected: np.ndarray
    """(n_depths, n_labels): genes that are detected in a cell of the label, by its depth; increasing."""
    correlation: np.ndarray
    """(n_depths, n_labels): correlation of the mean of as many such cells as are averaged."""

    @classmethod
    def of(cls, log_values: np.ndarray, n_averaged: int) -> _Profiles:
        rates = np.expm1(log_values.astype(np.float64))
        rates *= _PER / np.maximum(rates.sum(axis=1, keepdims=True), _TINY)
        log_values = np.log1p(rates)
        # One draw is enough, since a correlation is over all genes; a fixed seed, since it is a property of the head.
        rng = np.random.default_rng(0)
        detected, correlations = np.empty((2, len(DEPTHS), len(rates)))
        for number, depth in enumerate(DEPTHS / _PER):
            detected[number] = -np.expm1(-rates * depth).sum(axis=1)
            mean = rng.poisson(rates * depth * n_averaged) / (depth * n_averaged)
            correlations[number] = np.diagonal(_correlation(np.log1p(mean), log_values))
        return cls(log_values, detected, correlations)

    def distances(self, own: sparse.csr_matrix, others: sparse.csr_matrix, neighbors: np.ndarray) -> np.ndarray:
        """Return the distance of each cell to each profile, (n_cells, n_labels); some cells at a time.

        ``own`` are the cells, ``neighbors`` (n_cells, n_neighbors) the rows of their neighbours in ``others``.
        """
        result = np.empty((own.shape[0], len(self.log_values)))
        genes_of_others = np.diff(others.indptr)
        for part in consecutive(own.shape[0], CELLS_AT_ONCE):
            cells, near = own[part], neighbors[part]
            n_averaged = 1 + near.shape[1]
            starts = np.arange(len(near) + 1) * near.shape[1]
            pool = sparse.csr_matrix((np.ones(near.size), near.ravel(), starts), shape=(len(near), others.shape[0]))
            mean = (cells + pool @ others).toarray() / n_averaged
            detected = (np.diff(cells.indptr) + pool @ genes_of_others) / n_averaged
            result[part] = 1 - _correlation(np.log1p(mean), self.log_values) / self._expected(detected)
        return result

    def _expected(self, detected: np.ndarray) -> np.ndarray:
        """Return the correlation of cells of each label with as many detected genes, (n_cells, n_labels)."""
        columns = zip(self.detected.T, self.correlation.T, strict=True)
        return np.maximum(np.column_stack([np.interp(detected, *column) for column in columns]), _TINY)


def _correlation(values: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """Correlate rows with rows; 0 for constant ones."""
    first, second = (rows - rows.mean(axis=1, keepdims=True) for rows in (values, profiles))
    lengths = np.outer(np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1))
    return first @ second.T / np.maximum(lengths, _TINY)


@dataclass(frozen=True)
class _Labelled:
    """Cells of one object of the fit."""

    counts: sparse.csr_matrix
    """(n_cells, n_measured) per 10,000."""
    genes: np.ndarray
    """`gene_index` of its genes."""
    near: np.ndarray
    """(n_cells, n_neighbors + 1) from :func:`nearest_cells`."""
    start: int
    """Number of cells of the objects before."""

    @classmethod
    def of(cls, cells: CellBlock, vectors: np.ndarray, start: int, seed: int) -> _Labelled:
        genes = np.flatnonzero(cells.measured)
        return cls(counts_per_10k(cells, genes), genes, nearest_cells(vectors, seed), start)

    def own(self, rows: np.ndarray) -> np.ndarray:
        """Return those of the rows of all cells that are in this object, counted within it."""
        within = rows - self.start
        return within[(within >= 0) & (within < self.counts.shape[0])]


def _label_profiles(
    parts: Sequence[_Labelled], codes: np.ndarray, rows: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Return log1p of the mean counts per 10,000 of the cells of each label in ``rows``; NaN without cells."""
    total, n_cells = np.zeros((2, *shape))
    for part in parts:
        own = part.own(rows)
        labels = codes[own + part.start]
        one_hot = sparse.csr_matrix((np.ones(len(own)), (labels, own)), shape=(shape[0], part.counts.shape[0]))
        total[:, part.genes] += (one_hot @ part.counts).toarray()
        n_cells[:, part.genes] += np.bincount(labels, minlength=shape[0])[:, None]
    return np.log1p(np.divide(total, n_cells, out=np.full(shape, np.nan), where=n_cells > 0))


def _fill_distances(
    distance: np.ndarray, rows: np.ndarray, parts: Sequence[_Labelled], codes: np.ndarray, profiles: np.ndarray
) -> None:
    """Write the distances of some cells to the profile of their own label; those without such a profile stay NaN."""
    known = np.flatnonzero(np.isfinite(profiles).any(axis=1))
    position = np.full(len(profiles), -1)
    position[known] = np.arange(len(known))
    shared = np.isfinite(profiles[known]).all(axis=0)
    for part in parts:
        own = part.own(rows)
        own = own[position[codes[own + part.start]] >= 0]
        genes = shared[part.genes]
        if len(own) and genes.sum() >= MIN_SHARED_GENES:
            found = _Profiles.of(profiles[np.ix_(known, part.genes[genes])], part.near.shape[1])
            counts = part.counts[:, genes]
            distances = found.distances(counts[own], counts, part.near[own, 1:])
            labels = position[codes[own + part.start]]
            distance[own + part.start] = distances[np.arange(len(own)), labels]
