from __future__ import annotations

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
from anndata.tests.helpers import assert_equal
from scipy import sparse

from scanpy_sct.evaluate import imputation
from scanpy_sct.evaluate.baselines import BASELINES, Guess
from scanpy_sct.evaluate.imputation import hide, score
from scanpy_sct.read.genes import released_vocabulary

N_CELLS, N_GENES = 120, 80
ALL_BASELINES = list(BASELINES)


@pytest.fixture(scope="module")
def vocabulary() -> np.ndarray:
    return released_vocabulary()


@pytest.fixture
def adata(vocabulary) -> ad.AnnData:
    rng = np.random.default_rng(0)
    programs = rng.gamma(0.5, 2, (3, N_GENES))
    counts = rng.poisson(programs[rng.integers(3, size=N_CELLS)] * rng.lognormal(0, 0.5, (N_CELLS, 1)))
    result = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    result.obs["section"] = np.where(np.arange(N_CELLS) < 70, "a", "b")
    # In no order, with a gene that the model does not know in between.
    known = rng.permutation(vocabulary[vocabulary != ""])[: N_GENES - 1]
    result.var_names = np.insert(known, 10, "unknown gene")
    return result


def hide_some(adata: ad.AnnData, vocabulary: np.ndarray, **kwargs):
    hiding, bagging = np.random.default_rng(0).spawn(2)
    return hide(adata, vocabulary, fraction=0.15, hiding=hiding, bagging=bagging, **kwargs)


def test_one_row_for_each_method_and_metric(adata):
    before = adata.copy()
    table = imputation(adata, methods=ALL_BASELINES, model=None, library_key="section")
    assert list(table.columns) == ["task", "method", "metric", "value", "n_entries"]
    assert not table.duplicated(["method", "metric"]).any()
    assert set(table["method"]) == set(ALL_BASELINES)
    assert table["n_entries"].unique() == pytest.approx(0.15 * N_CELLS * (N_GENES - 1), rel=0.1)
    by_method = table.pivot(index="method", columns="metric", values="value")
    assert list(by_method) == ["average_precision", "bin_mcc", "calibration_error", "gene_pearson"]
    assert by_method["gene_pearson"]["gene_constant"] == 0
    assert by_method["average_precision"]["knn_poisson"] > by_method["average_precision"]["gene_constant"]
    assert_equal(adata, before)


def test_same_seed_same_numbers_whatever_else_runs(adata):
    together = imputation(adata, methods=ALL_BASELINES, model=None, rng=5)
    alone = imputation(adata, methods="knn_poisson", model=None, rng=5)
    found = together[together["method"] == "knn_poisson"]["value"].to_numpy()
    np.testing.assert_array_equal(found, alone["value"])
    assert (imputation(adata, methods="knn_poisson", model=None, rng=6)["value"] != alone["value"]).any()


def test_the_task_holds_what_was_measured_and_shows_nothing_of_it(adata, vocabulary):
    task = hide_some(adata, vocabulary)
    cells, positions = np.nonzero(task.hidden)
    columns = adata.var_names.get_indexer(vocabulary[positions])
    np.testing.assert_allclose(task.truth, np.log1p(adata.X.toarray()[cells, columns]), rtol=1e-6)
    assert not task.seen.X.toarray()[cells, columns].any()
    assert task.seen.X.sum() + np.expm1(task.truth).sum() == pytest.approx(adata.X.sum())
    assert task.observed.hidden.sum() == len(task.truth)
    assert not task.observed.log.toarray()[task.observed.hidden].any()
    n_unknown = task.seen[:, "unknown gene"].X.sum()
    assert task.observed.counts.sum() == pytest.approx(task.seen.X.sum() - n_unknown)


@pytest.mark.parametrize("scale", ["counts", "log"])
def test_what_was_hidden_changes_no_prediction(adata, vocabulary, scale):
    if scale == "log":
        totals = np.asarray(adata.X.sum(axis=1))
        adata.X = sparse.csr_matrix(adata.X.multiply(1e4 / totals), dtype=np.float32).log1p()
    task = hide_some(adata, vocabulary)
    cells, positions = np.nonzero(task.hidden)
    values = adata.X.toarray()
    other_values = np.random.default_rng(9).permutation(values.ravel())[: len(cells)]
    values[cells, adata.var_names.get_indexer(vocabulary[positions])] = other_values
    other = hide_some(ad.AnnData(sparse.csr_matrix(values), obs=adata.obs, var=adata.var), vocabulary)

    np.testing.assert_array_equal(other.hidden, task.hidden)
    assert (other.truth != task.truth).mean() > 0.2
    for name, method in BASELINES.items():
        for first, second in zip(method(task.observed), method(other.observed), strict=True):
            np.testing.assert_array_equal(first, second, err_msg=name)


def test_a_second_column_of_a_gene_is_not_shown(adata, vocabulary):
    twice = ad.AnnData(sparse.hstack([adata.X, adata.X[:, :5]], format="csr"), obs=adata.obs)
    twice.var_names = [*adata.var_names, *(f"{name}.2" for name in adata.var_names[:5])]  # .2: a version of the id
    task = hide_some(twice, vocabulary)
    assert task.seen.shape == adata.shape
    assert "unknown gene" in task.seen.var_names
    assert task.hidden.any(axis=0).sum() == N_GENES - 1


def test_empty_cells_are_not_tested(adata, vocabulary):
    adata.X = sparse.diags((np.arange(N_CELLS) != 4).astype(np.float32)) @ adata.X
    task = hide_some(adata, vocabulary)
    assert not task.hidden[4].any()
    assert task.hidden[5].any()


