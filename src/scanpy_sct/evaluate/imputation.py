"""Hide entries, let every method predict them, and compare."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scanpy_sct.evaluate.baselines import BASELINES, Guess, Observed, at_hidden
from scanpy_sct.evaluate.hidden import hide_entries, visible
from scanpy_sct.evaluate.metrics import (
    average_precision,
    bin_mcc,
    expected_calibration_error,
    expression_bins,
    gene_pearson,
    rate_matched,
)
from scanpy_sct.plan.bags import plan_bags, similarity_points
from scanpy_sct.plan.bins import bin_edges
from scanpy_sct.read.expression import Expression, read_expression
from scanpy_sct.read.genes import released_vocabulary, to_ensembl
from scanpy_sct.read.matrix import read_matrix

if TYPE_CHECKING:
    from os import PathLike

    from scanpy_sct.checkpoints import Checkpoint

logger = logging.getLogger(__name__)

SCT_PATHS = {"sct": "auto", "sct_direct": "direct", "sct_full": "full"}
"""Names under which the model takes part, and the path through the network that each stands for."""

METHODS = (*BASELINES, *SCT_PATHS)
"""Names that :func:`imputation` knows."""

_BAG_SIZE = 50
_MIN_CELLS = 3


def imputation(
    adata: AnnData,
    *,
    methods: Iterable[str] = (*BASELINES, "sct"),
    model: str | PathLike[str] | Checkpoint | None = "sct-mini",
    fraction: float = 0.15,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Hide measured entries, zeros and others alike, and measure how well each method predicts them.

    Every method sees the same visible entries of the same genes, those of `adata` that the model knows. Which entries
    are hidden depends on `rng` and on the shape of `adata` only, so that runs with different methods or models can be
    laid side by side. A cell of which nothing would stay visible is left whole and not tested.

    Parameters
    ----------
    adata
        Counts or log-normalised values; never changed.
    methods
        Any of `gene_constant`, `poisson_dataset`, `poisson_bag`, `knn_vote`, `knn_poisson`, `svd` (see
        :mod:`scanpy_sct.evaluate.baselines`) and `sct`, the model. The bags of `poisson_bag` are neighbourhoods on
        the tissue where `.obsm["spatial"]` exists, else groups of similar cells.
    model
        The model to test, as in :func:`scanpy_sct.load_model`. None: no model, with the genes of the released one.
    fraction
        Share of the entries to hide.
    layer
        Layer to read; None: `.X`.
    library_key
        Column of `.obs` that names the sample of each cell: bags never mix samples.
    gene_names
        Column of `.var` with gene names; None: `.var_names`.
    rng
        Seed or generator.

    Returns
    -------
    One row for each method and metric, with the columns `task` ("hidden entries"), `method`, `metric`, `value` and
    `n_entries`, the number of hidden entries. The metrics are

    - `average_precision`, of 'is this entry expressed?', higher is better;
    - `calibration_error`, expected calibration error of the probability of being expressed, lower is better;
    - `gene_pearson`, mean over genes of the correlation with the measured log values, higher is better;
    - `bin_mcc`, Matthews correlation of not expressed / four bins between a cell's smallest and largest visible log
      value; as many entries are called expressed as among the visible ones; higher is better.

    Raises
    ------
    ValueError
        An unknown method, "sct" without a model, a `fraction` that is not between 0 and 1, or data that cannot be
        read (see :func:`scanpy_sct.read.expression.read_expression`).
    KeyError
        `layer`, `library_key` or `gene_names` does not exist.
    """
    methods = _check_methods(methods, model)
    checkpoint = _load(model)
    vocabulary = released_vocabulary() if checkpoint is None else checkpoint.genes
    hiding, bagging, predicting = np.random.default_rng(rng).spawn(3)
    seed = int(predicting.integers(2**31))
    names = {"library_key": library_key, "gene_names": gene_names}
    task = hide(adata, vocabulary, fraction=fraction, layer=layer, hiding=hiding, bagging=bagging, **names)
    tables = []
    for method in methods:
        logger.info("Predicting %d hidden entries by %s.", len(task.truth), method)
        if method in BASELINES:
            guess = BASELINES[method](task.observed)
        else:
            guess = _sct(task, checkpoint, SCT_PATHS[method], seed, names)
        tables.append(score(task, guess).assign(method=method))
    columns = ["task", "method", "metric", "value", "n_entries"]
    return pd.concat(tables, ignore_index=True).assign(task="hidden entries")[columns]


