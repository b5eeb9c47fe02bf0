from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata.tests.helpers import assert_equal
from scipy import sparse
from sklearn.metrics import average_precision_score

import scanpy_sct as sct
from scanpy_sct.evaluate import imputation, registry
from scanpy_sct.evaluate.imputation import COLUMNS, QUICK_METHODS
from scanpy_sct.evaluate.observed import complete
from scanpy_sct.evaluate.source import read_source
from scanpy_sct.evaluate.tasks import build_task
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.read.options import ReadOptions

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
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @sct.evaluate.method("half_the_mean")
    def half_the_mean(observed):
        mean = observed.counts.mean(axis=0)
        return observed.at_targets(lambda rows: mean / 2)

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
    renamed = []

    def listen(observed):
        renamed.append(observed)
        return np.zeros(observed.n_targets)

    keys = {"library_key": "section", "labels_key": "type"}
    imputation(adata, methods=[listen, "cell_type_mean"], model=None, n_bootstrap=0, **keys)
    (observed,) = renamed
    np.testing.assert_array_equal(observed.samples, adata.obs["section"] == "b")
    np.testing.assert_array_equal(observed.labels, adata.obs["type"])
    np.testing.assert_array_equal(observed.coordinates, adata.obsm["spatial"])
    np.testing.assert_array_equal(observed.visible.obs["section"], adata.obs["section"])
    assert set(released_vocabulary()[observed.gene_index]) == set(adata.var_names)
    assert observed.checkpoint is None


def test_the_model_is_handed_on(pbmc, model):
    renamed = []

    def listen(observed):
        renamed.append(observed)
        return np.zeros(observed.n_targets)

    imputation(pbmc[:60], methods=listen, model=model, n_bootstrap=0)
    (observed,) = renamed
    assert observed.checkpoint is model
    assert len(observed.gene_index) == 509
    assert (model.genes[observed.gene_index] != "").all()
    assert (np.diff(observed.gene_index) > 0).all()


def test_a_network_from_end_to_end(pbmc, model):
    """Calibrated to the data, even a network that has learnt nothing is near the constant guess."""
    cells = pbmc[:60]
    table = imputation(cells, methods=["gene_mean", "sct"], model=model)
    precision = table[(table["metric"] == "average_precision") & (table["stratum"] == "all")]
    precision = precision.set_index("method")["value"]
    assert precision["sct"] == pytest.approx(precision["gene_mean"], abs=0.1)
    again = imputation(cells, methods="sct", model=model)
    pd.testing.assert_frame_equal(values_of(again, "sct"), values_of(table, "sct"))


def test_all_methods_that_can(adata, monkeypatch):
    names = ("gene_mean", "cell_type_mean", "spatial_mean")
    registered = {("imputation", name): registry.find_method(name) for name in names}
    monkeypatch.setattr(registry, "_registered", registered)
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
    known = [registry.find_method(name) for name in QUICK_METHODS]
    assert {need for method in known for need in method.needs} == {"checkpoint"}


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
        ({"n_bootstrap": 0.5}, TypeError, "n_bootstrap=0.5 must be an integer"),
        ({"n_bootstrap": True}, TypeError, "n_bootstrap=True must be an integer"),
        ({"rng": -1}, ValueError, "rng=-1 must not be negative"),
        ({"rng": "x"}, TypeError, "rng='x' must be an integer"),
        ({"rng": True}, TypeError, "rng=True must be an integer"),
    ],
)
def test_user_errors_come_before_anything_is_computed(adata, kwargs, error, words):
    def never(observed):
        pytest.fail("computed before all arguments were checked")

    with pytest.raises(error, match=words):
        imputation(adata, **{"methods": never, "model": None, **kwargs})


def test_all_tasks_are_tried_before_any_method_runs(adata):
    """A panel that leaves no gene to predict is known only when its genes are chosen."""
    dense = adata.X.toarray()
    dense[:, :30] = 0
    adata.X = sparse.csr_matrix(dense)

    def never(observed):
        pytest.fail("a method ran before all tasks were tried")

    with pytest.raises(ValueError, match=r"'panel_60' of `tasks` has nothing to predict: .* 3 cells .*smaller panel"):
        imputation(adata, methods=never, tasks=["entries_15", "panel_60"], model=None)


