"""The data as they are, for comparison."""

from __future__ import annotations

import numpy as np

import scanpy_sct as sct


@sct.evaluate.method("no_imputation", replace=True)
def no_imputation(observed: sct.evaluate.Observed) -> np.ndarray:
    """Leave the visible counts as they are; only where nothing is masked."""
    return observed.at_targets(lambda rows: observed.counts[rows].toarray())
