"""Products and decompositions of matrices, in a single thread."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
from scipy import sparse
from threadpoolctl import ThreadpoolController


def leading_components(values: sparse.csr_matrix, n_components: int, seed: int) -> np.ndarray:
    """Return the leading right singular vectors, (n_components, columns), of ``values`` as they are, not centred.

    The same as those of `TruncatedSVD`, which imports much of scikit-learn: a randomised decomposition (Halko,
    Martinsson and Tropp, 2011).
    """
    from sklearn.utils.extmath import randomized_svd, svd_flip

    # Several threads would only wait for one another.
    with single_threaded_products():
        left, _, right = randomized_svd(values, n_components, n_iter=5, random_state=seed, flip_sign=False)
        return svd_flip(left, right, u_based_decision=False)[1]


def single_threaded_products() -> AbstractContextManager[Any]:
    """Return a context in which a matrix product uses a single thread; everything is as before afterwards."""
    return _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  so that its library is found, too

    # Looking for libraries takes 5 to 10 ms, longer than what is computed in many of these contexts.
    return ThreadpoolController().select(user_api="blas")
