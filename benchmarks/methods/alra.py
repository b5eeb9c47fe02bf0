"""ALRA: a low-rank approximation that keeps true zeros at zero, from its paper (there is no Python package)."""

from __future__ import annotations

import numpy as np
from sklearn.utils.extmath import randomized_svd

from methods.rescale import to_visible_total
from scanpy_sct.evaluate import Observed, method

# Dense tables with all cells are made for this many genes at a time.
_GENES_AT_ONCE = 1024

# Constants of ALRA, as its paper gives them: singular values to look at, the fraction of them that is taken for signal
# or noise, by how many standard deviations a gap must exceed those of the noise, and the quantile of each gene.
_N_VALUES = 100
_NOISE_FROM = 0.8
_GAP = 6.0
_QUANTILE = 0.001


@method("alra", replace=True)
def alra(observed: Observed) -> np.ndarray:
    """Adaptively thresholded low-rank approximation, Linderman et al. 2022 (Nature Communications 13, 192).

    The depth-normalised log matrix is rebuilt from its leading singular vectors, as many as stand out from the noise
    (:func:`choose_rank`). What :func:`keep_what_stands_out` takes for a true zero stays zero. The other values are on
    the level of cells in which the gene was counted, so that what is published gives a cell several times the counts
    that it had; here each cell is rescaled to its visible counts (a difference to no metric that normalises cells).

    Masked entries go in as zeros, which lowers a gene's rebuilt values by one factor; the threshold is lowered by the
    same factor, and the rescaling to the visible values undoes it.
    """
    expression = observed.normalised
    n_values = min(_N_VALUES, min(expression.shape) - 1)
    left, sizes, right = randomized_svd(expression, n_values, n_iter=10, random_state=observed.seed)
    rank = choose_rank(sizes)
    scores = left[:, :rank] * sizes[:rank]
    values = np.zeros(expression.shape, dtype=np.float32)
    by_gene = expression.tocsc()
    for start in range(0, expression.shape[1], _GENES_AT_ONCE):
        genes = slice(start, start + _GENES_AT_ONCE)
        values[:, genes] = keep_what_stands_out(scores @ right[:rank, genes], by_gene[:, genes].toarray())
    return observed.at_targets(lambda rows: to_visible_total(np.expm1(values[rows]), observed, rows))


def choose_rank(sizes: np.ndarray) -> int:
    """Choose how many singular vectors stand out from the noise, as ALRA does.

    The last fifth of the gaps between successive singular values is taken for noise. The rank is the index, from 1, of
    the last gap that exceeds their mean by more than six standard deviations; 1 where none does.

    Parameters
    ----------
    sizes
        (n_values,): leading singular values, largest first.
    """
    gaps = sizes[:-1] - sizes[1:]
    noise = gaps[int(_NOISE_FROM * len(gaps)) :]
    if len(noise) < 2:
        return len(sizes)
    large = np.flatnonzero(gaps > noise.mean() + _GAP * noise.std(ddof=1))
    return int(large[-1]) + 1 if len(large) else 1


def keep_what_stands_out(rebuilt: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Complete a matrix from its low-rank approximation, leaving true zeros at zero, as ALRA does.

    1. Errors about a true zero are as often positive as negative. So what is no larger than a gene's most negative
       value (its 0.1 % quantile) is set to 0, and so is a gene that is 0 throughout.
    2. What is left is shifted and scaled to the mean and the standard deviation of the gene's values above zero in
       `original`; genes for which there are fewer than two values on either side are left as they are.
    3. What falls below zero is set to 0, and values of `original` that would be lost are put back.

    Parameters
    ----------
    rebuilt
        (n_cells, n_genes): approximation of `original`.
    original
        (n_cells, n_genes): not negative.

    Returns
    -------
    (n_cells, n_genes), not negative, and above zero wherever `original` is.
    """
    n_original, mean, sd = _moments_above_zero(original)
    threshold = np.maximum(-np.quantile(rebuilt, _QUANTILE, axis=0), 0)
    kept = np.where((rebuilt > threshold) & (n_original > 0), rebuilt, 0)
    n_kept, mean_kept, sd_kept = _moments_above_zero(kept)
    can_scale = (n_kept >= 2) & (n_original >= 2) & (sd_kept > 0)
    factor = np.divide(sd, sd_kept, out=np.ones_like(sd), where=can_scale)
    shift = np.where(can_scale, mean - mean_kept * factor, 0)
    scaled = np.where(kept > 0, np.maximum(kept * factor + shift, 0), 0)
    return np.where(scaled > 0, scaled, original)


def _moments_above_zero(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute number, mean and standard deviation of the values above zero in each column, each (n_columns,)."""
    above = values > 0
    n = above.sum(axis=0)
    mean = values.sum(axis=0, where=above) / np.maximum(n, 1)
    variance = ((values - mean) ** 2).sum(axis=0, where=above) / np.maximum(n - 1, 1)
    return n, mean, np.sqrt(variance)
