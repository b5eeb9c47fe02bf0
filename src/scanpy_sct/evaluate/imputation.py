"""Mask a part of the data, let every method predict it, and compare."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.evaluate._arguments import check_number, load_optional
from scanpy_sct.evaluate.methods.sct import training_detection
from scanpy_sct.evaluate.metrics import measure
from scanpy_sct.evaluate.registry import choose
from scanpy_sct.evaluate.source import read_source
from scanpy_sct.evaluate.tasks import build_task, parse_task
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.coordinates import read_coordinates
from scanpy_sct.read.gene_table import released_vocabulary
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.run.options import as_seed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.evaluate.observed import Observed
    from scanpy_sct.evaluate.registry import Function

logger = logging.getLogger(__name__)

QUICK_METHODS = (
    "predict_zero",
    "gene_mean",
    "bag_mean",
    "poisson_dataset",
    "poisson_bag",
    "knn_vote",
    "knn_poisson",
    "svd",
    "sct",
)
"""Methods that take seconds to minutes on a laptop and need no optional package."""

COLUMNS = ["task", "method", "stratum", "metric", "value", "lower", "upper", "n_entries"]


def imputation(
    adata: AnnData,
    *,
    methods: str | Function | Iterable[str | Function] = QUICK_METHODS,
    tasks: str | Iterable[str] = ("entries_15",),
    model: str | PathLike[str] | Checkpoint | None = "sct-mini",
    layer: str | None = None,
    library_key: str | None = None,
    labels_key: str | None = None,
    gene_names: str | None = None,
    scale: GivenScale = "auto",
    n_bootstrap: int = 200,
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Mask a part of the data, and measure how well each method predicts it from the rest.

    All methods see the same values of the same genes, those of `adata` that the model knows, and predict the same
    masked ones. What is masked depends on `rng`, the task and the data, not on methods or other tasks, so that runs
    with different ones can be compared.

    The tasks are

    - `entries_15`, or any other percentage: entries at random, zeros and others alike. A cell of which nothing would
      stay visible is not masked and not tested. Here and with `genes`, at most five million masked entries are drawn
      as targets.
    - `genes`: one gene in ten masked in every cell, among genes that are detected in at least 1 % and three of the
      cells.
    - `thinning`: nine in ten molecules are visible, the tenth is compared with (needs counts), as in the denoising task
      of Open Problems.
    - `panel_300`, or any other number: the most variable genes stay, as if only they were measured; the targets are
      at most two million entries of other genes that are detected in at least 1 % and three of the cells.

    Parameters
    ----------
    adata
        Counts or log-normalised values; never changed. Logarithms to base 2 or 10 of what were counts are turned into
        natural ones first, on which methods and metrics work.
    methods
        Names from :func:`scanpy_sct.evaluate.methods`, functions as :func:`scanpy_sct.evaluate.method` describes
        them, or "all": every method for which the data and the installed packages suffice. `sct` is
        :func:`scanpy_sct.tl.impute` with its defaults (for `thinning` with `denoise=True`), `sct_network` the same
        without `blend`.
    tasks
        One or several of the above.
    model
        The model to test, as in :func:`scanpy_sct.load_model`. None: no model, with the genes of the released one.
    layer
        Layer to read; None: `.X`.
    library_key
        Column of `.obs` that names the sample of each cell: bags never mix samples, and intervals are taken over
        samples if there are at least five.
    labels_key
        Column of `.obs` with cell types, for methods that use them.
    gene_names
        Column of `.var` with gene names; None: `.var_names`.
    scale
        What the values are, as in :func:`scanpy_sct.tl.impute`.
    n_bootstrap
        Number of resamplings from which intervals are taken; 0: no intervals.
    rng
        Seed or generator.

    Returns
    -------
    One row for each task, method, stratum and metric, with the columns `task`, `method`, `stratum`, `metric`, `value`,
    `lower` and `upper` (a 95 % bootstrap interval over samples, or over 50 random groups of cells) and `n_entries`, the
    number of entries of the stratum.

    Raises
    ------
    ValueError, TypeError
        An unknown method or task, a method whose needs are not met, a task that the data do not allow, data that
        cannot be read (see :class:`scanpy_sct.read.reader.CellReader`), or an argument of the wrong type; all before
        any method runs.
    ImportError
        A method was named that needs an optional package.
    KeyError
        `layer`, `library_key`, `labels_key` or `gene_names` does not exist.

    Notes
    -----
    The strata are `all`; `zero` and `non-zero`, by what was measured; and `gene < 1 %`, `gene 1-10 %`, `gene 10-50 %`
    and `gene > 50 %`, by the detection rate of the gene. The metrics are

    - `average_precision`, of 'is this entry detected?'; higher is better;
    - `calibration_error`, expected calibration error of the detection probability; lower is better;
    - `bin_mcc`, Matthews correlation of not detected / four bins between a cell's smallest and largest visible log
      value; as many entries are called detected as among the visible ones or, where whole genes are masked, as the
      method expects; higher is better;
    - `level_mcc`, of detected entries: the same of the four bins alone, by the conditional mean; higher is better;
    - `gene_pearson`, `gene_spearman`, `cell_pearson`, `cell_spearman`, mean over genes (cells) with at least ten
      detected entries of the correlation of log values across cells (genes); higher is better;
    - `rmse`, root mean squared error of log values; lower is better;
    - where whole genes are masked also `ssim` (higher is better), `rmse_z` and `js_divergence` (lower is better), mean
      over genes, as Li et al. 2022 (Nature Methods 19, 662) define them, here for log values;
    - `predicted_rate` and `measured_rate`, the reliability curve, in strata `probability 0.0-0.1` and so on;
    - in `thinning` only `mse` and `poisson` as in Open Problems; lower is better.

    Metrics that are not defined in a stratum have no row.

    Log-normalised values were divided by the total of the whole cell, and still reveal it when some are masked; counts
    do not. Prefer counts where that may matter.
    """
    check_is_anndata(adata)
    tasks = _check_tasks(tasks)
    check_number("n_bootstrap", n_bootstrap)
    seed = _seed(rng)
    checkpoint = load_optional(model)
    available = {
        "checkpoint": checkpoint is not None,
        "training_frequencies": checkpoint is not None and training_detection(checkpoint) is not None,
        "labels": labels_key is not None,
        "coordinates": read_coordinates(adata)[0] is not None,
    }
    chosen = choose("imputation", methods, lambda need: available.get(need, False))
    source = read_source(
        adata,
        released_vocabulary() if checkpoint is None else checkpoint.genes,
        ReadOptions(layer=layer, library_key=library_key, gene_names=gene_names, scale=scale),
        labels_key=labels_key,
        checkpoint=checkpoint,
        seed=seed,
    )
    # What the data do not allow raises an error when a task is built: now, not after hours of those before it. None is
    # kept, since the tables of several may not fit into memory.
    for name in tasks[1:]:
        build_task(name, source)
    tables = []
    for name in tasks:
        task = build_task(name, source)
        for each in chosen:
            logger.info("Task %s: predicting %d entries by %s.", name, task.observed.n_targets, each.name)
            table = measure(task, each.function(_own(task.observed)), n_bootstrap)
            tables.append(table.assign(task=name, method=each.name))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _check_tasks(tasks: str | Iterable[str]) -> list[str]:
    """Return the names of tasks; unknown or repeated ones raise an error before anything is read."""
    tasks = [tasks] if isinstance(tasks, str) else list(tasks)
    for name in tasks:
        parse_task(name)
    if not tasks or len(set(tasks)) < len(tasks):
        msg = f"`tasks` must name one or several different tasks, as 'entries_15'; found {tasks or 'none'}."
        raise ValueError(msg)
    return tasks


def _seed(rng: int | np.random.Generator | None) -> int:
    """Turn the argument `rng` into a seed; the generator of an integer gives the same one as the integer."""
    generator = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(as_seed(rng))
    return int(generator.integers(2**32))


def _own(observed: Observed) -> Observed:
    """Copy what a method may write to, so that none changes what others see or what it is compared with.

    The dense tables of masked and target entries are too large to be copied each time: they can only be read.
    """
    names = ("counts", "log_values", "samples", "bags", "coordinates", "labels", "visible", "gene_index", "columns")
    parts = {name: getattr(observed, name) for name in names}
    copies = {name: part.copy() for name, part in parts.items() if part is not None}
    tables = {name: getattr(observed, name).view() for name in ("masked", "targets")}
    for table in tables.values():
        table.flags.writeable = False
    return replace(observed, **copies, **tables)
