"""Annotate cells whose labels are known, and compare."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.annotate.marker_table import marker_table
from scanpy_sct.evaluate._arguments import check_number, load_optional
from scanpy_sct.evaluate.annotation_methods import (
    MARKERS,
    SCALE,
    Context,
    choose,
    is_calibrated,
    knn,
    learns,
    logistic_regression,
    shared_genes,
)
from scanpy_sct.evaluate.annotation_metrics import METRICS, compare, estimate, unknown_auroc
from scanpy_sct.evaluate.annotation_splits import DONOR, LABEL, Split, check_learnable, make_splits, plain_copy, without
from scanpy_sct.evaluate.metrics.bootstrap import group_cells
from scanpy_sct.evaluate.registry import Function, Method
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.run.options import as_seed

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.annotate.marker_table import Markers
    from scanpy_sct.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

COLUMNS = ["split", "method", "metric", "value", "lower", "upper", "n_cells"]
MIN_LEFT_OUT = 5
"""A type with fewer cells to annotate is not left out."""


def annotation(
    adata: AnnData,
    labels_key: str,
    *,
    reference: AnnData | None = None,
    donor_key: str | None = None,
    methods: str | Function | Iterable[str | Function] | None = None,
    model: str | PathLike[str] | Checkpoint | None = "sct-mini",
    markers: Markers | None = None,
    leave_one_type_out: bool = False,
    layer: str | None = None,
    gene_names: str | None = None,
    scale: GivenScale = "auto",
    reference_scale: GivenScale = "auto",
    n_bootstrap: int = 200,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Annotate labelled cells by several methods, and measure their accuracy and calibration.

    With `reference`, all of `adata` is annotated from it. Without, each donor of `adata` is annotated from all others
    (`donor_key`), or, where there are no donors, one half of the cells from the other half: that result holds for
    cells of the same experiment only. Methods that use markers or a label head need no labelled cells.

    Parameters
    ----------
    adata
        Counts or log-normalised values, with labels; never changed.
    labels_key
        Column of `.obs` with the labels, one for every cell; in `reference` too. A label that none of the labelled
        cells has, such as "unknown", only counts in `unknown_auroc`.
    reference
        Labelled cells of another experiment, with the same names of genes and labels; never changed.
    donor_key
        Column of `.obs` with the donor, or the study, of each cell. With `reference`: the donors over which intervals
        are computed; where `reference` has the column as well, `sct` is calibrated on its donors.
    methods
        Any of

        - `sct`: :func:`scanpy_sct.tl.annotate` from the labelled cells, with its defaults;
        - `sct_markers`: :func:`scanpy_sct.tl.annotate` from `markers`; `sct_label_head`: from the label head of the
          model, for cells with its labels;
        - `logistic_regression`: on 50 principal components of the labelled cells; `knn`: the 15 nearest ones vote;
        - `marker_mean`: mean of the measured markers of each type, each standardised over the cells;
        - a method that is registered with ``scanpy_sct.evaluate.method(name, task="annotation")``;
        - a function that takes labelled cells, cells to annotate, the column with the labels and a seed, and returns
          a DataFrame, cells to annotate x labels. Its entries are read as probabilities, and one minus the largest of a
          row as the probability of a type that the labelled cells lack: a row may sum to less than one. `markers` are
          in `.uns["markers"]` of the cells to annotate, a table with the columns `label` and `gene`.

        None: all of these and all registered methods that have what they need.
    model
        The model to test, as in :func:`scanpy_sct.load_model`; None: no model, for the methods that need none.
    markers
        Marker genes of the types, as in :func:`scanpy_sct.tl.annotate`; the types have the names of the labels.
    leave_one_type_out
        Remove one type at a time from the reference, and measure whether its cells are recognised as unknown. The run
        time grows with the number of types.
    layer
        Layer to read, also in `reference`; None: `.X`.
    gene_names
        Column of `.var` with gene names, also in `reference` where it has that column; None: `.var_names`. Methods find
        the names in `.var_names`. Of several columns with one name, methods that take genes by name use the first.
    scale, reference_scale
        What the values of `adata`, and of `reference`, are, as in :func:`scanpy_sct.tl.impute`. Methods find it in
        `.uns["scale"]`.
    n_bootstrap
        Resamplings for intervals; 0: none.
    rng
        Seed or generator.

    Returns
    -------
    One row for each split, method and metric, with the columns `split` ("reference", "held-out donors", "halves",
    "all cells" for markers without any of these; "without <type>" and their mean "leave one type out"), `method`,
    `metric`, `value`, `lower` and `upper` (95 % bootstrap interval over donors if there are at least five, else over
    cells) and `n_cells`. The metrics are

    - `accuracy` and `macro_f1` of the most probable labels, over cells whose type the method knows;
    - `calibration_error`: expected calibration error of their probabilities in 15 bins, for methods that give any;
    - `accuracy_at_90`, `accuracy_at_75`, `accuracy_at_50`: accuracy among the 90, 75 and 50 % of these cells whose
      labels are most certain;
    - `unknown_auroc`: area under the ROC curve with which one minus the probability of the best label separates cells
      of types that the method lacks from those of types it knows; 0.5 for random scores. With `leave_one_type_out`, for
      each type that has at least five cells to annotate, and their mean.

    Raises
    ------
    ValueError, TypeError, KeyError
        An argument or an object cannot be used; before anything is computed.
    ImportError
        A registered method needs a package that is not installed.

    Notes
    -----
    Labels are not the truth: those of a clustering are made from the expression itself, and sorted cells are not pure.
    Cells of one donor are alike, so intervals over cells are too narrow for conclusions about other donors.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.evaluate.annotation(adata, "bulk_labels", methods=["logistic_regression", "knn"])
    """
    seed = as_seed(rng)
    check_number("n_bootstrap", n_bootstrap)
    keys = (labels_key, donor_key, layer, gene_names)
    query = plain_copy(adata, "adata", *keys)
    known = None if reference is None else plain_copy(reference, "reference", *keys, optional=True)
    query.uns[SCALE] = ReadOptions(scale=scale).scale
    if known is not None:
        known.uns[SCALE] = ReadOptions(scale=reference_scale, owner="reference").scale
    if markers is not None:
        query.uns[MARKERS] = marker_table(markers).drop_duplicates()
    context = Context(
        checkpoint=load_optional(model),
        library_key=None if donor_key is None else DONOR,
        markers=markers,
        gene_names=gene_names,
        labels=frozenset(query.obs[LABEL]),
        var_names=query.var_names,
    )
    chosen = choose(methods, context)
    any_learns = any(map(learns, chosen))
    if any_learns:
        labelled, argument = (query, "adata") if known is None else (known, "reference")
        check_learnable(labelled, f"{argument}.obs[{labels_key!r}]")
    splits = make_splits(query, known, any_learns, seed)
    if any(each.function in (logistic_regression, knn) for each in chosen):
        shared_genes(splits[0].reference, splits[0].query)
    groups = _groups(query, seed)
    rows = [row for method in chosen for row in _evaluate(method, splits, groups, n_bootstrap, seed)]
    for method in chosen if leave_one_type_out else []:
        if learns(method):
            rows += _leave_types_out(method, splits, groups, n_bootstrap, seed)
    return pd.DataFrame(rows, columns=COLUMNS)


