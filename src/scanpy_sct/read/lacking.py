"""Test which genes some samples of an object never measured.

Joining objects with `join="outer"` fills the genes that one of them lacks with zeros, which look like measured ones. A
sample *lacks* a gene if none of its cells detects it, although every kind of cell of the other samples detects it too
often for chance. Genes that only some kinds of cells express are thus no evidence, and sex-linked genes neither.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import sparse

from scanpy_sct.linear_algebra import leading_components
from scanpy_sct.read.symbols import genes_named
from scanpy_sct.sparse_tools import log_normalise, with_data

KINDS = 8
"""Kinds of cells that are told apart (k-means)."""
COMPONENTS, GENES_OF_KINDS, CELLS_OF_KIND = 10, 1000, 50
KMEANS_STEPS = 50
MIN_KIND = 20
"""Cells of other samples that make the detection rate of a kind."""
MIN_CELLS = 5
"""Cells of a sample that can be tested."""
EXPECTED = 10.0
"""Cells expected to detect a gene above which none is no chance: its probability is below exp(-10)."""
EXPECTED_ONCE_FOUND = 5.0
"""The same for other genes of a sample that is known to lack some."""
MIN_LACKING, MIN_FRACTION, ALWAYS_LACKING = 5, 0.05, 16
"""Evidence that a sample lacks genes: at least five and 5 % of the genes that can be tested, or at least sixteen. In
samples of sorted cells, the most extreme that were tried, up to fifteen genes of thousands look lacking."""
SEX_LINKED = (
    *("RPS4Y1", "DDX3Y", "EIF1AY", "UTY", "KDM5D", "USP9Y", "ZFY", "TXLNGY", "TTTY15", "TTTY14", "NLGN4Y", "PRKY"),
    *("TMSB4Y", "LINC00278", "TTTY10", "RPS4Y2", "XIST", "TSIX"),
)
"""Genes of the chromosome Y, and those of the inactive X: a sample of one sex has none."""

Counts = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class LackingTest:
    """Finds the samples of some cells that lack genes."""

    matrix: sparse.csr_matrix
    """(n_cells, n_genes) positive where a gene is detected."""
    genes: np.ndarray
    """(n_genes,) Ensembl ids."""

    def samples_that_lack(self, samples: np.ndarray, *, same_kinds: bool = False) -> list[int]:
        """Return which of the ``samples`` (n_cells,) lack genes.

        With ``same_kinds``, cells are compared only with others of the same kind: groups that may be kinds of cells
        themselves, such as clusters, then lack nothing.
        """
        if (samples == samples[0]).all():
            return []
        # Most data are done without kinds of cells, which take longer.
        if not self._lacking(samples, np.zeros_like(samples), same_kinds):
            return []
        _, codes = _tested_samples(samples)
        # Kinds must not be those of samples, so genes that one of them may lack take no part.
        shared = count_detected(self.matrix, codes, int(codes.max()) + 1)[1].all(axis=0)
        return self._lacking(samples, kinds_of_cells(self.matrix[:, shared]), same_kinds)

    @cached_property
    def _is_evidence(self) -> np.ndarray:
        return ~np.isin(self.genes, _sex_linked())

    def _lacking(self, samples: np.ndarray, kinds: np.ndarray, same_kinds: bool) -> list[int]:
        names, codes = _tested_samples(samples)
        n_samples, n_kinds = int(codes.max()) + 1, int(kinds.max()) + 1
        n_cells, detected = count_detected(self.matrix, codes * n_kinds + kinds, n_samples * n_kinds)
        n_cells = n_cells.reshape(n_samples, n_kinds)
        detected = detected.astype(np.int16).reshape(n_samples, n_kinds, -1)  # there are at most 2,000 cells
        total, total_cells = detected.sum(axis=0, dtype=np.int64), n_cells.sum(axis=0)
        found = []
        for number, name in enumerate(names):
            others = total_cells - n_cells[number]
            usable = others >= MIN_KIND
            if not usable.any():
                continue
            rates = _rates((total - detected[number])[usable], others[usable, None])
            here, n_here = detected[number].sum(axis=0), n_cells[number].sum()
            expected = n_here * rates.min(axis=0)
            if same_kinds:
                expected = np.minimum(expected, n_cells[number][usable] @ rates)
            expected *= _relative_depth(here, n_here, total.sum(axis=0) - here, others.sum())
            is_tested = self._is_evidence & (expected >= EXPECTED)
            n_lacking = int((is_tested & (here == 0)).sum())
            if n_lacking >= min(ALWAYS_LACKING, max(MIN_LACKING, MIN_FRACTION * is_tested.sum())):
                found.append(int(name))
        return found


def _tested_samples(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples with enough cells to be tested, and the number of each cell's; one more for all others."""
    names, codes, sizes = np.unique(samples, return_inverse=True, return_counts=True)
    large = np.flatnonzero(sizes >= MIN_CELLS)
    number = np.full(len(names), len(large))
    number[large] = np.arange(len(large))
    return names[large], number[codes]


