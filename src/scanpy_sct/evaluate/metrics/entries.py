"""All metrics of predictions of single entries, with their strata and intervals."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.evaluate.metrics import bootstrap, correlation, detection, profiles
from scanpy_sct.evaluate.metrics.bins import confusion_sums, expression_bins, mcc_score, rate_matched
from scanpy_sct.evaluate.metrics.bootstrap import Estimate, estimate, sums_by
from scanpy_sct.evaluate.metrics.strata import ALL, GENE_STRATA, NON_ZERO, ZERO, gene_strata
from scanpy_sct.plan.bins import bin_edges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scanpy_sct.evaluate.observed import Prediction
    from scanpy_sct.evaluate.tasks import Task

    Row = tuple[str, str, Estimate, int]

N_INTERVALS = 10
"""Intervals of probability of the reliability curve."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Measured and predicted entries, each (n_entries,), and the groups of cells that a bootstrap draws."""

    truth: np.ndarray
    """float32: measured value, on the log scale of the input."""
    value: np.ndarray
    """float32: expected value on that scale."""
    detection: np.ndarray
    """float32: probability of being detected."""
    cell: np.ndarray
    gene: np.ndarray
    true_bin: np.ndarray
    """int: bin of the measured value in its cell, 0 where not detected."""
    called_bin: np.ndarray
    """int: bin that is predicted."""
    level_bin: np.ndarray
    """int: bin of the predicted conditional mean."""
    group_of_cell: np.ndarray
    """int (n_cells,), 0, 1, ..."""
    n_bins: int
    weights: np.ndarray
    """(n_bootstrap, n_groups), from :func:`~scanpy_sct.evaluate.metrics.bootstrap.draw_weights`."""

    @cached_property
    def group(self) -> np.ndarray:
        """Group of each entry."""
        return self.group_of_cell[self.cell]

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return self.weights.shape[1]

    def only(self, chosen: np.ndarray) -> Entries:
        """Keep the chosen entries, bool (n_entries,)."""
        by_entry = [field.name for field in fields(self)][:8]
        return replace(self, **{name: getattr(self, name)[chosen] for name in by_entry})


def rows_of_entries(task: Task, prediction: Prediction, n_bootstrap: int) -> Iterator[Row]:
    """Compare predictions with what was measured.

    Yields
    ------
    Stratum, metric, estimate and number of entries of the stratum.
    """
    entries = compare(task, prediction, n_bootstrap)
    yield from _stratum(ALL, entries, task.masks_genes)
    yield from _reliability(entries)
    detected = entries.truth > 0
    yield from _rows(ZERO, entries.only(~detected), [_rmse])
    yield from _rows(NON_ZERO, entries.only(detected), [_level_mcc, _rmse, _gene_correlations, _cell_correlations])
    stratum = gene_strata(task.rates)[entries.gene]
    for number, name in enumerate(GENE_STRATA):
        yield from _stratum(name, entries.only(stratum == number), task.masks_genes)


def compare(task: Task, prediction: Prediction, n_bootstrap: int) -> Entries:
    """Align predictions with what was measured."""
    observed = task.observed
    cell, gene = np.nonzero(observed.targets)
    edges = bin_edges(observed.log_values)
    # Entries masked at random are detected as often as the visible ones. Genes masked as a whole need not be: there
    # the method's own expectation says how many to call.
    rate = float(prediction.detection.mean(dtype=np.float64))
    if not task.masks_genes:
        rate = observed.log_values.nnz / max(int((~observed.masked).sum()), 1)
    detected, called = task.truth > 0, rate_matched(prediction.detection, rate)
    true_bin = np.where(detected, expression_bins(task.truth, cell, edges), 0)
    conditional_mean = prediction.value / np.maximum(prediction.detection, 1e-6)
    level_bin = expression_bins(conditional_mean, cell, edges)
    rng = np.random.default_rng(task.seed)
    group_of_cell = bootstrap.group_cells(observed.samples, rng)
    return Entries(
        truth=task.truth,
        value=prediction.value,
        detection=prediction.detection,
        cell=cell,
        gene=gene,
        true_bin=true_bin,
        called_bin=np.where(called, level_bin, 0),
        level_bin=level_bin,
        group_of_cell=group_of_cell,
        n_bins=edges.shape[1],
        weights=bootstrap.draw_weights(int(group_of_cell.max()) + 1, n_bootstrap, rng),
    )


def _stratum(name: str, entries: Entries, masks_genes: bool) -> Iterator[Row]:
    """All metrics of a stratum that holds zeros and others."""
    metrics = [_average_precision, _calibration, _bin_mcc, _gene_correlations, _cell_correlations, _rmse]
    yield from _rows(name, entries, [*metrics, _profiles] if masks_genes else metrics)


