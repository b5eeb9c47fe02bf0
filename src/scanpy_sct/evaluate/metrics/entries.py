"""All metrics of predictions of single entries, with their strata and intervals."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from scanpy_sct.evaluate.metrics import bootstrap, correlation, detection, profiles
from scanpy_sct.evaluate.metrics.bins import confusion_sums, expression_bins, mcc_score, rate_matched
from scanpy_sct.evaluate.metrics.strata import ALL, GENE_STRATA, NON_ZERO, ZERO, gene_strata
from scanpy_sct.plan.bins import bin_edges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scanpy_sct.evaluate.metrics.bootstrap import Row
    from scanpy_sct.evaluate.observed import Prediction
    from scanpy_sct.evaluate.tasks import Task

    Index = tuple[np.ndarray, int, np.ndarray, int]
    """Unit (gene or cell) of each entry, number of units, group of each entry, number of groups."""
    Sums = tuple[str, np.ndarray, Callable[[np.ndarray], np.ndarray]]
    """Name of a metric, and the first two arguments of :func:`~scanpy_sct.evaluate.metrics.bootstrap.estimate`."""

N_INTERVALS = 10
"""Intervals of probability of the reliability curve."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Measured and predicted entries, each (n_entries,)."""

    truth: np.ndarray
    """float32: measured value, on the log scale of the input."""
    value: np.ndarray
    """float32: expected value on that scale."""
    detection: np.ndarray
    """float32: probability of being detected."""
    cell: np.ndarray
    gene: np.ndarray
    group: np.ndarray
    """int: group of cells that a bootstrap draws."""
    true_bin: np.ndarray
    """int: bin of the measured value in its cell, 0 where not detected."""
    called_bin: np.ndarray
    """int: predicted bin, 0 where the entry is called not detected."""
    mean_bin: np.ndarray
    """int: bin of the predicted conditional mean."""
    n_bins: int
    weights: np.ndarray
    """(n_bootstrap, n_groups), from :func:`~scanpy_sct.evaluate.metrics.bootstrap.resample`."""

    @property
    def groups(self) -> tuple[np.ndarray, int]:
        """Group of each entry, and number of groups."""
        return self.group, self.weights.shape[1]

    def only(self, chosen: np.ndarray) -> Entries:
        """Keep the chosen entries, bool (n_entries,)."""
        by_entry = [field.name for field in fields(self) if field.name not in ("n_bins", "weights")]
        return replace(self, **{name: getattr(self, name)[chosen] for name in by_entry})

    def of_frequent(self, unit: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Index]:
        """Keep the entries of genes (cells) with enough detected entries; `unit` is the gene (cell) of each entry.

        Returns their measured and predicted values, and the other arguments of
        :func:`~scanpy_sct.evaluate.metrics.correlation.pearson_sums`.
        """
        keep, unit, units = correlation.often_detected(self.truth, unit)
        return (self.truth[keep], self.value[keep]), (unit, len(units), self.group[keep], self.weights.shape[1])


def rows_of_entries(task: Task, prediction: Prediction, n_bootstrap: int) -> Iterator[Row]:
    """Compare predictions with what was measured."""
    entries = compare(task, prediction, n_bootstrap)
    mixed = [_average_precision, _calibration, _bin_mcc, _gene_correlations, _cell_correlations, _rmse]
    if task.masks_genes:
        mixed.append(_profiles)
    yield from _rows(ALL, entries, mixed)
    yield from _reliability(entries)
    detected = entries.truth > 0
    yield from _rows(ZERO, entries.only(~detected), [_rmse])
    yield from _rows(NON_ZERO, entries.only(detected), [_level_mcc, _rmse, _gene_correlations, _cell_correlations])
    stratum = gene_strata(task.rates)[entries.gene]
    for number, name in enumerate(GENE_STRATA):
        yield from _rows(name, entries.only(stratum == number), mixed)


def compare(task: Task, prediction: Prediction, n_bootstrap: int) -> Entries:
    """Align predictions with what was measured."""
    observed = task.observed
    cell, gene = np.nonzero(observed.targets)
    edges = bin_edges(observed.log_values)
    # Entries masked at random are detected as often as the visible ones. Genes masked as a whole need not be: there
    # as many entries are called detected as the method expects.
    rate = float(prediction.detection.mean(dtype=np.float64))
    if not task.masks_genes:
        rate = observed.log_values.nnz / max(int((~observed.masked).sum()), 1)
    mean_bin = expression_bins(prediction.value / np.maximum(prediction.detection, 1e-6), cell, edges)
    group_of_cell, weights = bootstrap.resample(observed.samples, n_bootstrap, task.seed)
    return Entries(
        truth=task.truth,
        value=prediction.value,
        detection=prediction.detection,
        cell=cell,
        gene=gene,
        group=group_of_cell[cell],
        true_bin=np.where(task.truth > 0, expression_bins(task.truth, cell, edges), 0),
        called_bin=np.where(rate_matched(prediction.detection, rate), mean_bin, 0),
        mean_bin=mean_bin,
        n_bins=edges.shape[1],
        weights=weights,
    )


