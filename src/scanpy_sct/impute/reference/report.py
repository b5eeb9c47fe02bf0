"""Plan the use of a reference, and report what it was worth."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from scanpy_sct.impute.reference.fit import ReferenceFit, ReferenceTask
from scanpy_sct.impute.reference.weights import KINDS
from scanpy_sct.read.reader import CellReader
from scanpy_sct.read.reference import ReferenceCells

logger = logging.getLogger(__name__)

MIN_CELLS = 50
MIN_SHARED = 20
"""Fewest genes that both objects must have measured."""
MIN_EXPLAINED = 0.02
"""If the best source explains less of the deviance, none can be judged."""
OFF = 0.6
"""A source that explains less than this fraction of the best is reported. Of eight pairs, it was 0.43 and 0.49 where a
source came from another tissue, and 0.9 or more elsewhere."""


def plan_reference(cells: ReferenceCells, reader: CellReader, unmeasured: np.ndarray) -> ReferenceTask:
    """Find the genes that both objects measured.

    Raises
    ------
    ValueError
        No requested gene is unmeasured, or both objects measured too few genes.
    """
    if not len(unmeasured):
        msg = (
            "reference= is used for genes that adata did not measure, and all requested genes are measured; request "
            "others with genes=, or omit the reference."
        )
        raise ValueError(msg)
    both = np.flatnonzero(reader.measured & ~reader.partly_measured)
    shared = both[np.isin(both, cells.gene_index)]
    if len(shared) < MIN_SHARED:
        msg = (
            f"reference has {len(shared)} of the {len(both)} genes that adata measured; at least {MIN_SHARED} are "
            "needed. Check its gene names (`reference_gene_names=`), and that it detects them."
        )
        raise ValueError(msg)
    n_cells = int((cells.at(shared).getnnz(axis=1) > 0).sum())
    if n_cells < MIN_CELLS:
        msg = (
            f"reference has {n_cells} cells with counts of the {len(shared)} genes that both objects measured; at "
            f"least {MIN_CELLS} are needed. Pass a deeper reference, or one with more of these genes."
        )
        raise ValueError(msg)
    return ReferenceTask(cells, unmeasured, shared)


def warn_if_off(fit: ReferenceFit) -> None:
    """Log a warning if network or reference predict measured genes that are left out much worse than the other does."""
    explained = dict(zip(KINDS, fit.weights.explained, strict=True))
    best = max(explained.values())
    if not best > MIN_EXPLAINED:  # or NaN
        logger.warning(
            "Whether model and reference fit these data is not known: neither predicts measured genes that are left "
            "out (explained deviance: %.2f), or too few could be left out. Do not trust unmeasured genes without other "
            "evidence.",
            best,
        )
        return
    for source, name in (("reference", "reference"), ("network", "model")):
        if explained[source] < OFF * best:
            logger.warning(
                "The %s does not fit these data: in measured genes that were left out, it explains a fraction of %.2f "
                "of the deviance, and both sources together %.2f. They are weighted accordingly, but do not trust "
                "genes that only the %s knows.",
                *(name, explained[source], explained["both"], name),
            )


def reference_details(fit: ReferenceFit, names: list[str]) -> dict[str, Any]:
    """Collect the record of a fit for unmeasured genes of these ``names``."""
    weights = fit.weights
    return {
        "unmeasured": table_of_genes(fit, names),
        "reference": {
            "cells": len(fit.model.totals),
            "shared_genes": len(fit.shared),
            "detection_weights": dict(zip(KINDS, weights.detection, strict=True)),
            "mean_weights": dict(zip(KINDS, weights.mean, strict=True)),
            "explained": dict(zip(KINDS, weights.explained.tolist(), strict=True)),
            "level_error": dict(zip(("network", "reference"), fit.level_error.tolist(), strict=True)),
        },
    }


def table_of_genes(fit: ReferenceFit, names: list[str]) -> pd.DataFrame:
    """Describe each unmeasured gene: trust, detection rate in the reference, source."""
    rates = np.append(fit.model.counts.getnnz(axis=0) / len(fit.model.totals), np.nan)
    return pd.DataFrame(
        {
            "trust": fit.trust,
            "reference_detection": rates[fit.reference_column],
            "source": pd.Categorical.from_codes(fit.kind, list(KINDS)),
        },
        index=pd.Index(names, dtype=object),
    )