def _evaluate(
    method: Method, splits: list[Split], groups: np.ndarray, n_bootstrap: int, seed: int
) -> Iterator[tuple[object, ...]]:
    """Yield all metrics of one method, over the cells of all splits."""
    predictions = _predict(method, splits, groups, seed)
    known = predictions[predictions["is_known"]]
    if not len(known):
        found = ", ".join(np.unique(predictions["label"])[:5])
        msg = f"Method {method.name!r} knows none of the labels of adata; it predicts {found}, ... Use the same labels."
        raise ValueError(msg)
    for metric, function in METRICS.items():
        if metric != "calibration_error" or is_calibrated(method):
            result = estimate(function, known, n_bootstrap, seed)
            yield splits[0].name, method.name, metric, *result, len(known)
    if (~predictions["is_known"]).sum() >= MIN_LEFT_OUT:
        result = estimate(unknown_auroc, predictions, n_bootstrap, seed)
        yield splits[0].name, method.name, "unknown_auroc", *result, len(predictions)


def _leave_types_out(
    method: Method, splits: list[Split], groups: np.ndarray, n_bootstrap: int, seed: int
) -> Iterator[tuple[object, ...]]:
    """Yield how well each type is recognised as unknown when the references lack it, and the mean."""
    values, n_cells = [], 0
    labels = pd.concat([split.query.obs[LABEL] for split in splits]).value_counts()
    for left_out in sorted(labels.index[labels >= MIN_LEFT_OUT]):
        parts = [part for split in splits if (part := without(split, left_out)) is not None]
        if not parts:
            continue
        predictions = _predict(method, parts, groups, seed)
        is_left_out = predictions["truth"] == left_out
        # Cells of other types that the reference lacks do not count: the result is about this type.
        counted = predictions[predictions["is_known"] | is_left_out]
        result = estimate(unknown_auroc, counted, n_bootstrap, seed)
        values.append(result.value)
        n_cells += int(is_left_out.sum())
        yield f"without {left_out}", method.name, "unknown_auroc", *result, len(counted)
    if values:
        yield "leave one type out", method.name, "unknown_auroc", float(np.nanmean(values)), np.nan, np.nan, n_cells


def _predict(method: Method, splits: list[Split], groups: np.ndarray, seed: int) -> pd.DataFrame:
    """Annotate the cells of splits; a method gets copies, so that it cannot change what another one reads."""
    parts = []
    for split in splits:
        logger.info("Annotating %d cells from %d by %s.", split.query.n_obs, split.reference.n_obs, method.name)
        query = split.query.copy()
        truth = query.obs.pop(LABEL).to_numpy(dtype=str)
        table = method.function(split.reference.copy(), query, LABEL, seed)
        _check_table(table, method.name, query.n_obs)
        parts.append(compare(table, truth, groups[split.rows]))
    return pd.concat(parts, ignore_index=True)


def _check_table(table: pd.DataFrame, name: str, n_cells: int) -> None:
    """Raise an error unless it is a table of probabilities."""
    if not isinstance(table, pd.DataFrame) or len(table) != n_cells or table.shape[1] < 1:
        found = getattr(table, "shape", type(table).__name__)
        msg = f"Method {name!r} must return a DataFrame of {n_cells} cells x labels, found {found}."
        raise ValueError(msg)
    values = table.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-6:
        msg = f"Method {name!r} must return probabilities from 0 to 1, found {values.min():g} to {values.max():g}."
        raise ValueError(msg)


def _groups(query: AnnData, seed: int) -> np.ndarray:
    """Choose what a bootstrap draws: donors if there are at least five, else cells; int (n_cells,)."""
    if DONOR in query.obs and query.obs[DONOR].nunique() >= 5:
        return group_cells(query.obs[DONOR].cat.codes.to_numpy(), np.random.default_rng(seed))
    return np.arange(query.n_obs)
