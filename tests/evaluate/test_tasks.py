"""What is masked, what is shown, and that nothing of the one is in the other."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from anndata.tests.helpers import assert_equal
from scipy import sparse

from scanpy_sct.evaluate import tasks as module
from scanpy_sct.evaluate.source import Source, read_source
from scanpy_sct.evaluate.tasks import Task, build_task, parse_task
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader

N_CELLS, N_GENES = 120, 80
EVERY_TASK = ("entries_15", "entries_90", "genes", "panel_60", "thinning")


@pytest.fixture(scope="module")
def vocabulary() -> np.ndarray:
    return released_vocabulary()


@pytest.fixture
def adata(vocabulary) -> ad.AnnData:
    rng = np.random.default_rng(0)
    programs = rng.gamma(0.5, 2, (3, N_GENES))
    counts = rng.poisson(programs[rng.integers(3, size=N_CELLS)] * rng.lognormal(0.5, 0.5, (N_CELLS, 1)))
    result = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    result.obs["section"] = np.where(np.arange(N_CELLS) < 70, "a", "b")
    result.obs["total"] = counts.sum(axis=1)
    # In no order, with a gene that the model does not know in between.
    known = rng.permutation(vocabulary[vocabulary != ""])[: N_GENES - 1]
    result.var_names = np.insert(known, 10, "unknown gene")
    return result


def build(name: str, adata: ad.AnnData, vocabulary: np.ndarray, **kwargs) -> Task:
    reading = {key: kwargs.pop(key) for key in ("library_key", "gene_names", "scale") if key in kwargs}
    return build_task(name, read_source(adata, vocabulary, ReadOptions(**reading), **kwargs))


def log_normalise(adata: ad.AnnData) -> None:
    totals = np.asarray(adata.X.sum(axis=1))
    adata.X = sparse.csr_matrix(adata.X.multiply(1e4 / totals), dtype=np.float32).log1p()


def in_columns(task: Task, adata: ad.AnnData, vocabulary: np.ndarray) -> np.ndarray:
    """Column of `adata` of each gene of the task."""
    return adata.var_names.get_indexer(vocabulary[task.observed.gene_index])


@pytest.mark.parametrize("name", ["panel_60", "thinning"])
def test_methods_do_not_see_columns_that_are_not_genes(adata, vocabulary, with_antibodies, name):
    task = build(name, adata, vocabulary)
    found = build(name, with_antibodies(adata), vocabulary)
    assert found.observed.visible.shape == task.observed.visible.shape
    np.testing.assert_array_equal(found.observed.gene_index, task.observed.gene_index)
    assert "CD45" not in found.observed.visible.var_names


@pytest.mark.parametrize("name", ["entries_15", "entries_50", "entries_90", "genes", "panel_60"])
def test_the_task_holds_what_was_measured_and_shows_nothing_of_it(adata, vocabulary, name):
    task = build(name, adata, vocabulary)
    observed, dense = task.observed, adata.X.toarray()
    columns = in_columns(task, adata, vocabulary)
    np.testing.assert_allclose(task.truth, np.log1p(dense[:, columns])[observed.targets], rtol=1e-6)
    assert not (observed.targets & ~observed.masked).any()
    for part in (observed.counts, observed.log_values):
        assert not part.toarray()[observed.masked].any()
    np.testing.assert_allclose(observed.counts.toarray(), np.where(observed.masked, 0, dense[:, columns]), rtol=1e-5)
    np.testing.assert_allclose(task.rates, (dense[:, columns] > 0).mean(axis=0))
    # What a method is shown as AnnData has no more to it.
    shown = observed.visible.to_df().reindex(columns=vocabulary[observed.gene_index], fill_value=0).to_numpy()
    np.testing.assert_array_equal(shown, np.where(observed.masked, 0, dense[:, columns]))


@pytest.mark.parametrize("name", EVERY_TASK)
@pytest.mark.parametrize("key", [None, "section"])
def test_what_is_seen_can_be_read_again(adata, vocabulary, name, key):
    """Also where a column of `.var` names the genes."""
    adata.var["name"] = [f"{name}.7" for name in adata.var_names]  # .7: a version of the id
    adata.var_names = [f"feature {i}" for i in range(N_GENES)]
    observed = build(name, adata, vocabulary, library_key=key, gene_names="name").observed
    reader = CellReader(observed.visible, vocabulary, "log1p_counts", ReadOptions(library_key=observed.library_key))
    again = reader.block()
    np.testing.assert_array_equal(observed.visible.obs_names, adata.obs_names)
    np.testing.assert_array_equal(again.samples, observed.samples)
    np.testing.assert_array_equal(again.log_values[:, observed.gene_index].toarray(), observed.log_values.toarray())
    measured = observed.gene_index[~observed.masked.all(axis=0)] if name.startswith("panel") else observed.gene_index
    assert set(measured) <= set(np.flatnonzero(again.measured))
    assert set(vocabulary[measured]) <= set(observed.visible.var_names)
    assert list(observed.visible.obs) == ([] if key is None else [key])  # not the total, which tells of masked counts


@pytest.mark.parametrize("name", EVERY_TASK[:-1])
@pytest.mark.parametrize("scale", ["counts", "log"])
def test_what_was_masked_changes_nothing_that_is_shown(adata, vocabulary, name, scale, monkeypatch):
    # Which genes are asked about rests on how often they are detected, and a panel on how they vary: keep these.
    monkeypatch.setattr(module, "_often_detected", lambda source: np.ones(len(source.gene_index), dtype=bool))
    monkeypatch.setattr(module, "choose_panel", lambda counts, n: np.arange(counts.shape[1]) < n)
    if scale == "log":
        log_normalise(adata)
    given = {"counts": "counts", "log": "log1p"}[scale]  # shuffled values are not what normalised ones look like
    task = build(name, adata, vocabulary, scale=given)
    masked = np.zeros(adata.shape, dtype=bool)
    masked[:, in_columns(task, adata, vocabulary)] = task.observed.masked
    values = adata.X.toarray()
    values[masked] = np.random.default_rng(9).permutation(values.ravel())[: masked.sum()]
    other = build(name, ad.AnnData(sparse.csr_matrix(values), obs=adata.obs, var=adata.var), vocabulary, scale=given)

    np.testing.assert_array_equal(other.observed.masked, task.observed.masked)
    np.testing.assert_array_equal(other.observed.targets, task.observed.targets)
    assert (other.truth != task.truth).mean() > 0.2
    for part in ("counts", "log_values"):
        first, second = getattr(task.observed, part), getattr(other.observed, part)
        np.testing.assert_array_equal(first.toarray(), second.toarray())
    np.testing.assert_array_equal(task.observed.visible.X.toarray(), other.observed.visible.X.toarray())
    np.testing.assert_array_equal(task.observed.bags, other.observed.bags)
    assert task.observed.seed == other.observed.seed


def test_a_percentage_of_the_entries_is_masked(adata, vocabulary):
    for percent in (15, 50, 90):
        masked = build(f"entries_{percent}", adata, vocabulary).observed.masked
        assert masked.mean() == pytest.approx(percent / 100, abs=0.02)
        assert masked.shape == (N_CELLS, N_GENES - 1)


def test_whole_genes_are_masked_in_every_cell(adata, vocabulary):
    dense = adata.X.toarray()
    dense[:, :40] *= np.arange(N_CELLS)[:, None] < 2  # two cells are too few
    adata.X = sparse.csr_matrix(dense)
    task = build("genes", adata, vocabulary)
    genes = task.observed.masked.any(axis=0)
    assert 1 <= genes.sum() <= 12
    assert task.observed.masked[:, genes].all()
    assert (in_columns(task, adata, vocabulary)[genes] >= 40).all()
    assert task.observed.visible.n_vars == N_GENES
    assert task.masks_genes


def test_there_is_a_hidden_gene_where_chance_takes_none(adata, vocabulary):
    dense = np.tile(np.arange(N_GENES, dtype=np.float32) % 7, (N_CELLS, 1))
    dense[:, 5:] *= np.arange(N_CELLS)[:, None] < 2  # four genes are left that three cells express
    adata.X = sparse.csr_matrix(dense)
    for seed in range(5):
        assert build("genes", adata, vocabulary, seed=seed).observed.masked.any(axis=0).sum() >= 1


def test_a_panel_is_all_that_is_measured(adata, vocabulary):
    task = build("panel_60", adata, vocabulary)
    outside = task.observed.masked.all(axis=0)
    assert outside.sum() == N_GENES - 1 - 60
    assert not task.observed.masked[:, ~outside].any()
    assert task.observed.visible.n_vars == 60
    assert task.observed.targets.any(axis=0)[outside].mean() > 0.8
    assert task.masks_genes


@pytest.mark.parametrize("name", EVERY_TASK[:-1])
def test_a_task_has_so_many_targets_entries_at_most(adata, vocabulary, monkeypatch, name):
    before = build(name, adata, vocabulary).observed
    monkeypatch.setattr(module, "_MOST_ENTRIES", 300)
    monkeypatch.setattr(module, "_MOST_ENTRIES_OF_PANEL", 300)
    task = build(name, adata, vocabulary)
    targets = task.observed.targets
    assert 230 < targets.sum() == len(task.truth) < 350
    assert not (targets & ~before.targets).any()
    assert targets.any(axis=0).sum() > 0.7 * before.targets.any(axis=0).sum()
    np.testing.assert_array_equal(task.observed.masked, before.masked)


def test_thinned_counts_add_up_and_all_are_wanted(adata, vocabulary):
    task = build("thinning", adata, vocabulary)
    columns = in_columns(task, adata, vocabulary)
    np.testing.assert_allclose((task.observed.counts + task.test).toarray(), adata.X.toarray()[:, columns], rtol=1e-5)
    assert not task.observed.masked.any()
    assert task.observed.targets.all()
    assert task.test.sum() / adata.X.sum() == pytest.approx(0.1, abs=0.02)
    assert task.truth is None


def test_thinning_leaves_out_genes_of_which_nothing_is_seen(adata, vocabulary):
    dense = adata.X.toarray()
    dense[:, [20, 30]] = 0
    task = build("thinning", ad.AnnData(sparse.csr_matrix(dense), var=adata.var), vocabulary)
    assert not np.isin([20, 30], in_columns(task, adata, vocabulary)).any()
    assert len(task.observed.gene_index) == task.test.shape[1] == len(task.rates) == N_GENES - 3


@pytest.mark.parametrize("name", EVERY_TASK)
def test_the_same_seed_masks_the_same(adata, vocabulary, name):
    first, second, other = (build(name, adata, vocabulary, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.observed.targets, second.observed.targets)
    np.testing.assert_array_equal(first.observed.counts.toarray(), second.observed.counts.toarray())
    assert first.observed.seed == second.observed.seed != other.observed.seed
    if not name.startswith("panel"):
        same_shape = first.observed.counts.shape == other.observed.counts.shape
        assert not same_shape or (first.observed.counts != other.observed.counts).nnz > 0


@pytest.mark.parametrize("name", EVERY_TASK)
def test_a_second_column_of_a_gene_is_not_shown(adata, vocabulary, name):
    twice = ad.AnnData(sparse.hstack([adata.X, adata.X[:, :5]], format="csr"), obs=adata.obs)
    twice.var_names = [*adata.var_names, *(f"{name}.2" for name in adata.var_names[:5])]  # .2: a version of the id
    task = build(name, twice, vocabulary)
    assert task.observed.visible.n_vars == (60 if name == "panel_60" else N_GENES)
    assert ("unknown gene" in task.observed.visible.var_names) == (name != "panel_60")
    assert len(task.observed.gene_index) == N_GENES - 1


@pytest.mark.parametrize("name", EVERY_TASK[:-1])
def test_empty_cells_are_not_tested(adata, vocabulary, name):
    adata.X = sparse.csr_matrix(sparse.diags((np.arange(N_CELLS) != 4).astype(np.float32)) @ adata.X)
    task = build(name, adata, vocabulary)
    assert not task.observed.targets[4].any()
    assert task.observed.targets[5].any()


def test_bags_are_neighbourhoods_of_one_sample(adata, vocabulary):
    rng = np.random.default_rng(1)
    adata.obsm["spatial"] = rng.normal(0, 1, (N_CELLS, 2)) + np.where(np.arange(N_CELLS) % 2, 0, 100)[:, None]
    observed = build("entries_15", adata, vocabulary, library_key="section").observed
    section, side = adata.obs["section"].to_numpy(), np.arange(N_CELLS) % 2
    for bag in np.unique(observed.bags):
        assert len(set(section[observed.bags == bag])) == 1
    # 70 cells of section a make two bags, one on each side.
    assert len({*zip(observed.bags[:70], side[:70], strict=True)}) == 2
    np.testing.assert_array_equal(observed.coordinates, adata.obsm["spatial"])
    np.testing.assert_array_equal(observed.visible.obsm["spatial"], adata.obsm["spatial"])


def test_cell_types_are_text_and_never_missing(adata, vocabulary):
    adata.obs["type"] = [None, 3, *["T cell"] * (N_CELLS - 2)]
    observed = build("entries_15", adata, vocabulary, labels_key="type").observed
    assert observed.labels[:3].tolist() == ["unlabelled", "3", "T cell"]


def test_data_are_never_changed(adata, vocabulary):
    before = adata.copy()
    for name in EVERY_TASK:
        build(name, adata, vocabulary)
    assert_equal(adata, before)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("entries_15", ("entries", 15)),
        ("genes", ("genes", 0)),
        ("thinning", ("thinning", 0)),
        ("panel_300", ("panel", 300)),
    ],
)
def test_names_of_tasks(name, found):
    assert parse_task(name) == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("entries_0", "1 and 99"),
        ("entries_100", "1 and 99"),
        ("panel_10", "at least 50"),
        ("entries", "'entries_15'"),
        ("gene", "found 'gene'"),
        (15, "found 15"),
    ],
)
def test_other_names_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        parse_task(name)


def test_data_that_cannot_serve_a_task(adata, vocabulary):
    with pytest.raises(ValueError, match=r"'panel_79'.*79 genes"):
        build_task("panel_79", read_source(adata, vocabulary))
    rare = ad.AnnData(sparse.csr_matrix(np.eye(N_CELLS, N_GENES, dtype=np.float32)), var=adata.var)
    with pytest.raises(ValueError, match="'genes'"):
        build_task("genes", read_source(rare, vocabulary))
    # Nothing would stay visible of a cell that expresses one gene, so that all cells are left whole.
    with pytest.raises(ValueError, match=r"'entries_99'.*masks no entry.*a smaller one"):
        build_task("entries_99", read_source(rare[:3], vocabulary))
    rare.X = sparse.csr_matrix(np.arange(N_GENES) == 10, dtype=np.float32)[np.zeros(N_CELLS, dtype=int)]  # unknown gene
    with pytest.raises(ValueError, match="adata has no expression"):
        read_source(rare, vocabulary)
    log_normalise(adata)
    with pytest.raises(ValueError, match=r"'thinning'.*needs counts.*log"):
        build_task("thinning", read_source(adata, vocabulary))


def test_too_few_cells(adata, vocabulary):
    with pytest.raises(ValueError, match="2 cells"):
        read_source(adata[:2], vocabulary)


def test_missing_labels_are_named(adata, vocabulary):
    with pytest.raises(KeyError, match=r"labels_key='kind'.*'section'"):
        read_source(adata, vocabulary, labels_key="kind")


def test_a_source_knows_its_genes(adata, vocabulary):
    source: Source = read_source(adata, vocabulary)
    np.testing.assert_array_equal(source.gene_index, np.sort(source.gene_index))
    np.testing.assert_array_equal(adata.var_names[source.columns], vocabulary[source.gene_index])
    np.testing.assert_array_equal(source.n_detected, (adata.X.toarray()[:, source.columns] > 0).sum(axis=0))
