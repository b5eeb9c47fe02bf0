from __future__ import annotations

import logging
from collections import Counter

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata.tests.helpers import assert_equal
from scipy import sparse
from scipy.spatial.distance import cdist, pdist
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

import scanpy_sct as sct
from scanpy_sct.evaluate import embedding_methods, registry
from scanpy_sct.evaluate.embedding import embedding
from scanpy_sct.evaluate.embedding_metrics import accuracy, continuity, macro_f1
from scanpy_sct.evaluate.registry import registered
from scanpy_sct.read.options import ReadOptions

N_CELLS, N_GENES = 120, 40
METRICS = list(registered("embedding metric"))


@pytest.fixture
def adata() -> ad.AnnData:
    """Three regions, stripes of a 12 x 10 tissue; two samples."""
    rng = np.random.default_rng(0)
    x, y = np.divmod(np.arange(N_CELLS), 10)
    region = x // 4
    counts = rng.poisson(rng.gamma(1, 2, (3, N_GENES))[region])
    result = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    result.obs["region"] = pd.Categorical(np.array(["a", "b", "c"])[region])
    result.obs["sample"] = np.where(y < 6, "s1", "s2")
    result.obsm["spatial"] = np.column_stack([x, y]) + rng.normal(0, 0.01, (N_CELLS, 2))
    result.obsm["apart"] = np.eye(3)[region] * 10 + rng.normal(0, 1, (N_CELLS, 3))
    result.obsm["near"] = np.eye(3)[region] * 2 + rng.normal(0, 1, (N_CELLS, 3))
    result.obsm["noise"] = rng.normal(0, 1, (N_CELLS, 3))
    return result


def must_not_run(cells):
    pytest.fail("computed before everything was checked")


def values(table: pd.DataFrame, method: str) -> pd.Series:
    return table[table["method"] == method].set_index("metric")["value"]


def test_one_row_for_each_method_and_metric(adata):
    before = adata.copy()
    methods = ["near", "pca", "noise"]
    keys = {"labels_key": "region", "batch_key": "sample", "library_key": "sample"}
    table = embedding(adata, methods=methods, metrics=METRICS, **keys)
    assert list(table.columns) == ["method", "metric", "value", "lower", "upper", "n_cells"]
    assert list(table["method"].unique()) == methods
    assert list(table["metric"]) == METRICS * 3
    assert table["value"].notna().all()
    with_interval = table["metric"].isin(["knn_accuracy", "knn_macro_f1"])
    assert (table["lower"].notna() == with_interval).all()
    assert_equal(adata, before)
    again = embedding(adata, methods=["noise"], metrics=METRICS[::-1], **keys)
    pd.testing.assert_frame_equal(again, table[table["method"] == "noise"].reset_index(drop=True))
    other = embedding(adata, methods=["noise"], metrics="knn_accuracy", rng=3, **keys)
    assert other.iloc[0].tolist() != again.iloc[0].tolist()


def test_what_is_apart_scores_high_and_noise_scores_like_chance(adata):
    table = embedding(
        adata, labels_key="region", methods=["apart", "noise", "pca"], metrics=METRICS, library_key="sample"
    )
    for method in ("apart", "pca"):
        good = values(table, method)
        perfect = ["knn_accuracy", "knn_macro_f1", "kmeans_nmi", "kmeans_ari", "domain_nmi", "domain_ari"]
        assert good[perfect].to_numpy() == pytest.approx(np.ones(6))
        assert good["majority_accuracy"] == pytest.approx(1 / 3)
        assert good["domain_pas"] < 0.1
        assert good["domain_chaos"] == pytest.approx(1, abs=0.05)
    noise = values(table, "noise")
    assert noise["knn_accuracy"] == pytest.approx(1 / 3, abs=0.15)
    assert abs(noise["kmeans_ari"]) < 0.1
    assert abs(noise["domain_ari"]) < 0.1
    assert noise["domain_neighbors"] == pytest.approx(noise["domain_neighbors_chance"], abs=0.05)
    assert noise["domain_pas"] > 0.6


