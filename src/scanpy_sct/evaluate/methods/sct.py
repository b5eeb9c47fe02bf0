"""The model under test, and what its training alone would say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scanpy_sct.evaluate.observed import Guess
from scanpy_sct.evaluate.registry import method
from scanpy_sct.read.expression import Expression, read_expression

if TYPE_CHECKING:
    from scanpy_sct.checkpoints import Checkpoint
    from scanpy_sct.evaluate.observed import Observed

TOTAL = 1e4


@method("sct", needs=("checkpoint",))
def sct(observed: Observed) -> Guess | np.ndarray:
    """Predict as :func:`scanpy_sct.tl.impute` does by default: network and data, blended.

    Where nothing is hidden (thinned counts) its `denoise` is used, on values that were log-normalised as scanpy's users
    do it; the result is taken back to counts.
    """
    return predict_with(observed, observed.checkpoint, blend=True)


@method("sct_network", needs=("checkpoint",))
def sct_network(observed: Observed) -> Guess | np.ndarray:
    """Predict by the network alone, calibrated to what is visible."""
    return predict_with(observed, observed.checkpoint, blend=False)


@method("sct_full", needs=("checkpoint", "convolutions"))
def sct_full(observed: Observed) -> Guess | np.ndarray:
    """Predict by the whole network, convolutions included, calibrated to what is visible. Slow."""
    return predict_with(observed, observed.checkpoint, blend=False, path="full")


@method("sct_finetuned", needs=("checkpoint", "package:lightning-fabric"))
def sct_finetuned(observed: Observed) -> Guess | np.ndarray:
    """Do as `sct`, after the model was trained further on the visible entries (minutes)."""
    from scanpy_sct.train import finetune

    expression = _read(observed, observed.checkpoint)
    model = finetune(
        observed.checkpoint,
        observed.seen,
        library_key=observed.library_key,
        hide=_hidden_columns(observed, expression),
        rng=observed.seed,
    )
    return predict_with(observed, model, blend=True)


@method("training_rates", needs=("training_frequencies",))
def training_rates(observed: Observed) -> np.ndarray:
    """Expect the gene's rate in the training data of the model, times the depth of the cell.

    A Poisson count: the rate is minus the logarithm of the share of training cells without the gene; the depth of a
    cell is the number of visible genes that it expresses over the number that these rates let expect. What a model
    must beat where whole genes are hidden. Only for checkpoints that keep these shares.
    """
    zero_share = (
        observed.checkpoint.network.profile.log_prior[:, 0].exp().cpu().numpy()[observed.positions].astype(np.float64)
    )
    rates = -np.log(np.clip(zero_share, 1e-6, 1))
    expected = np.maximum((~observed.hidden).astype(np.float32) @ (1 - zero_share), 1e-6)
    depth = (observed.log.getnnz(axis=1) + 1) / (expected + 1)
    return observed.at_wanted(lambda rows: rates * depth[rows, None])


def predict_with(
    observed: Observed, model: Checkpoint, *, blend: bool, path: str = "auto", bags: str = "auto"
) -> Guess | np.ndarray:
    """Predict by any checkpoint, with bags of any kind; see :func:`scanpy_sct.tl.impute`."""
    if not observed.hidden.any():
        return _denoise(observed, model, blend=blend, path=path, bags=bags)
    from scanpy_sct.impute.entries import predict_hidden

    expression = _read(observed, model)
    hidden = np.zeros(expression.log_values.shape, dtype=bool)
    hidden[:, observed.positions] = observed.hidden
    hidden &= expression.measured
    found = predict_hidden(
        model,
        expression,
        sparse.csr_matrix(hidden),
        positions=observed.positions,
        path=path,
        bags=bags,
        blend=blend,
        rng=observed.seed,
    )
    detection, level = found.detection[observed.wanted], found.level[observed.wanted]
    count = detection * np.expm1(level) / np.maximum(observed.by_cell(observed.unit), 1e-12)
    return Guess(count, detection, detection * level)


def _denoise(observed: Observed, model: Checkpoint, *, blend: bool, path: str, bags: str) -> np.ndarray:
    import scanpy as sc

    from scanpy_sct.tl import impute

    cells = observed.seen.copy()
    totals = np.asarray(cells.X.sum(axis=1), dtype=np.float64).ravel()
    sc.pp.normalize_total(cells, target_sum=TOTAL)
    sc.pp.log1p(cells)
    impute(
        cells,
        model=model,
        library_key=observed.library_key,
        path=path,
        bags=bags,
        blend=blend,
        denoise=True,
        rng=observed.seed,
    )
    columns = _columns(observed, _read(observed, model))
    per_count = totals / TOTAL
    return observed.at_wanted(lambda rows: np.expm1(cells.layers["sct"][rows][:, columns]) * per_count[rows, None])


def _read(observed: Observed, model: Checkpoint) -> Expression:
    return read_expression(observed.seen, model.genes, token_scale=model.tokens.scale, library_key=observed.library_key)


def _columns(observed: Observed, expression: Expression) -> np.ndarray:
    """Column of `observed.seen` that holds each gene, -1 where it was not measured."""
    column = np.full(len(expression.measured), -1)
    column[expression.genes.positions] = expression.genes.columns
    return column[observed.positions]


def _hidden_columns(observed: Observed, expression: Expression) -> sparse.csr_matrix | None:
    """Hidden entries as a mask of `observed.seen`."""
    columns = _columns(observed, expression)
    measured = columns >= 0
    if not observed.hidden[:, measured].any():
        return None
    mask = np.zeros(observed.seen.shape, dtype=bool)
    mask[:, columns[measured]] = observed.hidden[:, measured]
    return sparse.csr_matrix(mask)