def _rows(name: str, entries: Entries, metrics: list[Callable[[Entries], Iterator[Sums]]]) -> Iterator[Row]:
    """Compute some metrics; those that are not defined are left out."""
    n_entries = len(entries.truth)
    for metric in metrics if n_entries else []:
        for label, sums, score in metric(entries):
            found = bootstrap.estimate(sums, score, entries.weights)
            if np.isfinite(found.value):
                yield name, label, found, n_entries


def _average_precision(entries: Entries) -> Iterator[Sums]:
    sums = detection.precision_sums(entries.truth > 0, entries.detection, *entries.groups)
    yield "average_precision", sums, detection.precision_score


def _calibration(entries: Entries) -> Iterator[Sums]:
    sums = detection.calibration_sums(entries.truth > 0, entries.detection, *entries.groups)
    yield "calibration_error", sums, detection.calibration_score


def _bin_mcc(entries: Entries) -> Iterator[Sums]:
    yield "bin_mcc", confusion_sums(entries.true_bin, entries.called_bin, entries.n_bins, *entries.groups), mcc_score


def _level_mcc(entries: Entries) -> Iterator[Sums]:
    yield "level_mcc", confusion_sums(entries.true_bin, entries.mean_bin, entries.n_bins, *entries.groups), mcc_score


def _rmse(entries: Entries) -> Iterator[Sums]:
    squared = np.square(entries.truth - entries.value, dtype=np.float64)
    group, n_groups = entries.groups
    sums = bootstrap.sums_by(group, [squared, None], (n_groups,))
    yield "rmse", sums, lambda totals: np.sqrt(bootstrap.ratio(totals))


def _gene_correlations(entries: Entries) -> Iterator[Sums]:
    """Mean over genes of the correlation across cells. Ranks are those among all entries of the gene."""
    pair, index = entries.of_frequent(entries.gene)
    if index[1]:
        for label, sums in _pearson_and_spearman(pair, index).items():
            yield f"gene_{label}", sums, correlation.mean_pearson


def _cell_correlations(entries: Entries) -> Iterator[Sums]:
    """Mean over cells of the correlation across genes."""
    pair, (cell, n_cells, group, n_groups) = entries.of_frequent(entries.cell)
    if n_cells:
        group_of_cell = np.zeros(n_cells, dtype=np.int64)
        group_of_cell[cell] = group
        # A cell is drawn as a whole, so that its correlation is computed once.
        for label, sums in _pearson_and_spearman(pair, (cell, n_cells, np.zeros_like(cell), 1)).items():
            of_cells = correlation.pearson(sums)[0]
            yield f"cell_{label}", bootstrap.sums_by(group_of_cell, [of_cells, None], (n_groups,)), bootstrap.ratio


def _pearson_and_spearman(pair: tuple[np.ndarray, np.ndarray], index: Index) -> dict[str, np.ndarray]:
    """Compute the sums for correlations of values and of ranks; arguments are those of `pearson_sums`."""
    sums = correlation.pearson_sums(*pair, *index)
    ranked = correlation.ranks_of_both(*pair, *index[:2], sums)
    return {"pearson": sums, "spearman": correlation.pearson_sums(*ranked, *index)}


def _profiles(entries: Entries) -> Iterator[Sums]:
    """Mean over genes of the similarity of measured and predicted profiles."""
    pair, index = entries.of_frequent(entries.gene)
    gene, n_genes, *_ = index
    if n_genes == 0:
        return
    sums = correlation.pearson_sums(*pair, *index)
    centre = np.stack([correlation.means(values, gene, n_genes) for values in pair])
    largest = np.zeros((2, n_genes))
    for row, values in zip(largest, pair, strict=True):
        np.maximum.at(row, gene, values)
    largest[largest == 0] = 1
    yield "ssim", sums, lambda totals: profiles.ssim(totals, centre, largest).mean(axis=1)
    yield "rmse_z", sums, lambda totals: profiles.rmse_z(totals).mean(axis=1)
    yield "js_divergence", profiles.js_sums(*pair, *index), lambda totals: profiles.js_divergence(totals).mean(axis=1)


def _reliability(entries: Entries) -> Iterator[Row]:
    """Predicted and measured detection rate in intervals of probability that hold any entries."""
    sums = detection.calibration_sums(entries.truth > 0, entries.detection, *entries.groups, N_INTERVALS)
    for number, n_entries in enumerate(sums[:, 2].sum(axis=0).astype(int)):
        if n_entries == 0:
            continue
        name = f"probability {number / N_INTERVALS:.1f}-{(number + 1) / N_INTERVALS:.1f}"
        for row, label in enumerate(("predicted_rate", "measured_rate")):
            found = bootstrap.estimate(sums[:, [row, 2], number], bootstrap.ratio, entries.weights)
            yield name, label, found, n_entries