def test_bags_are_neighbourhoods_of_one_sample(adata, vocabulary):
    rng = np.random.default_rng(1)
    adata.obsm["spatial"] = rng.normal(0, 1, (N_CELLS, 2)) + np.where(np.arange(N_CELLS) % 2, 0, 100)[:, None]
    task = hide_some(adata, vocabulary, library_key="section")
    section, side = adata.obs["section"].to_numpy(), np.arange(N_CELLS) % 2
    for bag in np.unique(task.observed.bags):
        assert len(set(section[task.observed.bags == bag])) == 1
    # 70 cells of section a make two bags, one on each side.
    assert len({*zip(task.observed.bags[:70], side[:70], strict=True)}) == 2


def test_the_model_sees_the_same_and_is_scored_alike(adata, vocabulary, monkeypatch):
    """A stand-in that predicts as a baseline does gets the numbers of the baseline."""
    seen = {}

    def predict_hidden(checkpoint, expression, hidden, *, path, rng):
        seen.update(checkpoint=checkpoint, expression=expression, hidden=hidden)
        guess = BASELINES["knn_poisson"](hide_some(adata, vocabulary).observed)
        detection, value = np.full((2, *hidden.shape), np.nan, dtype=np.float32)
        detection[hidden], value[hidden] = guess
        positions = np.flatnonzero(expression.measured)
        return SimpleNamespace(positions=positions, detection=detection[:, positions], value=value[:, positions])

    checkpoint = SimpleNamespace(genes=vocabulary, tokens=SimpleNamespace(scale="log1p_cp10k"))
    monkeypatch.setattr("scanpy_sct.checkpoints.load_model", lambda model: checkpoint)
    monkeypatch.setattr("scanpy_sct.predict.predict_hidden", predict_hidden)
    table = imputation(adata, methods=["knn_poisson", "sct"], model="a model").set_index(["method", "metric"])["value"]

    assert seen["checkpoint"] is checkpoint
    assert not seen["expression"].token_values.toarray()[seen["hidden"]].any()
    np.testing.assert_array_equal(table["sct"], table["knn_poisson"])


def test_a_network_from_end_to_end(pbmc, tiny_checkpoint):
    """Calibrated to the data, even a network that has learnt nothing is near the constant guess."""
    cells = pbmc[:100]
    table = imputation(cells, methods=["gene_constant", "sct"], model=tiny_checkpoint)
    precision = table[table["metric"] == "average_precision"].set_index("method")["value"]
    assert precision["sct"] == pytest.approx(precision["gene_constant"], abs=0.1)
    again = imputation(cells, methods="sct", model=tiny_checkpoint)
    np.testing.assert_array_equal(again["value"], table[table["method"] == "sct"]["value"])


def test_perfect_guesses_get_perfect_scores(adata, vocabulary):
    """And what counts for bins is the order of the probabilities, not their size."""
    task = hide_some(adata, vocabulary)
    expressed = (task.truth > 0).astype(np.float32)
    perfect = score(task, Guess(expressed, task.truth)).set_index("metric")["value"]
    assert perfect["average_precision"] == perfect["gene_pearson"] == pytest.approx(1)
    assert perfect["calibration_error"] == 0
    assert perfect["bin_mcc"] > 0.95  # the visible entries say how many to call, to about 1 %
    timid = score(task, Guess(expressed * 0.1, task.truth * 0.1)).set_index("metric")["value"]
    assert timid["bin_mcc"] == pytest.approx(perfect["bin_mcc"])


def test_missing_predictions_are_refused(adata, vocabulary, monkeypatch):
    def predict_hidden(checkpoint, expression, hidden, *, path, rng):
        nothing = np.full(hidden.shape, np.nan, dtype=np.float32)
        return SimpleNamespace(positions=np.arange(hidden.shape[1]), detection=nothing, value=nothing)

    checkpoint = SimpleNamespace(genes=vocabulary, tokens=SimpleNamespace(scale="log1p_counts"))
    monkeypatch.setattr("scanpy_sct.checkpoints.load_model", lambda model: checkpoint)
    monkeypatch.setattr("scanpy_sct.predict.predict_hidden", predict_hidden)
    with pytest.raises(ValueError, match="without a prediction"):
        imputation(adata, methods="sct", model="a model")


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"methods": ["magic"]}, ValueError, "'magic'"),
        ({"methods": []}, ValueError, "gene_constant"),
        ({"methods": ["sct"]}, ValueError, "name a model"),
        ({"fraction": 15}, ValueError, "15 %"),
        ({"fraction": 1e-9}, ValueError, "hides no entry"),
        ({"library_key": "donor"}, KeyError, "section"),
    ],
)
def test_user_errors(adata, kwargs, error, words):
    with pytest.raises(error, match=words):
        imputation(adata, **{"methods": ALL_BASELINES, "model": None, **kwargs})


def test_too_few_cells(adata):
    with pytest.raises(ValueError, match="2 cells"):
        imputation(adata[:2], methods=ALL_BASELINES, model=None)


def test_real_data_give_the_known_numbers(data_dir):
    adata = ad.read_h5ad(data_dir / "dev" / "heart_dev_ST_CN73.h5ad")
    methods = ["gene_constant", "poisson_dataset"]
    table = imputation(adata, methods=methods, model=None, library_key="sample")
    found = table[table["metric"] == "average_precision"].set_index("method")["value"]
    assert found[methods].to_numpy() == pytest.approx([0.562, 0.608], abs=0.005)