def test_knn_accuracy_is_that_of_a_vote_by_hand(adata):
    vectors, labels = adata.obsm["near"], adata.obs["region"].to_numpy()
    named = np.empty_like(labels)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(vectors, labels):
        for cell in test:
            nearest = train[np.argsort(cdist(vectors[[cell]], vectors[train])[0])[:15]]
            votes = Counter(sorted(labels[nearest]))  # sorted: of equal votes the first label wins
            named[cell] = votes.most_common(1)[0][0]
    found = embedding(adata, labels_key="region", methods="near", metrics=["knn_accuracy", "knn_macro_f1"])
    found = found.set_index("metric")
    right = named == labels
    assert 0.5 < right.mean() < 0.95
    assert found["value"]["knn_accuracy"] == pytest.approx(right.mean())
    assert found["value"]["knn_macro_f1"] == pytest.approx(f1_score(labels, named, average="macro"))

    draws = np.random.default_rng(1).integers(N_CELLS, size=(2000, N_CELLS))
    expected = np.percentile(right[draws].mean(axis=1), [2.5, 97.5])
    assert found.loc["knn_accuracy", ["lower", "upper"]].tolist() == pytest.approx(expected, abs=0.02)
    f1 = [f1_score(labels[draw], named[draw], average="macro") for draw in draws[:400]]
    expected = np.percentile(f1, [2.5, 97.5])
    assert found.loc["knn_macro_f1", ["lower", "upper"]].tolist() == pytest.approx(expected, abs=0.02)


def test_scores_of_confusion_tables():
    truth, named = np.random.default_rng(0).integers(0, [[4], [3]], (2, 50))
    tables = np.zeros((2, 5, 5), dtype=int)
    np.add.at(tables[0], (truth, named), 1)
    tables[1] = np.diag([3, 0, 0, 0, 2])
    assert accuracy(tables) == pytest.approx([(truth == named).mean(), 1])
    assert macro_f1(tables) == pytest.approx([f1_score(truth, named, average="macro"), 1])


def test_no_resampling_no_interval(adata):
    table = embedding(adata, labels_key="region", methods="near", metrics="knn_accuracy", n_bootstrap=0)
    assert table[["lower", "upper"]].isna().all(axis=None)


def test_continuity_by_brute_force():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (60, 2)) * [100, 50]
    clusters = np.where(points[:, 0] < 40, 0, rng.integers(1, 4, 60))
    clusters[7] = 9  # alone
    distance = cdist(points, points)
    np.fill_diagonal(distance, np.inf)
    differ, same, nearest = [], [], []
    for cell in range(60):
        neighbors = np.argsort(distance[cell])[:10]
        differ.append((clusters[neighbors] != clusters[cell]).sum())
        same.append((clusters[neighbors] == clusters[cell]).mean())
        nearest.append(distance[cell][clusters == clusters[cell]].min())
    pairs = [clusters[i] == clusters[j] for i in range(60) for j in range(60) if i != j]

    found = continuity(clusters, points)
    assert found["domain_pas"] == pytest.approx((np.array(differ) >= 6).mean())
    assert found["domain_neighbors"] == pytest.approx(np.mean(same))
    nearest = np.array(nearest)
    unit = np.median(distance.min(axis=1))
    assert found["domain_chaos"] == pytest.approx(nearest[np.isfinite(nearest)].mean() / unit)
    assert found["domain_neighbors_chance"] == pytest.approx(np.mean(pairs))
    assert continuity(clusters, points * 7 + 3) == pytest.approx(found)
    assert np.isnan(continuity(np.arange(60), points)["domain_chaos"])


def test_domains_are_looked_for_in_each_sample_by_itself(adata):
    """A shift between samples ruins clusters of all cells, not those of each sample."""
    shift = np.where(adata.obs["sample"] == "s1", 0, 1000)[:, None]
    adata.obsm["shifted"] = adata.obsm["apart"] + shift
    adata.obsm["spatial"] = np.tile(adata.obsm["spatial"][:60], (2, 1))  # one above the other
    arguments = {"labels_key": "region", "methods": "shifted", "metrics": ["kmeans_ari", "domain_ari", "domain_pas"]}
    apart = values(embedding(adata, library_key="sample", **arguments), "shifted")
    assert apart["domain_ari"] == pytest.approx(1)
    assert apart["kmeans_ari"] < 0.9
    assert values(embedding(adata, **arguments), "shifted")["domain_ari"] < 0.9


