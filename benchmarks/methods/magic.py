"""MAGIC: smoothing by diffusion over a graph of similar cells."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from methods.rescale import to_visible_total
from scanpy_sct.evaluate import Observed, method
from scanpy_sct.evaluate.methods.rates import gene_means

# Those of the `magic` package, and of the denoising task of Open Problems: neighbours that set the width of the
# kernel, neighbours at most, how fast the kernel falls, steps of diffusion, and principal components.
_NEIGHBORS = 5
_MOST_NEIGHBORS = 15
_DECAY = 1
_STEPS = 3
_COMPONENTS = 100
# There is no graph of fewer cells, and no mean where the cells in which a gene is visible have less weight than this.
_FEWEST_CELLS = 3
_LEAST_WEIGHT = 1e-6


@method("magic", needs="package:magic-impute", replace=True)
def magic(observed: Observed) -> np.ndarray:
    """MAGIC, van Dijk et al. 2018 (Cell 174, 716), on square roots of depth-normalised counts.

    As in the denoising task of Open Problems: counts are divided by the cell's total, their square roots are smoothed
    over the graph of cells, squared, and multiplied by the total. What is published stops here, and leaves each cell
    with fewer counts than it had, since the square of a mean is less than the mean of squares. Here each cell is
    rescaled, so that the expected counts of its visible entries sum to what was counted there. This does not change the
    mean squared error of that task, which normalises every cell, and makes its Poisson loss a fair one.

    The graph reads masked entries as zeros. Only visible entries are smoothed over it: each masked entry gets a
    weighted mean of the cells in which the gene is visible, and has no weight itself.
    """
    fractions = _divide_rows(observed.counts, observed.depth)
    return _counts_from_roots(observed, fractions.sqrt())


@method("magic_reversed", needs="package:magic-impute", replace=True)
def magic_reversed(observed: Observed) -> np.ndarray:
    """MAGIC with "reversed normalisation" as in Open Problems: square roots first, then division by their total.

    Roots that sum to 1 in a cell, when smoothed, squared and multiplied by the former sum of roots, are not counts:
    the published variant returns each entry as about its count / that sum, so that a cell sums to about 1 whatever
    its depth. That is harmless to the mean squared error of Open Problems, which normalises every cell, and ruins its
    Poisson loss. Here each cell is rescaled to its visible counts, as in `magic`.
    """
    roots = observed.counts.sqrt()
    return _counts_from_roots(observed, _divide_rows(roots, np.asarray(roots.sum(axis=1)).ravel()))


def _counts_from_roots(observed: Observed, roots: sparse.csr_matrix) -> np.ndarray:
    """Smooth square roots, square them, and rescale each cell to its visible total.

    A cell of which nothing is visible would be like every other such cell; it has no part in the graph.

    Parameters
    ----------
    roots
        (n_cells, n_genes): square roots of expression in any unit, which may differ from cell to cell.
    """
    cells, genes = np.flatnonzero(observed.depth > 0), np.flatnonzero(roots.getnnz(axis=0) > 0)
    means, masked = gene_means(observed, roots)[:, genes], observed.masked[:, genes]
    smoothed = np.zeros(masked.shape, dtype=np.float32)
    smoothed[cells] = _smooth_visible(roots[cells][:, genes], masked[cells], means, observed.seed)

    def counts(rows: slice) -> np.ndarray:
        expected = np.zeros(observed.masked[rows].shape, dtype=np.float32)
        expected[:, genes] = np.square(smoothed[rows])
        return to_visible_total(expected, observed, rows)

    return observed.at_targets(counts)


def _smooth_visible(values: sparse.csr_matrix, masked: np.ndarray, means: np.ndarray, seed: int) -> np.ndarray:
    """Average the visible values alone, by the weights of the graph; `means` where all near cells lack the gene."""
    steps = diffusion_step(values, seed)
    smoothed = diffuse(steps, values.toarray())
    if not masked.any():
        return smoothed
    weight = diffuse(steps, ~masked)
    return np.where(weight > _LEAST_WEIGHT, smoothed / np.maximum(weight, _LEAST_WEIGHT), means)


def diffusion_step(values: sparse.csr_matrix, seed: int) -> sparse.csr_matrix:
    """Build MAGIC's graph of cells, and from it the weights of one step of diffusion.

    Parameters
    ----------
    values
        (n_cells, n_genes).
    seed
        Of the principal components.

    Returns
    -------
    float32 (n_cells, n_cells); each row sums to 1.
    """
    n_cells = values.shape[0]
    if n_cells < _FEWEST_CELLS:
        return sparse.identity(n_cells, dtype=np.float32, format="csr")
    from magic import MAGIC

    operator = MAGIC(
        knn=min(_NEIGHBORS, n_cells - 2),
        knn_max=min(_MOST_NEIGHBORS, n_cells - 1),
        decay=_DECAY,
        n_pca=max(min(_COMPONENTS, min(values.shape) - 1), 1),
        random_state=seed,
        verbose=False,
    )
    return sparse.csr_matrix(operator.fit(values).diff_op, dtype=np.float32)


def diffuse(steps: sparse.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Take three steps of diffusion, float32 (n_cells, n_genes).

    The package's own `transform` ("exact" solver) gives the same for the values that its graph was made from, but takes
    no others; here what is visible is smoothed by the same weights.
    """
    smoothed = values.astype(np.float32)
    for _ in range(_STEPS):
        smoothed = steps @ smoothed
    return smoothed


def _divide_rows(values: sparse.csr_matrix, by: np.ndarray) -> sparse.csr_matrix:
    """Divide each row by a number; rows for which it is 0 stay."""
    return values.multiply((1 / np.where(by > 0, by, 1))[:, None]).tocsr()
