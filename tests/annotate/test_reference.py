from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.annotate import reference as by_reference
from scanpy_sct.annotate.labels import check_labels, empty_cells
from scanpy_sct.annotate.reference import ReferenceAnnotator, with_measured
from scanpy_sct.annotate.tissue import sample_means
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellBlock
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.workflow import open_cells

OPTIONS = ComputeOptions(bags="random")


@pytest.fixture(scope="module")
def halves(pbmc):
    """Labelled cells of four types, and others to annotate."""
    cells = pbmc[pbmc.obs["bulk_labels"].isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK", "CD34+"])]
    order = np.random.default_rng(0).permutation(cells.n_obs)
    return cells[order[:100]].copy(), cells[order[100:]].copy()


@pytest.fixture
def vectors(monkeypatch):
    """Embeddings without a network: noise; the numbers of cells and the options of each call are kept."""
    calls = []

    def embed(checkpoint, cells, options):
        calls.append((cells.n_cells, options.bags, np.flatnonzero(cells.measured)))
        return np.random.default_rng(cells.n_cells).normal(size=(cells.n_cells, 4)).astype(np.float32)

    monkeypatch.setattr(by_reference, "cell_vectors", embed)
    return calls


def read(adata, checkpoint, **options):
    return open_cells(adata, checkpoint, ReadOptions(**options))[1]


def learn(adata, checkpoint, **options):
    cells = read(adata, checkpoint, **options).block()
    return ReferenceAnnotator(cells, *check_labels(adata.obs["bulk_labels"], "labels", ~empty_cells(cells)))


def accuracy(found, adata):
    labels = np.asarray(found.labels)[found.probabilities.argmax(1)]
    return (labels == adata.obs["bulk_labels"].astype(str)).mean()


@pytest.mark.usefixtures("vectors")
def test_labels_are_right(halves, tiny_checkpoint):
    known, query = halves
    found = learn(known, tiny_checkpoint).annotate(tiny_checkpoint, read(query, tiny_checkpoint), OPTIONS)
    assert accuracy(found, query) > 0.85
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert found.labels == tuple(sorted(known.obs["bulk_labels"].unique()))
    assert ((found.novelty >= 0) & (found.novelty <= 1)).all()
    assert found.details["source"] == "reference"
    assert found.details["reference"]["cells"] == known.n_obs
    assert found.details["reference"]["calibrated_on"] == "cells"


def test_the_embedding_is_used_only_if_the_objects_are_similar(halves, tiny_checkpoint, vectors):
    known, query = halves
    annotator = learn(known, tiny_checkpoint)
    cells = read(query, tiny_checkpoint)
    options = ComputeOptions(bags="similar")
    details = annotator.annotate(tiny_checkpoint, cells, options).details["reference"]
    assert details["embedding"]
    assert details["difference"] < 0.7
    assert not details["few_genes"]
    assert sorted(call[:2] for call in vectors) == [(known.n_obs, "random"), (query.n_obs, "similar")]
    vectors.clear()
    other = query.copy()
    other.X = other.X.toarray()
    other.X[:, ::3] *= 3
    details = annotator.annotate(tiny_checkpoint, read(other, tiny_checkpoint), options).details["reference"]
    assert details["difference"] > 0.9
    assert (details["embedding"], details["few_genes"]) == (False, True)
    assert vectors == []


@pytest.mark.usefixtures("vectors")
def test_few_genes_count_as_much_as_the_ensemble_if_the_objects_differ(halves, tiny_checkpoint, monkeypatch):
    known, query = halves
    annotator = learn(known, tiny_checkpoint)
    other = query.copy()
    other.X = other.X.toarray()
    other.X[:, ::3] *= 3
    seen = []

    def certain(few, cells, genes):
        seen.append((few.labels, few.held_out.shape, cells.n_cells, len(genes)))
        return np.tile(np.where(np.arange(4) == 2, 50.0, 0), (cells.n_cells, 1))

    monkeypatch.setattr(by_reference, "_few_logits", certain)
    similar = annotator.annotate(tiny_checkpoint, read(query, tiny_checkpoint), OPTIONS)
    assert seen == []
    cells = read(other, tiny_checkpoint)
    found = annotator.annotate(tiny_checkpoint, cells, OPTIONS)
    assert seen == [(similar.labels, (known.n_obs, 4), query.n_obs, found.details["reference"]["shared_genes"])]
    # One label has half of the mean probability before it is calibrated.
    assert (found.probabilities.argmax(1) == 2).all()
    assert (similar.probabilities.argmax(1) != 2).any()


def test_the_embedding_counts(halves, tiny_checkpoint, monkeypatch):
    """Vectors that hold the labels change labels that expression alone gets wrong."""
    known, query = halves
    codes = {adata.n_obs: pd.Categorical(adata.obs["bulk_labels"].astype(str)).codes for adata in halves}

    def embed(checkpoint, cells, options):
        return np.eye(4, dtype=np.float32)[codes[cells.n_cells]]

    monkeypatch.setattr(by_reference, "EMBEDDING_WEIGHT", 3)
    monkeypatch.setattr(by_reference, "cell_vectors", embed)
    found = learn(known, tiny_checkpoint).annotate(tiny_checkpoint, read(query, tiny_checkpoint), OPTIONS)
    assert accuracy(found, query) == 1


def test_only_shared_genes_are_read(halves, tiny_checkpoint, vectors):
    """Genes that one side did not measure must not reach the result, whatever they hold."""
    known, query = halves[0][:, :500].copy(), halves[1].copy()
    annotator = learn(known, tiny_checkpoint)
    shared = np.flatnonzero(annotator.cells.measured & read(query, tiny_checkpoint).measured)
    results = []
    for factor in (1, 5):
        counts = query.copy()
        counts.X = np.round(np.expm1(query.X.toarray()) * 10)  # counts: each value is read for itself
        counts.X[:, 500:] *= factor
        results.append(annotator.annotate(tiny_checkpoint, read(counts, tiny_checkpoint), OPTIONS))
    np.testing.assert_allclose(results[0].probabilities, results[1].probabilities, atol=1e-6)
    np.testing.assert_allclose(results[0].novelty, results[1].novelty, atol=1e-6)
    assert all(np.array_equal(measured, shared) for _, _, measured in vectors)
    assert results[0].details["reference"]["shared_genes"] == len(shared)


@pytest.mark.usefixtures("vectors")
def test_at_most_so_many_cells_of_a_label_are_used(halves, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(by_reference, "MAX_CELLS_PER_LABEL", 10)
    known, query = halves
    found = learn(known, tiny_checkpoint).annotate(tiny_checkpoint, read(query, tiny_checkpoint), OPTIONS)
    expected = known.obs["bulk_labels"].value_counts().clip(upper=10).sum()
    assert found.details["reference"]["cells"] == expected < known.n_obs
    assert accuracy(found, query) > 0.7


@pytest.mark.usefixtures("vectors")
def test_whole_samples_are_held_out(halves, tiny_checkpoint):
    known, query = halves[0].copy(), halves[1]
    known.obs["donor"] = pd.Categorical(np.arange(known.n_obs) % 3)
    annotator = learn(known, tiny_checkpoint, library_key="donor")
    found = annotator.annotate(tiny_checkpoint, read(query, tiny_checkpoint), OPTIONS)
    assert found.details["reference"]["calibrated_on"] == "samples"


@pytest.fixture(scope="module")
def sections(pbmc):
    """Two labelled sections and one to annotate: similar T cells, their types side by side on the tissue."""
    cells = pbmc[
        pbmc.obs["bulk_labels"].isin(["CD4+/CD25 T Reg", "CD8+ Cytotoxic T", "CD8+/CD45RA+ Naive Cytotoxic"])
    ].copy()
    rng = np.random.default_rng(0)
    codes = pd.Categorical(cells.obs["bulk_labels"].astype(str)).codes
    cells.obsm["spatial"] = np.column_stack(
        [3 * codes + rng.uniform(0, 0.8, cells.n_obs), rng.uniform(0, 1, cells.n_obs)]
    )
    section = rng.permutation(np.arange(cells.n_obs) % 3)
    cells.obs["section"] = pd.Categorical(section.astype(str))
    return cells[section < 2].copy(), cells[section == 2].copy()


@pytest.fixture
def annotate_sections(tiny_checkpoint, vectors):
    def annotate(known, query, key="section"):
        annotator = learn(known, tiny_checkpoint, library_key=key)
        return annotator.annotate(tiny_checkpoint, read(query, tiny_checkpoint, library_key=key), OPTIONS)

    return annotate


def without_coordinates(adata):
    adata = adata.copy()
    del adata.obsm["spatial"]
    return adata


def test_the_nearest_cells_count_where_types_are_contiguous(sections, annotate_sections):
    known, query = sections
    plain = annotate_sections(without_coordinates(known), query)
    found = annotate_sections(known, query)
    assert not plain.details["reference"]["coordinates"]
    assert found.details["reference"]["coordinates"]
    assert accuracy(found, query) > accuracy(plain, query) + 0.05
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("change", ["shuffled", "query without", "one missing", "one sample"])
def test_coordinates_that_do_not_help_change_nothing(sections, annotate_sections, change):
    known, query = (adata.copy() for adata in sections)
    plain = annotate_sections(without_coordinates(known), without_coordinates(query))
    key = "section"
    if change == "shuffled":
        for adata in (known, query):
            adata.obsm["spatial"] = np.random.default_rng(1).permutation(adata.obsm["spatial"])
    elif change == "query without":
        query = without_coordinates(query)
    elif change == "one missing":
        query.obsm["spatial"][3] = np.nan
    else:
        key = None
        plain = annotate_sections(without_coordinates(known), without_coordinates(query), key)
    found = annotate_sections(known, query, key)
    assert not found.details["reference"]["coordinates"]
    np.testing.assert_array_equal(found.probabilities, plain.probabilities)
    np.testing.assert_array_equal(found.novelty, plain.novelty)


def test_sections_that_differ_are_read_relative_to_their_means(sections, annotate_sections, monkeypatch):
    rng = np.random.default_rng(0)
    known, query = (adata.copy() for adata in sections)
    for adata in (known, query):
        adata.X = adata.X.toarray()
        for section in adata.obs["section"].unique():
            adata.X[adata.obs["section"] == section] += rng.gamma(0.5, 2, size=adata.n_vars).astype(np.float32)
    found = accuracy(annotate_sections(known, query), query)
    monkeypatch.setattr("scanpy_sct.annotate.tissue.CENTRING", np.float32(0))
    assert found > accuracy(annotate_sections(known, query), query) + 0.1


def test_samples_are_centred_by_all_of_their_cells(sections, annotate_sections, monkeypatch):
    """Not by those that are drawn, of which each label has equally many."""
    means = []

    def keep(values, samples, empty):
        means.append((values.shape[0], len(empty)))
        return sample_means(values, samples, empty)

    monkeypatch.setattr(by_reference, "sample_means", keep)
    monkeypatch.setattr(by_reference, "MAX_CELLS_PER_LABEL", 20)
    known, query = sections
    assert annotate_sections(known, query).details["reference"]["cells"] == 60
    assert means == [(known.n_obs, known.n_obs)]


def test_errors_come_before_computing(halves, tiny_checkpoint, vectors, monkeypatch):
    monkeypatch.setattr(by_reference, "normalised_genes", pytest.fail)
    known, query = halves
    annotator = learn(known[:, :300].copy(), tiny_checkpoint)
    with pytest.raises(ValueError, match=r"share 0 genes .* at least 50 are needed"):
        annotator.annotate(tiny_checkpoint, read(query[:, 300:].copy(), tiny_checkpoint), OPTIONS)
    with pytest.raises(ValueError, match="device='cuda:99'"):
        annotator.annotate(tiny_checkpoint, read(query, tiny_checkpoint), ComputeOptions(device="cuda:99"))
    assert vectors == []


def test_a_great_difference_is_a_warning(caplog):
    by_reference._log_difference(0.8, 100, 100)
    assert "another tissue" not in caplog.text
    by_reference._log_difference(0.999, 100, 100)
    assert "another tissue" in caplog.text


def test_too_few_cells_are_not_called_another_tissue(caplog):
    by_reference._log_difference(float("nan"), 100, 1)
    assert "another" not in caplog.text
    assert "Too few cells to compare the reference (100 cells) with adata (1)" in caplog.text


def block():
    values = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [0, 3, 4, 0]], dtype=np.float32)
    return CellBlock(
        rows=np.array([10, 11, 12]),
        log_values=sparse.csr_matrix(values),
        token_values=sparse.csr_matrix(10 * values),
        measured=np.array([True, True, True, False]),
        samples=np.array([0, 1, 1]),
        coordinates=np.arange(6.0).reshape(3, 2),
        name_hashes=np.arange(3, dtype=np.uint64),
        hidden=sparse.csr_matrix(values > 3),
    )


def test_empty_cells():
    assert empty_cells(block()).tolist() == [False, True, False]


def test_only_some_genes_stay_measured():
    cells = block()
    part = with_measured(cells, np.array([0, 2]))
    np.testing.assert_array_equal(part.log_values.toarray(), [[1, 0, 2, 0], [0, 0, 0, 0], [0, 0, 4, 0]])
    np.testing.assert_array_equal(part.token_values.toarray(), 10 * part.log_values.toarray())
    assert part.log_values.nnz == 3
    np.testing.assert_array_equal(part.hidden.toarray().nonzero(), [[2], [2]])
    assert part.measured.tolist() == [True, False, True, False]
    assert part.rows.tolist() == [10, 11, 12]
    assert cells.log_values.nnz == 4  # the argument stays as it was
    assert cells.measured.tolist() == [True, True, True, False]
