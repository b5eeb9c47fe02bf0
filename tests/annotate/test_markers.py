from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from scanpy_sct.annotate.marker_genes import read_markers
from scanpy_sct.annotate.markers import MarkerAnnotator, agreement, score_markers, score_type, two_group_threshold
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.workflow import open_cells

MARKERS = {
    "B": ["CD79A", "CD79B", "MS4A1"],
    "Myeloid": ["LYZ", "CST3", "FCER1G"],
    "NK": ["NKG7", "GNLY", "GZMB"],
}


@pytest.fixture(scope="module")
def query(pbmc):
    return pbmc[:60].copy()


def test_markers_point_to_their_type():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    values = rng.normal(size=(60, 6)) + np.repeat([[10.0, 1, 0, 5, 2, 3]], 60, axis=0)
    values[np.arange(60), 2 * truth] += 5
    values[np.arange(60), 2 * truth + 1] += 5
    values *= [1, 100, 1, 1, 1, 1]  # units must not matter
    probabilities, none = score_markers(values, {"x": [0, 1], "y": [2, 3], "z": [4, 5]})
    assert (probabilities.argmax(1) == truth).all()
    assert none.max() < 0.5
    np.testing.assert_allclose(probabilities.sum(1), 1)


def test_a_cell_with_more_of_everything_prefers_no_type():
    values = np.random.default_rng(0).normal(size=(2000, 6))
    markers = {"x": [0, 1], "y": [2, 3], "z": [4, 5]}
    more = values.copy()
    more[0] = values.mean(0) + 3 * values.std(0)
    assert np.ptp(score_markers(more, markers)[0][0]) < 0.2


def test_a_cell_without_markers_is_none_of_the_types():
    rng = np.random.default_rng(0)
    values = 0.1 * rng.random((60, 4))
    values[:15, :2] += 3
    values[15:30, 2:] += 3
    probabilities, none = score_markers(values, {"x": [0, 1], "y": [2, 3]})
    assert (none[:30] < 0.1).all()
    assert (none[30:] > 0.5).all()
    np.testing.assert_allclose(probabilities[30:], 0.5, atol=0.1)


@pytest.mark.parametrize("n_own", [6, 30, 54])
def test_common_and_rare_types_are_labelled(n_own):
    """Cells of a type are labelled whether it is rare or that of nearly all cells."""
    values = np.random.default_rng(0).normal(size=(60, 6))
    values[:n_own, :3] += 5
    values[n_own:, 3:] += 5
    probabilities, none = score_markers(values, {"x": [0, 1, 2], "y": [3, 4, 5]})
    assert (probabilities.argmax(1) == (np.arange(60) >= n_own)).all()
    assert (none < 0.5).mean() > 0.9


def test_genes_of_a_long_list_that_do_not_agree_hardly_count():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 60))
    values[:60, :10] += 2
    values[60:120, 30:40] += 2
    probabilities, none = score_markers(values, {"x": range(30), "y": range(30, 60)})
    assert (none[:120] < 0.5).mean() > 0.9
    assert (none[120:] > 0.5).mean() > 0.7
    assert (probabilities.argmax(1) == (np.arange(300) >= 60))[:120].mean() > 0.97


def test_weights_are_correlations_with_the_weighted_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000, 4)) + 2 * rng.normal(size=(5000, 1)) * [1, 1, 1, 0]
    correlations = np.corrcoef(values.T)
    weights = agreement(correlations)
    standardised = (values - values.mean(0)) / values.std(0)
    before = standardised @ np.ones(4)
    for _ in range(3):
        expected = np.array([np.corrcoef(standardised[:, gene], before)[0, 1] for gene in range(4)]).clip(0)
        before = standardised @ expected
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert weights[:3].min() > 0.8
    assert weights[3] < 0.1
    assert agreement(correlations[2:, 2:]).tolist() == [1, 1]
    assert agreement(np.zeros((3, 3))).tolist() == [1, 1, 1]


def test_the_threshold_is_that_of_the_least_variance_within_groups():
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.normal(size=40), rng.normal(6, 1, size=10)])
    ordered = np.sort(score)
    within = [ordered[:n].var() * n + ordered[n:].var() * (50 - n) for n in range(1, 50)]
    n_lower = 1 + int(np.argmin(within))
    assert two_group_threshold(score) == pytest.approx(ordered[n_lower - 1 : n_lower + 1].mean())
    assert 2 < two_group_threshold(score) < 5
    assert two_group_threshold(np.ones(1)) == 0
    assert score_type(np.ones((20, 3))).tolist() == [0] * 20


@pytest.mark.parametrize("informative", ["imputed", "measured", "unmeasured"])
def test_scores_come_from_measured_and_imputed_values(query, tiny_checkpoint, monkeypatch, informative):
    """One of the two is the truth, the other is constant: the labels must be right."""
    types = list(MARKERS)
    truth = np.arange(query.n_obs) % 3
    genes = np.concatenate(list(MARKERS.values()))
    expressed = {gene: truth == types.index(label) for label, own in MARKERS.items() for gene in own}
    query = query.copy()
    query.X = query.X.toarray()
    for gene in genes:
        query.X[:, query.var_names.get_loc(gene)] = 2.0 * expressed[gene] if informative == "measured" else 1.0
    if informative == "unmeasured":
        query = query[:, ~query.var_names.isin(genes)].copy()
    index_of = {name: index for index, name in enumerate(tiny_checkpoint.genes)}
    gene_at = {index_of[to_ensembl([gene]).ensembl_ids[0]]: gene for gene in genes}

    def impute(checkpoint, cells, options, settings):
        assert not settings.blend
        values = np.stack([expressed[gene_at[index]].astype(np.float32) for index in settings.genes], axis=1)
        return SimpleNamespace(values=0 * values if informative == "measured" else values)

    monkeypatch.setattr("scanpy_sct.annotate.markers.impute_cells", impute)
    _, reader = open_cells(query, tiny_checkpoint)
    annotator = MarkerAnnotator(read_markers(MARKERS, tiny_checkpoint, reader).genes)
    found = annotator.annotate(tiny_checkpoint, reader, ComputeOptions())
    assert found.labels == tuple(types)
    assert found.probabilities.argmax(1).tolist() == truth.tolist()
    assert found.details["markers"]["measured"] == ([0, 0, 0] if informative == "unmeasured" else [3, 3, 3])


def test_few_cells_can_hardly_be_compared(query, tiny_checkpoint, monkeypatch, caplog):
    _, reader = open_cells(query[:3].copy(), tiny_checkpoint)
    found = read_markers(MARKERS, tiny_checkpoint, reader)
    values = SimpleNamespace(values=np.zeros((3, 9), dtype=np.float32))
    monkeypatch.setattr("scanpy_sct.annotate.markers.impute_cells", lambda *_: values)
    with caplog.at_level(logging.WARNING):
        annotation = MarkerAnnotator(found.genes, found.details).annotate(tiny_checkpoint, reader, ComputeOptions())
    assert "adata has only 3" in caplog.text
    assert annotation.details["markers"]["unused"] == []