@dataclass(frozen=True, eq=False)
class HiddenTask:
    """Data with hidden entries, and what these held."""

    seen: AnnData
    """The cells and genes of the data without what the hidden entries held."""
    hidden: np.ndarray
    """bool (n_cells, n_positions), by position of the vocabulary."""
    observed: Observed
    """What baselines see: the measured genes only, in the order of their positions."""
    truth: np.ndarray
    """float32 (n_hidden,): measured values on the log scale of the input, in row-major order."""


def hide(
    adata: AnnData,
    vocabulary: np.ndarray,
    *,
    fraction: float,
    hiding: np.random.Generator,
    bagging: np.random.Generator,
    layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
) -> HiddenTask:
    """Hide entries of the genes that belong to `vocabulary`.

    The hidden values are taken out of the data before these are read again, so that nothing computed from them, not
    even the total of a cell, can reach a method. A second column of the same gene is taken out as well.
    """
    names = {"library_key": library_key, "gene_names": gene_names}
    full = read_expression(adata, vocabulary, token_scale="log1p_counts", layer=layer, **names)
    if adata.n_obs < _MIN_CELLS:
        msg = f"adata has {adata.n_obs} cells; at least {_MIN_CELLS} are needed to predict one from the others."
        raise ValueError(msg)
    matrix = read_matrix(adata, layer)
    measured = np.zeros(adata.n_vars, dtype=bool)
    measured[full.genes.columns] = True
    by_column = hide_entries(*matrix.shape, fraction, measured=measured, rng=hiding)
    by_column[visible(matrix[:, measured], by_column[:, measured]).getnnz(axis=1) == 0] = False
    if not by_column.any():
        msg = f"`fraction`={fraction} hides no entry of {adata.n_obs} cells x {measured.sum()} genes; use a larger one."
        raise ValueError(msg)
    kept = _without_duplicates(adata, full, vocabulary, gene_names)
    seen = AnnData(X=visible(matrix, by_column)[:, kept], obs=adata.obs, var=adata.var.loc[kept])
    if full.coordinates is not None:
        seen.obsm["spatial"] = full.coordinates

    hidden = np.zeros(full.log_values.shape, dtype=bool)
    hidden[:, full.genes.positions] = by_column[:, full.genes.columns]
    truth = at_hidden(hidden, lambda rows: full.log_values[rows].toarray())
    return HiddenTask(seen, hidden, _observe(seen, full, hidden, vocabulary, names, bagging), truth)


def score(task: HiddenTask, guess: Guess) -> pd.DataFrame:
    """Compare predictions with what was measured; one row a metric."""
    n_missing = int((~np.isfinite(guess.detection) | ~np.isfinite(guess.value)).sum())
    if n_missing:
        msg = f"{n_missing} of {len(task.truth)} hidden entries were left without a prediction."
        raise ValueError(msg)
    cell, gene = np.nonzero(task.observed.hidden)
    values = {
        "average_precision": average_precision(task.truth > 0, guess.detection),
        "calibration_error": expected_calibration_error(task.truth > 0, guess.detection),
        "gene_pearson": gene_pearson(task.truth, guess.value, gene),
        "bin_mcc": _bin_mcc(task, guess, cell),
    }
    return pd.DataFrame({"metric": list(values), "value": list(values.values()), "n_entries": len(task.truth)})


