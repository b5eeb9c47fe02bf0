"""A logistic regression that reads coordinates as `tl.annotate` does, to separate what these add from the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from scanpy_sct.annotate.tissue import centred, mean_of_nearest, sample_means, with_nearest
from scanpy_sct.evaluate import method
from scanpy_sct.evaluate.annotation_methods import shared_components
from scanpy_sct.evaluate.annotation_splits import DONOR


@method("logistic_regression_on_tissue", task="annotation", needs="reference", replace=True)
def logistic_regression_on_tissue(reference: AnnData, query: AnnData, labels_key: str, seed: int) -> pd.DataFrame:
    """Do as `logistic_regression`, relative to the samples, and multiply probabilities by those of the nearest cells.

    Both objects have coordinates; samples are their donors.
    """
    known, others = shared_components(reference, query, seed)
    model = LogisticRegression(max_iter=1000).fit(
        _relative(known, _samples(reference)), reference.obs[labels_key].astype(str).to_numpy()
    )
    found = model.predict_log_proba(_relative(others, _samples(query)))
    nearest = mean_of_nearest(query.obsm["spatial"], _samples(query), np.zeros(query.n_obs, dtype=bool))
    return pd.DataFrame(softmax(with_nearest(found, nearest), axis=1), index=query.obs_names, columns=model.classes_)


def _samples(cells: AnnData) -> np.ndarray:
    return pd.factorize(cells.obs[DONOR])[0] if DONOR in cells.obs else np.zeros(cells.n_obs, dtype=int)


def _relative(components: np.ndarray, samples: np.ndarray) -> np.ndarray:
    means = sample_means(components, samples, np.zeros(len(samples), dtype=bool))
    return centred(components, means[samples])
