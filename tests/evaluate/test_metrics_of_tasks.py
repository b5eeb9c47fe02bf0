"""All metrics of a task, beside well-known implementations used gene by gene and cell by cell."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse, stats
from sklearn.metrics import average_precision_score, matthews_corrcoef, mean_squared_error

from scanpy_sct.evaluate.masking import mask_entries, thin_counts
from scanpy_sct.evaluate.metrics import measure
from scanpy_sct.evaluate.metrics import thinned as thinned_module
from scanpy_sct.evaluate.metrics.bins import expression_bins
from scanpy_sct.evaluate.observed import Observed, Prediction
from scanpy_sct.evaluate.tasks import Task
from scanpy_sct.plan.bins import bin_edges
from scanpy_sct.sparse_tools import without_masked

N_CELLS, N_GENES = 150, 60
STRATA = ["all", "zero", "non-zero", "gene < 1 %", "gene 1-10 %", "gene 10-50 %", "gene > 50 %"]


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """Rare genes first, common ones last."""
    rng = np.random.default_rng(0)
    rates = np.geomspace(0.003, 5, N_GENES) * rng.gamma(2, 0.5, (N_CELLS, N_GENES))
    return rng.poisson(rates * rng.lognormal(0, 0.3, (N_CELLS, 1)))


def make_task(name: str, counts: np.ndarray, masked: np.ndarray) -> Task:
    seen = without_masked(sparse.csr_matrix(counts, dtype=np.float32), masked)
    zeros = np.zeros(N_CELLS, dtype=int)
    observed = Observed(seen, seen.log1p(), masked, masked, zeros, zeros)
    truth = np.log1p(counts)[masked].astype(np.float32)
    return Task(name, observed, truth, None, (counts > 0).mean(axis=0), seed=0)


@pytest.fixture(scope="module", params=["entries_50", "genes"])
def task(request, counts) -> Task:
    masked = mask_entries(N_CELLS, N_GENES, 0.5)
    if request.param == "genes":
        masked = np.tile(np.arange(N_GENES) % 2 == 0, (N_CELLS, 1))
    return make_task(request.param, counts, masked)


@pytest.fixture(scope="module")
def guess(task) -> Prediction:
    """Half right, the same for all cells of one gene."""
    rng = np.random.default_rng(1)
    count = np.expm1(task.truth) * 0.5 + rng.gamma(1, 0.3, len(task.truth))
    value = np.log1p(count)
    value[np.nonzero(task.observed.targets)[1] == 40] = 0.5
    return Prediction(*(part.astype(np.float32) for part in (count, 1 - np.exp(-count), value)))


def means_of(function, truth: np.ndarray, value: np.ndarray, unit: np.ndarray) -> float:
    """Mean of a correlation over the units with ten detected entries; 0 where it is not defined."""
    found = []
    for number in np.unique(unit):
        mine = unit == number
        if (truth[mine] > 0).sum() >= 10:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of constant input
                found.append(np.nan_to_num(function(truth[mine], value[mine])[0]))
    return np.mean(found) if found else np.nan


def oracle(task: Task, guess: Prediction) -> dict[tuple[str, str], float]:
    """Metrics by stratum, where they are defined."""
    cell, gene = np.nonzero(task.observed.targets)
    truth = task.truth
    rates = task.rates[gene]
    rate = task.observed.log_values.nnz / (~task.observed.masked).sum()
    if task.name == "genes":
        rate = guess.detection.mean()
    called = guess.detection >= np.quantile(guess.detection, 1 - rate, method="higher")
    edges = bin_edges(task.observed.log_values)
    bins = np.where(truth > 0, expression_bins(truth, cell, edges), 0)
    level_bins = expression_bins(guess.value / np.maximum(guess.detection, 1e-6), cell, edges)
    called_bins = np.where(called, level_bins, 0)
    masks = [truth >= 0, truth == 0, truth > 0, rates < 0.01, (rates >= 0.01) & (rates < 0.1)]
    masks += [(rates >= 0.1) & (rates <= 0.5), rates > 0.5]
    result = {}
    for stratum, mask in zip(STRATA, masks, strict=True):
        t, v = truth[mask], guess.value[mask]
        if len(t) == 0:
            continue
        found = {"rmse": np.sqrt(np.mean((t - v) ** 2))}
        if stratum != "zero":
            for name, unit in (("gene", gene[mask]), ("cell", cell[mask])):
                found[f"{name}_pearson"] = means_of(stats.pearsonr, t, v, unit)
                found[f"{name}_spearman"] = means_of(stats.spearmanr, t, v, unit)
        if stratum == "non-zero":
            found["level_mcc"] = matthews_corrcoef(bins[mask], level_bins[mask])
        if stratum not in ("zero", "non-zero"):
            if (t > 0).any():
                found["average_precision"] = average_precision_score(t > 0, guess.detection[mask])
            found["bin_mcc"] = matthews_corrcoef(bins[mask], called_bins[mask])
        result |= {(stratum, metric): value for metric, value in found.items() if np.isfinite(value)}
    return result


def as_series(table: pd.DataFrame, column: str = "value") -> pd.Series:
    assert not table.duplicated(["stratum", "metric"]).any()
    return table.set_index(["stratum", "metric"])[column]


def test_every_metric_of_every_stratum(task, guess):
    found, expected = as_series(measure(task, guess, 0)), oracle(task, guess)
    profiles = {"ssim", "rmse_z", "js_divergence"}
    other = {"calibration_error", "predicted_rate", "measured_rate", *profiles}
    assert {key for key in found.index if key[1] not in other} == set(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-4), key
    assert profiles.isdisjoint(found.index.get_level_values(1)) == (task.name != "genes")


def test_sizes_of_strata(task, guess):
    n_entries = measure(task, guess, 0).groupby("stratum")["n_entries"].first()
    assert n_entries["all"] == len(task.truth)
    assert n_entries["zero"] == (task.truth == 0).sum()
    assert n_entries["non-zero"] == (task.truth > 0).sum()
    assert n_entries[n_entries.index.str.startswith("gene")].sum() == len(task.truth)
    assert n_entries[n_entries.index.str.startswith("probability")].sum() == len(task.truth)


def test_the_reliability_curve(task, guess):
    found = as_series(measure(task, guess, 0))
    inside = (guess.detection >= 0.3) & (guess.detection < 0.4)
    assert found["probability 0.3-0.4", "predicted_rate"] == pytest.approx(guess.detection[inside].mean())
    assert found["probability 0.3-0.4", "measured_rate"] == pytest.approx((task.truth[inside] > 0).mean())


def test_intervals_hold_the_value_and_are_the_same_twice(task, guess):
    table = measure(task, guess, 100)
    pd.testing.assert_frame_equal(table, measure(task, guess, 100))
    main = table[(table["stratum"] == "all") & ~table["metric"].isin(["js_divergence", "calibration_error"])]
    assert (main["lower"] < main["value"]).all()
    assert (main["value"] < main["upper"]).all()
    assert measure(task, guess, 0)["lower"].isna().all()
    np.testing.assert_array_equal(measure(task, guess, 0)["value"], table["value"])


def test_perfect_guesses_get_perfect_scores(task):
    """And what counts for bins is the order of the probabilities, not their size."""
    detected = (task.truth > 0).astype(np.float32)
    found = as_series(measure(task, Prediction(np.expm1(task.truth), detected, task.truth), 0))["all"]
    for metric in ("average_precision", "gene_pearson", "gene_spearman", "cell_pearson", "cell_spearman"):
        assert found[metric] == pytest.approx(1), metric
    assert found["calibration_error"] == found["rmse"] == 0
    assert found["bin_mcc"] > 0.95  # the visible entries say how many to call, to a few per cent
    if task.name == "genes":
        assert found["ssim"] == pytest.approx(1)
        assert found["rmse_z"] == pytest.approx(0, abs=1e-3)
        assert found["js_divergence"] == pytest.approx(0, abs=1e-9)
    else:
        timid = as_series(measure(task, Prediction(task.truth, detected * 0.1, task.truth * 0.1), 0))["all"]
        assert timid["bin_mcc"] == pytest.approx(found["bin_mcc"])


def test_missing_predictions_are_refused(task):
    with pytest.raises(ValueError, match="must be finite"):
        measure(task, np.full(len(task.truth), np.nan))


@pytest.fixture(scope="module")
def thinned(counts) -> Task:
    seen, kept = thin_counts(sparse.csr_matrix(counts[:, 20:], dtype=np.float32), rng=1)
    masked = np.zeros(seen.shape, dtype=bool)
    zeros = np.zeros(N_CELLS, dtype=int)
    observed = Observed(seen, seen.log1p(), masked, ~masked, zeros, zeros)
    return Task("thinning", observed, None, kept, (counts[:, 20:] > 0).mean(axis=0), seed=0)


@pytest.fixture(scope="module")
def denoised(thinned) -> np.ndarray:
    """Some cells are predicted to be empty."""
    rng = np.random.default_rng(2)
    result = thinned.observed.counts.toarray() * rng.random(thinned.test.shape) + rng.gamma(1, 0.2, thinned.test.shape)
    result[:3] = 0
    return result.astype(np.float32)


def open_problems(thinned: Task, denoised: np.ndarray) -> tuple[float, float]:
    """The two metrics by the steps that the task describes, with scanpy."""
    test, prediction = (ad.AnnData(np.asarray(x, dtype=float)) for x in (thinned.test.toarray(), denoised))
    for part in (test, prediction):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty cells
            sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
    scaled = denoised * (thinned.test.sum() / thinned.observed.counts.sum())
    loss = np.mean(scaled - thinned.test.toarray() * np.log(scaled + 1e-6))
    return mean_squared_error(test.X, prediction.X), loss


@pytest.mark.parametrize("cells_at_once", [7, 256])
def test_thinned_counts_are_judged_as_open_problems_does(thinned, denoised, monkeypatch, cells_at_once):
    monkeypatch.setattr(thinned_module, "_CELLS_AT_ONCE", cells_at_once)
    table = measure(thinned, denoised.ravel(), 50)
    assert set(table["metric"]) == {"mse", "poisson"}
    found, n_entries = as_series(table), as_series(table, "n_entries")
    mse, poisson = open_problems(thinned, denoised)
    assert found["all", "mse"] == pytest.approx(mse, rel=1e-5)
    assert found["all", "poisson"] == pytest.approx(poisson, rel=1e-5)
    assert n_entries["all", "mse"] == denoised.size
    for parts in (["zero", "non-zero"], [name for name in STRATA[3:] if name in found.index]):
        for metric in ("mse", "poisson"):
            values, sizes = (part.xs(metric, level=1)[parts] for part in (found, n_entries))
            assert (values * sizes).sum() / sizes.sum() == pytest.approx(found["all", metric])
    assert n_entries["non-zero", "mse"] == thinned.test.nnz
    row = table.iloc[0]
    assert row["lower"] < row["value"] < row["upper"]


def test_strata_of_thinned_counts(thinned, denoised):
    """Cells are normalised over all genes, then entries are chosen."""
    common = thinned.rates > 0.5
    test, prediction = thinned.test.toarray(), denoised.astype(float)
    log = [np.log1p(x / np.maximum(x.sum(axis=1, keepdims=True), 1e-9) * 1e4) for x in (test, prediction)]
    squared = (log[0] - log[1]) ** 2
    found = as_series(measure(thinned, denoised.ravel(), 0))
    assert found["gene > 50 %", "mse"] == pytest.approx(squared[:, common].mean())
    assert found["non-zero", "mse"] == pytest.approx(squared[test > 0].mean())
