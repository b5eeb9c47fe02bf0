"""How well a method predicts: metrics from sums over groups of cells, so that resampling them costs little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scanpy_sct.evaluate.metrics.entries import rows_of_entries
from scanpy_sct.evaluate.metrics.thinned import rows_of_thinned
from scanpy_sct.evaluate.observed import check_prediction, complete

if TYPE_CHECKING:
    import numpy as np

    from scanpy_sct.evaluate.observed import Prediction
    from scanpy_sct.evaluate.tasks import Task

__all__ = ["measure"]


def measure(task: Task, answer: Prediction | np.ndarray, n_bootstrap: int = 200) -> pd.DataFrame:
    """Compare what a method returned with what was measured.

    95 % intervals come from `n_bootstrap` resamplings (0: none), which are the same for every method. Returns one row
    for each stratum and metric, with `stratum`, `metric`, `value`, `lower`, `upper` and `n_entries`.

    Raises
    ------
    TypeError, ValueError
        The answer is of the wrong kind or shape, or incomplete.
    """
    if task.test is not None:
        rows = rows_of_thinned(task, check_prediction(task.observed, answer).count, n_bootstrap)
    else:
        rows = rows_of_entries(task, complete(task.observed, answer), n_bootstrap)
    return pd.DataFrame(
        [(stratum, metric, *found, n_entries) for stratum, metric, found, n_entries in rows],
        columns=["stratum", "metric", "value", "lower", "upper", "n_entries"],
    )
