from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata.tests.helpers import assert_equal
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.evaluate import imputation, registry
from scanpy_sct.evaluate.imputation import COLUMNS, QUICK_METHODS
from scanpy_sct.evaluate.metrics import average_precision
from scanpy_sct.evaluate.observed import complete
from scanpy_sct.evaluate.source import read_source
from scanpy_sct.evaluate.tasks import build_task
from scanpy_sct.read.genes import released_vocabulary

N_CELLS, N_GENES = 120, 80
SOME = ["gene_mean", "poisson_bag", "svd"]
TASKS = ["entries_15", "genes", "thinning", "panel_60"]


@pytest.fixture
def adata() -> ad.AnnData:
    rng, vocabulary = np.random.default_rng(0), released_vocabulary()
    programs = rng.gamma(0.5, 2, (3, N_GENES))
    counts = rng.poisson(programs[rng.integers(3, size=N_CELLS)] * rng.lognormal(0, 0.5, (N_CELLS, 1)))
    result = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    result.obs["section"] = np.where(np.arange(N_CELLS) < 70, "a", "b")
    result.var_names = rng.permutation(vocabulary[vocabulary != ""])[:N_GENES]
    return result


def values_of(table: pd.DataFrame, method: str, task: str = "entries_15") -> pd.Series:
    rows = table[(table["method"] == method) & (table["task"] == task)]
    return rows.set_index(["stratum", "metric"])[["value", "lower", "upper"]]


def test_one_row_for_each_task_method_stratum_and_metric(adata):
    before = adata.copy()
    table = imputation(adata, methods=SOME, tasks=TASKS, model=None, library_key="section")
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(["task", "method", "stratum", "metric"]).any()
    assert list(table["task"].unique()) == TASKS
    assert list(table["method"].unique()) == SOME
    assert np.isfinite(table[["value", "lower", "upper"]].to_numpy()).all()
    whole = table[table["stratum"] == "all"].pivot(index=["task", "method"], columns="metric", values="value")
    assert whole.loc["entries_15", "gene_pearson"]["gene_mean"] == 0
    assert whole.loc["entries_15", "average_precision"].idxmin() == "gene_mean"
    assert set(whole.loc["thinning"].dropna(axis=1)) == {"mse", "poisson"}
    assert "ssim" in whole.loc["genes"].dropna(axis=1)
    assert "ssim" in whole.loc["panel_60"].dropna(axis=1)
    assert "ssim" not in whole.loc["entries_15"].dropna(axis=1)
    assert_equal(adata, before)


def test_same_seed_same_numbers_whatever_else_runs(adata):
    together = imputation(adata, methods=SOME, tasks=TASKS, model=None, rng=5)
    for task in reversed(TASKS):
        alone = imputation(adata, methods="poisson_bag", tasks=task, model=None, rng=5)
        pd.testing.assert_frame_equal(values_of(together, "poisson_bag", task), values_of(alone, "poisson_bag", task))
    other = imputation(adata, methods="poisson_bag", model=None, rng=6)
    assert not values_of(other, "poisson_bag").equals(values_of(together, "poisson_bag"))
    from_generator = imputation(adata, methods="poisson_bag", model=None, rng=np.random.default_rng(5))
    pd.testing.assert_frame_equal(values_of(from_generator, "poisson_bag"), values_of(together, "poisson_bag"))


def test_a_method_in_five_lines(adata, monkeypatch):
    """As the documentation of the registry shows it; by name, and as a function that is not registered."""
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))

    @sct.evaluate.method("half_the_mean")
    def half_the_mean(observed):
        mean = observed.counts.mean(axis=0)
        return observed.at_wanted(lambda rows: mean / 2)

    def another(observed):
        return half_the_mean(observed)

    table = imputation(adata, methods=["half_the_mean", another, "predict_zero"], tasks=TASKS[:3], model=None)
    assert list(table["method"].unique()) == ["half_the_mean", "another", "predict_zero"]
    pd.testing.assert_frame_equal(values_of(table, "half_the_mean"), values_of(table, "another"))
    assert (
        values_of(table, "half_the_mean", "thinning").loc[("all", "poisson"), "value"]
        < (values_of(table, "predict_zero", "thinning").loc[("all", "poisson"), "value"])
    )


def test_methods_are_told_what_there_is(adata):
    """The sample, the place, the label and the genes of each cell."""
    adata.obsm["spatial"] = np.random.default_rng(0).random((N_CELLS, 2))
    adata.obs["type"] = np.where(np.arange(N_CELLS) % 2, "T cell", "B cell")
    told = []

    def listen(observed):
        told.append(observed)
        return np.zeros(observed.n_wanted)

    keys = {"library_key": "section", "labels_key": "type"}
    imputation(adata, methods=[listen, "cell_type_mean"], model=None, n_bootstrap=0, **keys)
    (observed,) = told
    np.testing.assert_array_equal(observed.samples, adata.obs["section"] == "b")
    np.testing.assert_array_equal(observed.cell_types, adata.obs["type"])
    np.testing.assert_array_equal(observed.coordinates, adata.obsm["spatial"])
    np.testing.assert_array_equal(observed.seen.obs["section"], adata.obs["section"])
    assert set(released_vocabulary()[observed.positions]) == set(adata.var_names)
    assert observed.checkpoint is None


