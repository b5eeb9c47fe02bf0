"""Find genes that some samples of an object never measured.

Joining objects with `join="outer"` fills the genes that one of them lacks with zeros, which look like measured ones. A
sample *lacks* a gene if none of its cells detects it, although every kind of cell of the other samples detects it too
often for chance. Genes that only some kinds of cells express are thus no evidence, and sex-linked genes neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from scanpy_sct.read.gene_table import load_gene_table
from scanpy_sct.sparse_tools import log_normalise

KINDS = 8
"""Kinds of cells that are told apart (k-means)."""
COMPONENTS, GENES_OF_KINDS = 10, 1000
MIN_KIND = 20
"""Cells of other samples that make the detection rate of a kind."""
EXPECTED = 10.0
"""Cells expected to detect a gene above which none is no chance: its probability is below exp(-10)."""
EXPECTED_ONCE_FOUND = 5.0
"""The same for other genes of a sample that is known to lack some."""
MIN_LACKING, MIN_FRACTION, ALWAYS_LACKING = 5, 0.05, 12
"""Evidence that a sample lacks genes: at least five and 5 % of the genes that can be tested, or at least twelve. In
samples of sorted cells, the most extreme that were tried, up to nine genes of thousands look lacking."""
MAX_GROUPS = 100
"""Most values of a column of `.obs` that may be samples."""
SEX_LINKED = (
    *("RPS4Y1", "DDX3Y", "EIF1AY", "UTY", "KDM5D", "USP9Y", "ZFY", "TXLNGY", "TTTY15", "TTTY14", "NLGN4Y", "PRKY"),
    *("TMSB4Y", "LINC00278", "TTTY10", "RPS4Y2", "XIST", "TSIX"),
)
"""Genes of the chromosome Y, and those of the inactive X: a sample of one sex has none."""

SAMPLES_NAMED = 5
"""Samples that a finding names."""
Counts = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class LackingTest:
    """Finds the samples of some cells that lack genes."""

    matrix: sparse.csr_matrix
    """(n_cells, n_genes) positive where a gene is detected."""
    genes: np.ndarray
    """(n_genes,) Ensembl ids."""

    @cached_property
    def _kinds(self) -> np.ndarray:
        return kinds_of_cells(self.matrix)

    def samples_that_lack(self, samples: np.ndarray) -> list[int]:
        """Return which of the ``samples`` (n_cells,) lack genes."""
        # Most data are done without kinds of cells, which take longer.
        if not self._lacking(samples, np.zeros_like(samples)):
            return []
        return self._lacking(samples, self._kinds)

    def _lacking(self, samples: np.ndarray, kinds: np.ndarray) -> list[int]:
        n_kinds = int(kinds.max()) + 1
        groups, codes = np.unique(samples * n_kinds + kinds, return_inverse=True)
        n_cells, detected = count_detected(self.matrix, codes, len(groups))
        of_sample, of_kind = np.divmod(groups, n_kinds)
        total, total_cells = detected.sum(axis=0), n_cells.sum()
        is_evidence = ~np.isin(self.genes, _sex_linked())
        found = []
        for sample in np.unique(samples).tolist():
            own = of_sample == sample
            detected_here, n_here = detected[own].sum(axis=0), n_cells[own].sum()
            parts = [~own & (of_kind == kind) for kind in range(n_kinds)]
            rates = [
                _rates(detected[part].sum(axis=0), n_cells[part].sum())
                for part in parts
                if n_cells[part].sum() >= MIN_KIND
            ]
            if not rates:
                continue
            depth = _relative_depth(detected_here, n_here, total - detected_here, total_cells - n_here)
            is_tested = is_evidence & (n_here * depth * np.min(rates, axis=0) >= EXPECTED)
            n_lacking = int((is_tested & (detected_here == 0)).sum())
            if n_lacking >= min(ALWAYS_LACKING, max(MIN_LACKING, MIN_FRACTION * is_tested.sum())):
                found.append(sample)
        return found


def kinds_of_cells(matrix: sparse.csr_matrix) -> np.ndarray:
    """Divide cells into up to eight kinds of similar expression, (n_cells,) integers.

    ``matrix`` is (n_cells, n_genes), on any scale.
    """
    n_kinds = min(KINDS, matrix.shape[0] // MIN_KIND)
    n_components = min(COMPONENTS, min(matrix.shape) - 1)
    if n_kinds < 2 or n_components < 1:
        return np.zeros(matrix.shape[0], dtype=np.int64)
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD

    rate = matrix.getnnz(axis=0) / matrix.shape[0]
    genes = np.sort(np.argsort(-rate * (1 - rate), kind="stable")[:GENES_OF_KINDS])
    components = TruncatedSVD(min(n_components, len(genes) - 1), n_iter=2, random_state=0)
    points = components.fit_transform(log_normalise(matrix[:, genes]))
    return KMeans(n_kinds, n_init=1, random_state=0).fit_predict(points).astype(np.int64)


@dataclass(frozen=True)
class Lacking:
    """Genes that some samples of an object lack, or seem to lack."""

    by_sample: np.ndarray | None = None
    """(n_samples, n_genes) bool; None: no sample is known to lack any."""
    partly: np.ndarray | None = None
    """(n_genes,) bool: genes that some samples lack, also where samples are only suspected; None: there are none."""
    finding: str = ""
    """What to tell the user."""


def find_lacking(
    test: LackingTest,
    rows: np.ndarray,
    samples: np.ndarray,
    sample_names: Sequence[str],
    count: Callable[[np.ndarray], Counts],
) -> Lacking:
    """Find the genes that each sample lacks.

    Parameters
    ----------
    test, rows
        Test of some cells, and their rows in the object.
    samples, sample_names
        (n_cells,) sample of every cell of the object, and the names of the samples.
    count
        Function of the samples that returns :func:`count_detected` of all cells; called only if some sample lacks
        genes.
    """
    found = test.samples_that_lack(samples[rows])
    lacking = lacking_genes(*count(samples), found) if found else None
    if lacking is None or not lacking.any():
        return Lacking()
    numbers = lacking.sum(axis=1)
    named = [f"{sample_names[n]!r} ({numbers[n]:,})" for n in np.flatnonzero(numbers)]
    more = f" and {len(named) - SAMPLES_NAMED} more" if len(named) > SAMPLES_NAMED else ""
    text = (
        "Some samples have no count of genes that the other samples detect too often for chance, as after a join of "
        f"objects with different genes: {', '.join(named[:SAMPLES_NAMED])}{more}. These genes count as not measured "
        "in these samples, instead of as zero."
    )
    return Lacking(lacking, lacking.any(axis=0), text)


def suspect_lacking(
    test: LackingTest, rows: np.ndarray, table: pd.DataFrame, owner: str, count: Callable[[np.ndarray], Counts]
) -> Lacking:
    """Look for a column of `.obs` some of whose values lack genes, so that it seems to hold samples.

    Arguments as in :func:`find_lacking`; ``table`` has the columns to try, the likeliest first, ``owner`` is the name
    of the object.
    """
    for name in table:
        codes, values = pd.factorize(table[name])
        if not 1 < len(values) <= MAX_GROUPS or (codes < 0).any():
            continue
        found = find_lacking(test, rows, codes, [str(value) for value in values], count)
        if found.partly is None:
            continue
        text = (
            f"{found.partly.sum():,} genes have no count in cells with some values of {owner}.obs[{name!r}], and the "
            "other cells detect them too often for chance, as after a join of objects with different genes. Without "
            f"library_key they are read as measured zeros; pass library_key={name!r}, so that they count as not "
            "measured where they are missing."
        )
        return Lacking(None, found.partly, text)
    return Lacking()


def lacking_genes(n_cells: np.ndarray, detected: np.ndarray, samples: list[int]) -> np.ndarray:
    """Return the genes that each of some ``samples`` lacks, (n_samples, n_genes) bool; False for all other samples.

    ``n_cells`` (n_samples,) and ``detected`` (n_samples, n_genes) come from :func:`count_detected`, of all cells.
    """
    lacking = np.zeros(detected.shape, dtype=bool)
    for sample in samples:
        # A gene that two of three samples lack is compared with the third.
        others = detected > 0
        others[sample] = False
        n_others = (others * n_cells[:, None]).sum(axis=0)
        rates = _rates(detected.sum(axis=0) - detected[sample], np.maximum(n_others, 1))
        depth = _relative_depth(detected[sample], n_cells[sample], detected.sum(axis=0) - detected[sample], n_others)
        lacking[sample] = (detected[sample] == 0) & (n_cells[sample] * depth * rates >= EXPECTED_ONCE_FOUND)
    return lacking


def count_detected(matrix: sparse.csr_matrix, groups: np.ndarray, n_groups: int) -> Counts:
    """Count the cells of each group, (n_groups,), and those that detect each gene, (n_groups, n_genes), int64."""
    rows = np.arange(len(groups))
    members = sparse.csr_matrix((np.ones(len(rows), dtype=np.int64), (groups, rows)), shape=(n_groups, len(rows)))
    return np.bincount(groups, minlength=n_groups), (members @ (matrix > 0).astype(np.int64)).toarray()


def _rates(detected: np.ndarray, n_cells: np.ndarray | int) -> np.ndarray:
    """Return the mean of a Poisson count that is detected in so many cells, (n_genes,)."""
    return -np.log1p(-np.minimum(detected / n_cells, 1 - 0.5 / np.maximum(n_cells, 1)))


def _relative_depth(
    detected: np.ndarray, n_cells: int, detected_by_others: np.ndarray, n_others: np.ndarray | int
) -> float:
    """Return how deep a sample is compared with others: median ratio of the rates of genes that both detect often."""
    rates, of_others = _rates(detected, n_cells), _rates(detected_by_others, np.maximum(n_others, 1))
    both = (detected > 0) & (of_others > 0)
    if not both.any():
        return 0.0
    both &= of_others >= np.median(of_others[both])
    return float(np.median(rates[both] / of_others[both]))


@cache
def _sex_linked() -> np.ndarray:
    table = load_gene_table()
    return table.index[table["symbol"].isin(SEX_LINKED)].to_numpy(dtype=str)