def test_samples_count_by_their_cells(adata):
    first = (adata.obs["sample"] == "s1").to_numpy()
    adata.obsm["half"] = np.where(first[:, None], adata.obsm["apart"], adata.obsm["noise"])
    adata.obs.loc[~first & (np.arange(N_CELLS) < 20), "region"] = np.nan
    arguments = {"labels_key": "region", "methods": "half", "metrics": ["domain_ari", "domain_pas"]}
    both = embedding(adata, library_key="sample", **arguments)
    alone = [embedding(adata[rows].copy(), **arguments) for rows in (first, ~first)]
    assert alone[0]["value"][0] > alone[1]["value"][0] + 0.5
    sizes = np.array([part["n_cells"] for part in alone])
    assert sizes.tolist() == [[72, 72], [40, 48]]
    expected = np.average([part["value"] for part in alone], weights=sizes, axis=0)
    assert both["value"].to_numpy() == pytest.approx(expected)
    assert both["n_cells"].tolist() == [112, 120]


def test_number_of_domains(adata, monkeypatch):
    asked = []

    def clusters(vectors, n_clusters, seed):
        asked.append(n_clusters)
        return np.arange(len(vectors)) % n_clusters

    monkeypatch.setattr("scanpy_sct.evaluate.embedding_metrics._clusters", clusters)
    arguments = {"methods": "noise", "metrics": "domain_pas", "library_key": "sample"}
    adata.obs.loc[(adata.obs["sample"] == "s1") & (adata.obs["region"] == "c"), "region"] = np.nan
    adata.obs.loc[adata.obs["sample"] == "s2", "other"] = adata.obs["region"]
    embedding(adata, labels_key="region", **arguments)
    embedding(adata, labels_key="other", **arguments)
    embedding(adata, **arguments)
    embedding(adata, labels_key="region", n_clusters=5, **arguments)
    assert asked == [2, 3, 3, 3, 8, 8, 5, 5]


def test_cells_without_a_label_and_rare_labels_take_no_part(adata, caplog):
    names = adata.obs["region"].astype(str).to_numpy(dtype=object)
    names[:10] = np.nan
    names[10:14] = "rare"
    adata.obs["region"] = names
    keys = {"labels_key": "region", "methods": "apart"}
    metrics = ["knn_accuracy", "kmeans_ari", "domain_ari", "domain_pas"]
    with caplog.at_level(logging.INFO, logger="scanpy_sct"):
        table = embedding(adata, metrics=metrics, **keys).set_index("metric")
    assert table["n_cells"].to_dict() == {
        "knn_accuracy": N_CELLS - 14,
        "kmeans_ari": N_CELLS - 14,
        "domain_ari": N_CELLS - 14,
        "domain_pas": N_CELLS,
    }
    assert "4 cells whose label fewer than 5 cells have" in caplog.text
    alone = embedding(adata[14:].copy(), metrics="knn_accuracy", **keys)
    assert alone["value"][0] == table["value"]["knn_accuracy"]


@pytest.mark.parametrize("scale", ["counts", "log"])
@pytest.mark.parametrize(("name", "n_components", "scaled"), [("pca", 39, True), ("pca_unscaled", 20, False)])
def test_pca_is_that_of_log_normalised_genes(adata, scale, name, n_components, scaled):
    """39 components are all there can be of 40 genes."""
    log = np.log1p(adata.X.toarray() / np.asarray(adata.X.sum(axis=1)) * 1e4)
    genes = np.minimum((log - log.mean(axis=0)) / log.std(axis=0, ddof=1), 10) if scaled else log
    expected = PCA(n_components).fit_transform(genes)
    adata.X = adata.X if scale == "counts" else sparse.csr_matrix(log, dtype=np.float32)
    cells = embedding_methods.EmbeddingInput(adata, ReadOptions(), None, None, 0)
    found = registered("embedding")[name].function(cells)
    assert found.shape == (N_CELLS, n_components)
    np.testing.assert_allclose(pdist(found), pdist(expected), rtol=1e-3)


def test_pca_leaves_out_columns_that_are_not_genes(adata, with_antibodies):
    plain, stained = (
        embedding_methods.EmbeddingInput(each, ReadOptions(), None, None, 0).matrix
        for each in (adata, with_antibodies(adata))
    )
    np.testing.assert_array_equal(plain.toarray(), stained.toarray())


