"""Find what values are: counts, other amounts, or logarithms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.read.scale import (
    LARGEST_TESTED_RATIO,
    MAX_LOG,
    are_integers,
    exp1m,
    have_one_total,
    is_integer,
    row_ratios,
    sample_rows,
    smallest_counts,
    were_counts,
)
from scanpy_sct.sparse_tools import LOG_BASES, entry_rows, row_totals, with_data

if TYPE_CHECKING:
    from scanpy_sct.read.options import GivenScale
    from scanpy_sct.read.scale import Scale

MIN_ENTRIES = 5
"""Cells with fewer entries say nothing about the scale."""
MIN_CELLS = 20
"""With fewer cells, depth and small values are not compared."""
MIN_MIXED = 0.02
"""Smallest fraction of the cells that is a second kind of values, not a few odd cells."""
MIN_INTEGERS = 0.5
"""Fraction of integers among the values above 1.5 of counts of which some were corrected or divided."""
MIN_TIES = 0.3
"""Fraction of a cell's entries that have its most frequent value, if all are functions of counts."""
MAX_STEPS = 64
"""Means of up to this many counts are recognised as multiples of 1 / their number."""
SAME_TOTALS = 0.3
"""Spread of the logarithms of totals, below which cells were normalised; that of amounts is at least 0.33."""
LOG_BELOW = 0.95
SURELY_LOG_BELOW = 0.75
"""The evidence for amounts (see `_evidence_for_amounts`) is around 0 in normalised logarithms and 1.3 in amounts."""


@dataclass(frozen=True)
class FoundScale:
    """The scale of some values."""

    scale: Scale
    reason: str = ""
    """Why, where the values could be read otherwise; else empty."""
    finding: str = ""
    """Warning about values that could be read otherwise."""


def find_scale(matrix: sparse.csr_matrix, given: GivenScale = "auto", argument: str = "scale") -> Scale:
    """Return only the scale of :func:`read_scale`."""
    return read_scale(matrix, given, argument).scale


def read_scale(
    matrix: sparse.csr_matrix, given: GivenScale = "auto", argument: str = "scale", source: str = "the matrix"
) -> FoundScale:
    """Distinguish counts, other amounts ("linear": CPM, TPM, corrected counts) and log values (of any base).

    All this is looked for in up to 2,000 rows. Integers are counts. Values above 20 are amounts, and so are rows that
    all have one total. Else values are logarithms if undoing them gives multiples of one unit in each cell, or one
    total, and amounts if they themselves are multiples. Where neither holds, the relation of small values and totals to
    the depth of a cell decides.

    Parameters
    ----------
    matrix
        Cells x genes, positive entries only.
    given
        What the user says; `"counts"` are counts if they are integers, else linear.
    argument
        The argument that gives it, which messages name.
    source
        Name of the matrix in messages.

    Raises
    ------
    ValueError
        Values that were given as logarithms cannot be any, or some cells have counts and others logarithms.
    """
    sample = sample_rows(matrix)
    if given == "log1p":
        _check_logs(sample, argument, source)
    elif sample.nnz == 0 or are_integers(sample.data):
        return FoundScale("counts")
    if given != "auto":
        scale: Scale = "log" if given == "log1p" else "linear"
        return FoundScale(scale, finding=_against(given, scale, sample, source, argument))
    others = _rows_without_counts(sample)
    if others is None:
        found = _read_decimals(sample)
        return replace(found, finding=_in_doubt(found, sample, source, argument) if found.reason else "")
    if _read_decimals(others).scale == "log":
        msg = (
            f"{source} holds integers in {sample.shape[0] - others.shape[0]:,} of the cells that were looked at, and "
            f"decimals that look like logarithms (such as {others.data[0]:.4g}) in {others.shape[0]:,}: a matrix must "
            "hold one kind of values. Log-normalise all cells or none, or pass another matrix as "
            f"`{_layer_of(argument)}=`; if all are counts, some of them corrected, pass {argument}='counts'."
        )
        raise ValueError(msg)
    return FoundScale("linear")


def _layer_of(argument: str) -> str:
    """Return the argument that chooses the matrix, beside that of its scale."""
    return argument.replace("scale", "layer")