def _rows(name: str, entries: Entries, metrics: list) -> Iterator[Row]:
    """Compute some metrics; those that are not defined are left out."""
    n_entries = len(entries.truth)
    for metric in metrics if n_entries else []:
        for label, found in metric(entries):
            if np.isfinite(found.value):
                yield name, label, found, n_entries


def _average_precision(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    sums = detection.precision_sums(entries.truth > 0, entries.detection, entries.group, entries.n_groups)
    yield "average_precision", estimate(sums, detection.precision_score, entries.weights)


def _calibration(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    sums = detection.calibration_sums(entries.truth > 0, entries.detection, entries.group, entries.n_groups)
    yield "calibration_error", estimate(sums, detection.calibration_score, entries.weights)


def _bin_mcc(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    sums = confusion_sums(entries.true_bin, entries.called_bin, entries.n_bins, entries.group, entries.n_groups)
    yield "bin_mcc", estimate(sums, mcc_score, entries.weights)


def _level_mcc(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    sums = confusion_sums(entries.true_bin, entries.level_bin, entries.n_bins, entries.group, entries.n_groups)
    yield "level_mcc", estimate(sums, mcc_score, entries.weights)


def _rmse(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    squared = np.square(entries.truth - entries.value, dtype=np.float64)
    sums = sums_by(entries.group, [squared, None], (entries.n_groups,))
    yield "rmse", estimate(sums, lambda totals: np.sqrt(bootstrap.ratio(totals)), entries.weights)


def _gene_correlations(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    """Mean over genes of the correlation across cells. Ranks are those among all entries of the gene."""
    keep, gene, genes = correlation.often_detected(entries.truth, entries.gene)
    if len(genes) == 0:
        return
    pair = entries.truth[keep], entries.value[keep]
    places = gene, len(genes), entries.group[keep], entries.n_groups
    sums = correlation.pearson_sums(*pair, *places)
    yield "gene_pearson", estimate(sums, correlation.mean_pearson, entries.weights)
    sums = correlation.pearson_sums(*correlation.ranks_of_both(*pair, gene, len(genes), sums), *places)
    yield "gene_spearman", estimate(sums, correlation.mean_pearson, entries.weights)


def _cell_correlations(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    """Mean over cells of the correlation across genes."""
    keep, cell, cells = correlation.often_detected(entries.truth, entries.cell)
    if len(cells) == 0:
        return
    pair, group = (entries.truth[keep], entries.value[keep]), entries.group_of_cell[cells]
    # A cell is drawn as a whole, so that its correlation is computed once.
    one_group = cell, len(cells), np.zeros_like(cell), 1
    sums = correlation.pearson_sums(*pair, *one_group)
    ranked = correlation.pearson_sums(*correlation.ranks_of_both(*pair, cell, len(cells), sums), *one_group)
    for label, of_cells in (("cell_pearson", sums), ("cell_spearman", ranked)):
        by_group = sums_by(group, [correlation.pearson(of_cells)[0], None], (entries.n_groups,))
        yield label, estimate(by_group, bootstrap.ratio, entries.weights)


def _profiles(entries: Entries) -> Iterator[tuple[str, Estimate]]:
    """Mean over genes of the similarity of measured and predicted profiles."""
    keep, gene, genes = correlation.often_detected(entries.truth, entries.gene)
    n_genes = len(genes)
    if n_genes == 0:
        return
    pair = entries.truth[keep], entries.value[keep]
    places = gene, n_genes, entries.group[keep], entries.n_groups
    sums = correlation.pearson_sums(*pair, *places)
    centre = np.stack([correlation.means(values, gene, n_genes) for values in pair])
    largest = np.zeros((2, n_genes))
    for row, values in zip(largest, pair, strict=True):
        np.maximum.at(row, gene, values)
    largest[largest == 0] = 1
    yield "ssim", estimate(sums, lambda totals: profiles.ssim(totals, centre, largest).mean(axis=1), entries.weights)
    yield "rmse_z", estimate(sums, lambda totals: profiles.rmse_z(totals).mean(axis=1), entries.weights)
    sums = profiles.js_sums(*pair, *places)
    yield "js_divergence", estimate(sums, lambda totals: profiles.js_divergence(totals).mean(axis=1), entries.weights)


def _reliability(entries: Entries) -> Iterator[Row]:
    """Predicted and measured detection rate in intervals of probability that hold any entries."""
    detected = entries.truth > 0
    sums = detection.calibration_sums(detected, entries.detection, entries.group, entries.n_groups, N_INTERVALS)
    for number, n_entries in enumerate(sums[:, 2].sum(axis=0).astype(int)):
        if n_entries == 0:
            continue
        name = f"probability {number / N_INTERVALS:.1f}-{(number + 1) / N_INTERVALS:.1f}"
        for row, label in enumerate(("predicted_rate", "measured_rate")):
            yield name, label, estimate(sums[:, [row, 2], number], bootstrap.ratio, entries.weights), n_entries