def test_a_method_can_change_nothing_that_others_see(adata):
    """It may write to its own copies; the large tables are read-only."""
    adata.obsm["spatial"] = np.random.default_rng(0).random((N_CELLS, 2))
    adata.obs["type"] = np.where(np.arange(N_CELLS) % 2, "T cell", "B cell")

    def spoil(observed):
        sc.pp.normalize_total(observed.visible, target_sum=1)
        observed.visible.obsm["spatial"][:] = 0
        for matrix in (observed.counts, observed.log_values):
            matrix.data[:] = 1
        for array in (observed.samples, observed.bags, observed.coordinates, observed.gene_index):
            array[:] = 0
        observed.labels[:] = "x"
        observed.depth[:] = 3
        for table in (observed.masked, observed.targets):
            with pytest.raises(ValueError, match="read-only"):
                table[:] = False
        return np.zeros(observed.n_targets)

    def total(observed):
        """Depends on what is seen as AnnData."""
        return np.full(observed.n_targets, observed.visible.X.sum() / 1e4 + observed.visible.obsm["spatial"].sum())

    keys = {"tasks": TASKS, "model": None, "labels_key": "type", "library_key": "section", "n_bootstrap": 0}
    others = [*SOME, total, "cell_type_mean", "spatial_mean"]
    alone, together = (imputation(adata, methods=names, **keys) for names in (others, [spoil, *others]))
    kept = together[together["method"] != "spoil"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, alone)


@pytest.mark.parametrize("base", [2, 10])
def test_the_base_of_the_logarithm_makes_no_difference(adata, base):
    totals = np.asarray(adata.X.sum(axis=1))
    adata.X = sparse.csr_matrix(adata.X.multiply(1e4 / totals), dtype=np.float32).log1p()
    other = adata.copy()
    other.X = adata.X / np.float32(np.log(base))
    methods = ["poisson_dataset", "svd", "gene_mean"]
    tables = [imputation(each, methods=methods, tasks=["entries_15", "genes"], model=None) for each in (adata, other)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-3, atol=1e-5)


def test_log_values_that_were_no_counts_are_natural_logarithms(adata):
    adata.X = sparse.csr_matrix(
        adata.X.multiply(np.random.default_rng(0).random(adata.shape)), dtype=np.float32
    ).log1p()
    source = read_source(adata, released_vocabulary(), ReadOptions(scale="log1p"))
    assert source.scale == "log"
    np.testing.assert_array_equal(source.matrix.toarray(), adata.X.toarray())


def test_no_expression_of_genes_that_the_model_knows(adata):
    adata.X = sparse.csr_matrix(np.eye(N_CELLS, N_GENES, dtype=np.float32) * (np.arange(N_GENES) < 3))
    adata.var_names = [*(f"unknown {number}" for number in range(3)), *adata.var_names[3:]]
    with pytest.raises(ValueError, match=r"adata has no expression: .*`layer=`"):
        imputation(adata, methods="gene_mean", model=None)


def test_a_model_without_training_frequencies(pbmc, model, monkeypatch):
    """Of all methods, `training_rates` is left out; named, it is an error before anything is computed."""
    names = ("gene_mean", "training_rates")
    registered = {("imputation", name): registry.find_method(name) for name in names}
    monkeypatch.setattr(registry, "_registered", registered)
    options = {"model": model, "n_bootstrap": 0}
    assert tuple(imputation(pbmc[:60], methods="all", **options)["method"].unique()) == names
    options["model"] = replace(model, network=SimpleNamespace(config=model.config, n_genes=len(model.genes)))
    assert list(imputation(pbmc[:60], methods="all", **options)["method"].unique()) == ["gene_mean"]
    with pytest.raises(ValueError, match="'training_rates' of `methods` needs training_frequencies: name a model that"):
        imputation(pbmc[:60], methods="training_rates", **options)


def test_a_network_needs_a_model(adata):
    with pytest.raises(ValueError, match="name a model"):
        imputation(adata, methods=["sct"], model=None)


def test_other_objects_are_refused(adata):
    with pytest.raises(TypeError, match="must be an AnnData, found DataFrame"):
        imputation(adata.to_df(), methods="gene_mean", model=None)


def test_answers_that_are_not_complete_are_refused(adata):
    with pytest.raises(ValueError, match="must be finite"):
        imputation(adata, methods=lambda observed: np.full(observed.n_targets, np.nan), model=None)


def test_real_data_give_the_known_numbers(data_dir):
    adata = ad.read_h5ad(data_dir / "dev" / "heart_dev_ST_CN73.h5ad")
    task = build_task("entries_15", read_source(adata, released_vocabulary(), ReadOptions(library_key="sample")))
    for name, known in {"gene_mean": 0.562, "poisson_dataset": 0.608}.items():
        guess = complete(task.observed, registry.find_method(name).function(task.observed))
        assert average_precision_score(task.truth > 0, guess.detection) == pytest.approx(known, abs=0.005)