def _against(given: GivenScale, scale: Scale, sample: sparse.csr_matrix, source: str, argument: str) -> str:
    """Return a warning where the values clearly are not what the user says."""
    if sample.nnz == 0 or sample.data.max() > MAX_LOG:
        return ""
    found = _read_decimals(sample)
    if found.scale == scale or found.reason:
        return ""
    looks_like = "logarithms" if found.scale == "log" else "counts or other amounts"
    return f"{argument}={given!r} is followed, although the values of {source} look like {looks_like}."


def _in_doubt(found: FoundScale, sample: sparse.csr_matrix, source: str, argument: str) -> str:
    """Return the warning about values that could be read otherwise."""
    chosen, other = ("counts", "log1p") if found.scale == "linear" else ("log1p", "counts")
    names = {"counts": "counts (corrected or expected ones)", "log1p": "logarithms"}
    return (
        f"{source} holds decimals up to {sample.data.max():.3g}, which were read as {names[chosen]}, since "
        f"{found.reason}. Pass {argument}={other!r} if they are {names[other]}, or {argument}={chosen!r} to confirm."
    )


def _check_logs(sample: sparse.csr_matrix, argument: str, source: str) -> None:
    """Raise an error for integers, and for values that no logarithm of an expression value reaches."""
    if sample.nnz == 0:
        return
    highest = sample.data.max()
    if highest <= MAX_LOG and not are_integers(sample.data):
        return
    found = f"values up to {highest:.4g}" if highest > MAX_LOG else "integers only"
    msg = (
        f"{argument}='log1p' was given, but {source} holds {found}, so they are not natural logarithms of expression "
        f"values. Pass {argument}='counts' for counts and other amounts, or another matrix as "
        f"`{_layer_of(argument)}=`."
    )
    raise ValueError(msg)


def _rows_without_counts(sample: sparse.csr_matrix) -> sparse.csr_matrix | None:
    """Return the other rows where some rows, not a few odd ones, are counts; None: there are no two kinds."""
    rows, n_entries = entry_rows(sample), np.diff(sample.indptr)
    n_integers = np.bincount(rows, is_integer(sample.data), minlength=sample.shape[0])
    highest = np.zeros(sample.shape[0])
    np.maximum.at(highest, rows, sample.data)
    # Logarithms to base 2 of the counts 1 and 3 are integers, too.
    are_counts = (n_integers == n_entries) & (n_entries >= MIN_ENTRIES) & (highest >= 3)
    are_others = n_integers < n_entries
    n_least = max(3, MIN_MIXED * sample.shape[0])
    if are_counts.sum() < n_least or are_others.sum() < n_least:
        return None
    return sample[are_others]


def _read_decimals(sample: sparse.csr_matrix) -> FoundScale:
    """Find the scale of values that are not all integers."""
    if sample.data.max() > MAX_LOG or have_one_total(sample):
        return FoundScale("linear")
    natural, *others = (with_data(sample, exp1m(sample.data, base)) for base in LOG_BASES)
    as_natural, as_amounts = _agreement(natural), _agreement(sample)
    if as_natural > 0 and as_natural >= as_amounts:
        return FoundScale("log")
    if as_amounts > 0:
        return FoundScale("linear")
    if any(_agreement(values) > 0 for values in others) or any(map(have_one_total, (natural, *others))):
        return FoundScale("log")
    if _are_mostly_integers(sample.data):
        return FoundScale("linear", "most are integers, as in corrected counts")
    if _ties(sample) >= MIN_TIES and not _are_fractions(sample.data):
        return FoundScale("log", "they look like counts after another transformation than a logarithm")
    return _weigh(sample, natural, others[0])


def _agreement(values: sparse.csr_matrix) -> float:
    """Return how well the values of a cell are multiples of one unit: the fraction of those that can show it; 0 to 1.

    1 where none can, since each cell has one value only.
    """
    if not were_counts(values):
        return 0.0
    ratios = row_ratios(values)
    multiples = ratios * np.maximum(smallest_counts(values, ratios), 1)[entry_rows(values)]
    can_show = (ratios > 1.02) & (ratios < LARGEST_TESTED_RATIO)
    if not can_show.any():
        return 1.0
    agreement = (np.abs(multiples - np.rint(multiples))[can_show] < 0.01 * multiples[can_show] + 0.01).mean()
    # Where few can show it, were_counts was no test.
    return float(agreement) if agreement >= 0.8 else 0.0