def _bin_mcc(task: HiddenTask, guess: Guess, cell: np.ndarray) -> float:
    """Turn values and predictions into bins, with as many expressed entries as among the visible ones."""
    log, hidden = task.observed.log, task.observed.hidden
    edges = bin_edges(log)
    rate = log.nnz / max(hidden.size - len(task.truth), 1)
    expressed, called = task.truth > 0, rate_matched(guess.detection, rate)
    truth, predicted = np.zeros((2, len(cell)), dtype=np.int64)
    truth[expressed] = expression_bins(task.truth[expressed], cell[expressed], edges)
    given_expressed = guess.value[called] / np.maximum(guess.detection[called], 1e-6)
    predicted[called] = expression_bins(given_expressed, cell[called], edges)
    return bin_mcc(truth, predicted)


def _sct(task: HiddenTask, checkpoint: Checkpoint, path: str, seed: int, names: dict[str, str | None]) -> Guess:
    """Let the model predict what it does not see."""
    from scanpy_sct.predict import predict_hidden

    expression = read_expression(task.seen, checkpoint.genes, token_scale=checkpoint.tokens.scale, **names)
    prediction = predict_hidden(checkpoint, expression, task.hidden, path=path, rng=seed)
    # Positions are predicted in increasing order, as the hidden entries are listed.
    hidden = task.hidden[:, prediction.positions]
    return Guess(prediction.detection[hidden], prediction.value[hidden])


def _observe(
    seen: AnnData,
    full: Expression,
    hidden: np.ndarray,
    vocabulary: np.ndarray,
    names: dict[str, str | None],
    bagging: np.random.Generator,
) -> Observed:
    """Read what is left visible, and divide the cells into bags."""
    expression = read_expression(seen, vocabulary, token_scale="log1p_counts", **names)
    if expression.scale != full.scale or not np.array_equal(expression.measured, full.measured):
        msg = (
            f"adata was read as {full.scale} values, and as {expression.scale} ones after some were hidden, so that it "
            "cannot be evaluated. Use counts: name their layer with `layer=`."
        )
        raise ValueError(msg)
    measured = np.flatnonzero(expression.measured)
    token_values = expression.token_values[:, measured]
    return Observed(
        counts=sparse.csr_matrix(token_values.expm1()),
        log=expression.log_values[:, measured],
        hidden=hidden[:, measured],
        samples=expression.samples,
        bags=_bag_of_each_cell(expression, bagging),
    )


def _bag_of_each_cell(expression: Expression, rng: np.random.Generator) -> np.ndarray:
    """Find the number of the bag in which each cell is a target, (n_cells,)."""
    points = expression.coordinates
    if points is None:
        points = similarity_points(expression.log_values, seed=int(rng.integers(2**31)))
    bag_of = np.empty(len(expression.samples), dtype=np.int64)
    for number, bag in enumerate(plan_bags(expression.samples, _BAG_SIZE, rng, points)):
        bag_of[bag.rows[: bag.n_targets]] = number
    return bag_of


def _without_duplicates(adata: AnnData, full: Expression, vocabulary: np.ndarray, gene_names: str | None) -> np.ndarray:
    """Mark the columns to show, bool (n_vars,): all but those that measure a gene once more."""
    kept = np.ones(adata.n_vars, dtype=bool)
    if full.genes.duplicates:
        names = adata.var_names if gene_names is None else adata.var[gene_names]
        kept = ~np.isin(to_ensembl(names, vocabulary=vocabulary).ensembl_ids, vocabulary[vocabulary != ""])
        kept[full.genes.columns] = True
    return kept


def _check_methods(methods: Iterable[str], model: object) -> list[str]:
    """Refuse names that no method has."""
    methods = [methods] if isinstance(methods, str) else list(methods)
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        found = ", ".join(map(repr, unknown)) or "none"
        msg = f"`methods` must be some of {', '.join(METHODS)}; found {found}."
        raise ValueError(msg)
    with_model = [method for method in methods if method in SCT_PATHS]
    if with_model and model is None:
        msg = f"`methods` contains {with_model}, but `model` is None: name a model, or leave them out."
        raise ValueError(msg)
    return methods


def _load(model: str | PathLike[str] | Checkpoint | None) -> Checkpoint | None:
    """Load a checkpoint if there is to be one; torch is imported only then."""
    if model is None:
        return None
    from scanpy_sct.checkpoints import load_model

    return load_model(model)