def test_the_model_is_handed_on(pbmc, tiny_checkpoint):
    told = []

    def listen(observed):
        told.append(observed)
        return np.zeros(observed.n_wanted)

    imputation(pbmc[:60], methods=listen, model=tiny_checkpoint, n_bootstrap=0)
    (observed,) = told
    assert observed.checkpoint is tiny_checkpoint
    assert len(observed.positions) == 509
    assert (tiny_checkpoint.genes[observed.positions] != "").all()
    assert (np.diff(observed.positions) > 0).all()


@pytest.mark.skipif("sct" not in sct.evaluate.methods(), reason="no method of that name is registered")
def test_a_network_from_end_to_end(pbmc, tiny_checkpoint):
    """Calibrated to the data, even a network that has learnt nothing is near the constant guess."""
    cells = pbmc[:100]
    table = imputation(cells, methods=["gene_mean", "sct"], model=tiny_checkpoint)
    precision = table[(table["metric"] == "average_precision") & (table["stratum"] == "all")]
    precision = precision.set_index("method")["value"]
    assert precision["sct"] == pytest.approx(precision["gene_mean"], abs=0.1)
    again = imputation(cells, methods="sct", model=tiny_checkpoint)
    pd.testing.assert_frame_equal(values_of(again, "sct"), values_of(table, "sct"))


def test_all_methods_that_can(adata, monkeypatch):
    registered = {name: registry.find_method(name) for name in ("gene_mean", "cell_type_mean", "spatial_mean")}
    monkeypatch.setattr(registry, "_methods", registered)
    assert list(imputation(adata, methods="all", model=None)["method"].unique()) == ["gene_mean"]


def test_intervals_over_samples_are_wider_where_samples_differ(adata):
    """Ten sections, half of which are ten times as deep."""
    adata.obs["donor"] = pd.Categorical.from_codes(np.arange(N_CELLS) // 12, list("abcdefghij"))
    depth = np.where(np.arange(N_CELLS) // 12 % 2, 10, 1)[:, None]
    adata.X = sparse.csr_matrix(adata.X.multiply(depth), dtype=np.float32)
    widths = []
    for key in (None, "donor"):
        found = values_of(imputation(adata, methods="gene_mean", model=None, library_key=key), "gene_mean")
        widths.append(found.loc[("all", "rmse"), "upper"] - found.loc[("all", "rmse"), "lower"])
    assert widths[1] > 1.3 * widths[0]


def test_no_intervals(adata):
    table = imputation(adata, methods="gene_mean", model=None, n_bootstrap=0)
    assert table[["lower", "upper"]].isna().all(axis=None)


def test_defaults_need_nothing_optional():
    known = [registry.find_method(name) for name in QUICK_METHODS if name in sct.evaluate.methods()]
    assert len(known) >= len(QUICK_METHODS) - 1
    assert {need for method in known for need in method.needs} <= {"checkpoint"}


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"methods": ["tragic"]}, ValueError, "'tragic'"),
        ({"methods": []}, ValueError, "gene_mean"),
        ({"methods": ["cell_type_mean"]}, ValueError, "labels_key"),
        ({"methods": ["spatial_mean"]}, ValueError, "spatial"),
        ({"tasks": "entries"}, ValueError, "entries_15"),
        ({"tasks": []}, ValueError, "found none"),
        ({"tasks": ["genes", "genes"]}, ValueError, "different"),
        ({"tasks": ["entries_15", "panel_500"]}, ValueError, "80 genes"),
        ({"library_key": "donor"}, KeyError, "section"),
        ({"labels_key": "donor"}, KeyError, "section"),
        ({"n_bootstrap": -1}, ValueError, "n_bootstrap"),
        ({"n_bootstrap": 0.5}, ValueError, "n_bootstrap"),
    ],
)
def test_user_errors_come_before_anything_is_computed(adata, kwargs, error, words):
    def never(observed):
        pytest.fail("computed before all arguments were checked")

    with pytest.raises(error, match=words):
        imputation(adata, **{"methods": never, "model": None, **kwargs})


@pytest.mark.skipif("sct" not in sct.evaluate.methods(), reason="no method of that name is registered")
def test_a_network_needs_a_model(adata):
    with pytest.raises(ValueError, match="name a model"):
        imputation(adata, methods=["sct"], model=None)


def test_other_objects_are_refused(adata):
    with pytest.raises(TypeError, match="must be an AnnData, found DataFrame"):
        imputation(adata.to_df(), methods="gene_mean", model=None)


def test_answers_that_are_not_complete_are_refused(adata):
    with pytest.raises(ValueError, match="without a prediction"):
        imputation(adata, methods=lambda observed: np.full(observed.n_wanted, np.nan), model=None)


def test_real_data_give_the_known_numbers(data_dir):
    adata = ad.read_h5ad(data_dir / "dev" / "heart_dev_ST_CN73.h5ad")
    task = build_task("entries_15", read_source(adata, released_vocabulary(), library_key="sample"))
    for name, known in {"gene_mean": 0.562, "poisson_dataset": 0.608}.items():
        guess = complete(task.observed, registry.find_method(name).function(task.observed))
        assert average_precision(task.truth > 0, guess.detection) == pytest.approx(known, abs=0.005)