def _are_mostly_integers(values: np.ndarray) -> bool:
    """Return whether most of the values above 1.5 are integers; roots and logarithms of 1 can be one."""
    larger = values[values > 1.5]
    return bool(is_integer(larger).sum() > MIN_INTEGERS * len(larger))


def _are_fractions(values: np.ndarray) -> bool:
    """Return whether all are multiples of 1 / n, as means of n counts are."""
    values = values[:100_000].astype(np.float64)
    return any(are_integers(values * n) for n in range(2, MAX_STEPS + 1))


def _ties(sample: sparse.csr_matrix) -> float:
    """Return the mean fraction of a cell's entries that have its most frequent value."""
    fractions = []
    for start, stop in pairwise(sample.indptr):
        if stop - start >= MIN_ENTRIES:
            _, counts = np.unique(sample.data[start:stop], return_counts=True)
            fractions.append(counts.max() / (stop - start))
    return float(np.mean(fractions)) if fractions else 0.0


def _weigh(sample: sparse.csr_matrix, natural: sparse.csr_matrix, binary: sparse.csr_matrix) -> FoundScale:
    """Weigh both readings of values without any unit, such as logarithms of TPM, or corrected counts.

    ``natural`` and ``binary`` are the values from which they are natural logarithms, or logarithms to base 2.
    """
    evidence, highest = _evidence_for_amounts(sample, binary)
    if np.isnan(evidence):
        return FoundScale("log", "there are too few cells, or too similar ones, to distinguish these")
    if evidence < LOG_BELOW:
        in_doubt = highest >= SURELY_LOG_BELOW
        return FoundScale("log", "small values depend on the depth of the cell, but not clearly" if in_doubt else "")
    if _to_integers(natural.data) < 0.5 * _to_integers(sample.data):
        return FoundScale("log", "without logarithms they would be close to integers")
    return FoundScale("linear", "small values do not fall with the depth of the cell as in normalised data")


def _to_integers(values: np.ndarray) -> float:
    """Return the mean distance from small values, from 0.5 to 3.5, to the nearest integer; 0.25 for random ones."""
    small = values[(values > 0.5) & (values < 3.5)]
    return float(np.abs(small - np.rint(small)).mean()) if len(small) else 0.25


def _evidence_for_amounts(sample: sparse.csr_matrix, undone: sparse.csr_matrix) -> tuple[float, float]:
    """Sum up how small values, and how totals, differ between cells, and what it may be at most; NaN: it is not seen.

    In normalised data small values fall as more genes are detected (slope -1; in amounts 0). Undoing the logarithm
    makes the totals of cells as similar as their sums of logarithms or more (ratio of spreads 0.9), or all alike;
    amounts become extreme (ratio 1.3). The base of the logarithm changes this little; 2 is between the usual ones.
    """
    n_genes = np.diff(sample.indptr)
    rows = np.flatnonzero(n_genes >= MIN_ENTRIES)
    if len(rows) < MIN_CELLS:
        return np.nan, np.nan
    spread, spread_undone = (_spread(np.log(row_totals(values)[rows])) for values in (sample, undone))
    depth = np.log(n_genes[rows])
    if spread_undone < SAME_TOTALS:
        return 0.0, 0.0
    if depth.std() < 0.05:
        # Nearly all genes are in all cells, as after smoothing: only the totals show whether they were normalised.
        return np.inf, np.inf
    low = [np.quantile(sample.data[sample.indptr[row] : sample.indptr[row + 1]], 0.25) for row in rows]
    line, covariance = np.polyfit(depth, np.log(np.expm1(low)), 1, cov=True)
    evidence = float(line[0] + spread_undone / max(spread, 1e-9))
    return evidence, evidence + 2 * float(np.sqrt(covariance[0, 0]))


def _spread(values: np.ndarray) -> float:
    """Return the interquartile range in standard deviations of a normal distribution."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 1.35