def kinds_of_cells(matrix: sparse.csr_matrix) -> np.ndarray:
    """Divide cells into up to eight kinds of similar expression, (n_cells,) integers.

    ``matrix`` is (n_cells, n_genes), on any scale.
    """
    n_kinds = min(KINDS, matrix.shape[0] // CELLS_OF_KIND)
    if n_kinds < 2 or matrix.shape[1] < 2:
        return np.zeros(matrix.shape[0], dtype=np.int64)
    from scipy.cluster.vq import kmeans2  # scikit-learn's would be imported for this alone, in 0.25 s

    rate = matrix.getnnz(axis=0) / matrix.shape[0]
    genes = np.sort(np.argsort(-rate * (1 - rate), kind="stable")[:GENES_OF_KINDS])
    values = log_normalise(matrix[:, genes])
    points = values @ leading_components(values, min(COMPONENTS, len(genes)), seed=0).T
    n_kinds = min(n_kinds, len(np.unique(points.round(4), axis=0)))  # fewer where cells are the same
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a kind may stay empty
        return kmeans2(points, n_kinds, KMEANS_STEPS, minit="++", seed=np.random.default_rng(0))[1].astype(np.int64)


def lacking_genes(n_cells: np.ndarray, detected: np.ndarray, samples: list[int]) -> np.ndarray:
    """Return the genes that each of some ``samples`` lacks, (n_samples, n_genes) bool; False for all other samples.

    ``n_cells`` (n_samples,) and ``detected`` (n_samples, n_genes) come from :func:`count_detected`, of all cells.
    """
    lacking = np.zeros(detected.shape, dtype=bool)
    for sample in samples:
        here, others = detected[sample], np.delete(detected, sample, axis=0)
        # A gene that two of three samples lack is compared with the third.
        n_others = np.delete(n_cells, sample) @ others.astype(bool)
        rates = _rates(others.sum(axis=0), n_others)
        depth = _relative_depth(here, n_cells[sample], others.sum(axis=0), n_others)
        lacking[sample] = (here == 0) & (n_cells[sample] * depth * rates >= EXPECTED_ONCE_FOUND)
    return lacking


def count_detected(matrix: sparse.csr_matrix, groups: np.ndarray, n_groups: int) -> Counts:
    """Count the cells of each group, (n_groups,), and those that detect each gene, (n_groups, n_genes).

    ``matrix`` (n_cells, n_genes) has positive entries only.
    """
    rows = np.arange(len(groups))
    members = sparse.csr_matrix((np.ones(len(rows), dtype=np.int32), (groups, rows)), shape=(n_groups, len(rows)))
    detected = members @ with_data(matrix, np.ones(matrix.nnz, dtype=np.int32))
    return np.bincount(groups, minlength=n_groups), detected.toarray()


def count_all(parts: Iterable[tuple[sparse.csr_matrix, np.ndarray]]) -> Counts:
    """Count as :func:`count_detected` does, over parts of the cells, each with the sample of its cells."""
    counts = [count_detected(matrix, samples, int(samples.max()) + 1) for matrix, samples in parts]
    n_samples = max(len(n_cells) for n_cells, _ in counts)
    total_cells, total = np.zeros(n_samples, np.int64), np.zeros((n_samples, counts[0][1].shape[1]), np.int64)
    for n_cells, detected in counts:
        total_cells[: len(n_cells)] += n_cells
        total[: len(n_cells)] += detected
    return total_cells, total


def _rates(detected: np.ndarray, n_cells: np.ndarray | int) -> np.ndarray:
    """Return the mean of a Poisson count that is detected in so many cells, (n_genes,)."""
    n_cells = np.maximum(n_cells, 1)
    return -np.log1p(-np.minimum(detected / n_cells, 1 - 0.5 / n_cells))


def _relative_depth(
    detected: np.ndarray, n_cells: int, detected_by_others: np.ndarray, n_others: np.ndarray | int
) -> float:
    """Return how deep a sample is compared with others: median ratio of the rates of genes that both detect often."""
    rates, of_others = _rates(detected, n_cells), _rates(detected_by_others, n_others)
    both = (rates > 0) & (of_others > 0)
    if not both.any():
        return 0.0
    both &= of_others >= np.median(of_others[both])
    return float(np.median(rates[both] / of_others[both]))


@cache
def _sex_linked() -> np.ndarray:
    return genes_named(SEX_LINKED)