def test_pca_takes_the_variable_genes(adata, monkeypatch):
    flat = np.full((N_CELLS, 10), 3, dtype=np.float32)
    monkeypatch.setattr(embedding_methods, "N_VARIABLE_GENES", N_GENES // 2)
    kept = embedding_methods.variable_genes(sparse.csr_matrix(np.hstack([flat, adata.X.toarray()])), "counts")
    assert kept.n_vars == N_GENES // 2
    assert kept.var_names.astype(int).min() >= 10


def test_sct_is_what_embed_computes(pbmc, model):
    stored = pbmc[:150].copy()
    sct.tl.embed(stored, model=model, key_added="cell")
    labels = {"labels_key": "bulk_labels", "metrics": ["knn_accuracy", "kmeans_nmi"]}
    table = embedding(stored, methods=["sct", "cell", "pca"], model=model, **labels)
    by_method = table.pivot(index="metric", columns="method", values="value")
    assert (by_method["sct"] == by_method["cell"]).all()
    majority = stored.obs["bulk_labels"].value_counts(normalize=True).iloc[0]
    assert by_method["pca"]["knn_accuracy"] > majority + 0.2


def test_methods_and_metrics_of_other_packages(adata, monkeypatch):
    """As benchmarks register theirs."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    adata.layers["log"] = adata.X.log1p()

    @sct.evaluate.method("by_batch", task="embedding", needs=("counts", "batches"))
    def by_batch(cells):
        assert cells.scale == "counts"
        np.testing.assert_array_equal(cells.matrix.toarray(), adata.X.toarray())
        return np.eye(2)[cells.batches]

    @sct.evaluate.metric("n_dimensions", "n_batches", needs="batches")
    def sizes(cells, vectors, requested):
        assert requested == {"n_dimensions", "n_batches"}
        values = {"n_dimensions": vectors.shape[1], "n_batches": len(np.unique(cells.batches))}
        return {name: sct.evaluate.Score(value, len(vectors)) for name, value in values.items()}

    keys = {"methods": ["by_batch", "near"], "metrics": ["n_dimensions", "n_batches"]}
    table = embedding(adata, batch_key="sample", **keys)
    assert table["value"].tolist() == [2, 2, 3, 2]
    assert table["n_cells"].tolist() == [N_CELLS] * 4
    with pytest.raises(ValueError, match=r"'by_batch' of `methods` needs counts: name the layer with counts"):
        embedding(adata, batch_key="sample", layer="log", **keys)
    with pytest.raises(ValueError, match=r"'n_batches' of `metrics` needs batches: .*`batch_key=`"):
        embedding(adata, methods=must_not_run, metrics="n_batches")


def test_a_function_gets_a_copy(adata):
    def spoils(cells):
        cells.matrix.data[:] = 0
        cells.adata.obsm["near"] *= 0
        cells.adata.X = None
        return cells.adata.obsm["apart"]

    before = adata.copy()
    table = embedding(adata, labels_key="region", methods=[spoils, "apart"], metrics="knn_accuracy")
    assert_equal(adata, before)
    assert list(table["method"]) == ["spoils", "apart"]
    assert table["value"].nunique() == 1


def test_a_function_gets_a_backed_object_in_memory(adata, tmp_path):
    def spoils(cells):
        assert not cells.adata.isbacked
        cells.adata.obsm["apart"] *= 0
        return cells.adata.obsm["near"]

    expected = embedding(adata, labels_key="region", methods=["near", "apart"], metrics="knn_accuracy")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = embedding(backed, labels_key="region", methods=[spoils, "apart"], metrics="knn_accuracy")
    assert found["value"].tolist() == expected["value"].tolist()
    backed.file.close()


def test_coordinates_that_some_cells_lack_are_not_used(adata, caplog):
    adata.obsm["spatial"][3] = np.nan
    table = embedding(adata, labels_key="region", methods="near", n_bootstrap=0)
    assert not table["metric"].str.contains("continuity").any()
    assert "for 1 of 120 cells" in caplog.text


def test_no_expression_at_all(adata):
    adata.X = adata.X * 0
    with pytest.raises(ValueError, match="adata has no expression"):
        embedding(adata, labels_key="region", methods=[must_not_run, "pca"])


def test_what_is_not_one_vector_a_cell_is_refused(adata):
    def short(cells):
        return cells.adata.obsm["near"][:5]

    arguments = {"labels_key": "region", "metrics": "knn_accuracy"}
    with pytest.raises(ValueError, match=r"Method 'short' .*one vector per cell, \(120, n\); found \(5, 3\)"):
        embedding(adata, methods=short, **arguments)
    adata.obsm["holes"] = np.where(np.arange(N_CELLS)[:, None] < 2, np.nan, adata.obsm["near"])
    with pytest.raises(ValueError, match=r"Method 'holes' .* NaN or infinite values for 2 of 120 cells"):
        embedding(adata, methods=[must_not_run, "holes"], **arguments)
    adata.obsm["words"] = pd.DataFrame({"word": ["x"] * N_CELLS}, index=adata.obs_names)
    with pytest.raises(TypeError, match=r"Method 'words' .* must return numbers"):
        embedding(adata, methods=[must_not_run, "words"], **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels_key": "type"}, KeyError, "labels_key='type' is not a column .* 'region', 'sample'"),
        ({"batch_key": "type"}, KeyError, "batch_key='type' is not a column"),
        ({"library_key": "type"}, KeyError, "library_key='type' is not a column"),
        ({"labels_key": "unique"}, ValueError, "labels_key='unique' must name a column with at least two labels of 5"),
        ({"batch_key": "one"}, ValueError, r"\(batch_key\) has one batch only; leave"),
        ({"batch_key": "holes"}, ValueError, r"\(batch_key\) is missing for 3 of 120 cells; remove these cells"),
        ({"metrics": "knn"}, ValueError, "`metrics` must be some of knn_accuracy, .*; found 'knn'"),
        ({"metrics": []}, ValueError, "`metrics` must be .*; found none"),
        ({"metrics": "knn_accuracy"}, ValueError, "'knn_accuracy' of `metrics` needs labels: name .*labels_key"),
        ({"methods": "umap"}, ValueError, "`methods` must be some of .*apart, near.*sct, pca.*; found 'umap'"),
        ({"methods": []}, ValueError, "`methods` must be different ones of .*; found none"),
        ({"methods": [must_not_run, 3]}, TypeError, "`methods` must hold strings and functions, found int"),
        ({"methods": ["pca", "pca"]}, ValueError, "`methods` must be different ones"),
        (
            {"methods": [must_not_run, "sct"], "model": None},
            ValueError,
            "'sct' of `methods` needs checkpoint",
        ),
        ({"methods": [must_not_run, "pca"], "layer": "raw"}, KeyError, "layer='raw' is not in"),
        ({"n_bootstrap": -1}, ValueError, "n_bootstrap=-1 must be at least 0"),
        ({"n_bootstrap": 1.5}, TypeError, "n_bootstrap=1.5 must be an integer"),
        ({"n_clusters": 1}, ValueError, "n_clusters=1 must be at least 2"),
        ({"rng": "0"}, TypeError, "rng='0' must be an integer"),
    ],
)
def test_errors_name_the_argument_and_come_first(adata, arguments, error, message):
    adata.obs["unique"] = adata.obs_names
    adata.obs["one"] = "x"
    adata.obs["holes"] = adata.obs["sample"].where(np.arange(N_CELLS) > 2)
    arguments = {"methods": [must_not_run], "metrics": "domain_pas"} | arguments
    with pytest.raises(error, match=message):
        embedding(adata, **arguments)


def test_nothing_to_hold_against(adata):
    del adata.obsm["spatial"]
    with pytest.raises(
        ValueError, match=r"nothing to compare embeddings with: .*labels_key.* or .*batch_key.* or .*spatial"
    ):
        embedding(adata, methods=must_not_run)


def test_regions_are_judged_where_a_sample_has_two(adata):
    """Whole samples of one label each, as tumour and normal tissue."""
    options = {"labels_key": "sample", "library_key": "sample", "methods": "apart"}
    found = set(embedding(adata, metrics="all", **options)["metric"])
    assert {"domain_pas", "kmeans_ari"} <= found
    assert not {"domain_nmi", "domain_ari"} & found
    with pytest.raises(ValueError, match=r"'domain_ari' of `metrics` needs regions: give labels .* at least two"):
        embedding(adata, metrics=["domain_pas", "domain_ari"], **(options | {"methods": must_not_run}))
    with pytest.raises(ValueError, match="'domain_ari' of `metrics` needs labels: "):
        embedding(adata, metrics="domain_ari", methods=must_not_run)


def test_small_samples_have_no_domains(adata):
    adata.obs["sample"] = (np.arange(N_CELLS) // 10).astype(str)
    with pytest.raises(ValueError, match=r"'domain_pas' of `metrics` needs sections: .*samples of over 10 cells"):
        embedding(adata, methods=must_not_run, metrics="domain_pas", library_key="sample")
