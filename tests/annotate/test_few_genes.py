from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from scanpy_sct.annotate.classifier import cell_folds, fit_temperature, group_folds, make_folds
from scanpy_sct.annotate.few_genes import STRENGTH, fit_few_genes, strongest_genes
from scanpy_sct.sparse_tools import log_normalise


@pytest.fixture
def cells():
    """Three studies of three labels with twelve markers each; all other genes have another level in every study."""
    rng = np.random.default_rng(0)
    codes, studies = np.arange(360) % 3, np.repeat([0, 1, 2], 120)
    rates = rng.gamma(0.5, 2, 300) * np.exp(rng.normal(size=(3, 300)))
    of_cells = rates[studies]
    for code in range(3):
        of_cells[:, 12 * code : 12 * code + 12] = np.where(codes[:, None] == code, 8, 0.4)
    return log_normalise(sparse.csr_matrix(rng.poisson(of_cells).astype(float))), np.array(list("abc"))[codes], studies


def test_a_new_study_is_labelled(cells):
    values, labels, studies = cells
    known = studies < 2
    codes = np.unique(labels[known], return_inverse=True)[1]
    fit = fit_few_genes(values[known], labels[known], studies[known], group_folds(codes, studies[known]))
    assert fit.labels == ("a", "b", "c")
    assert set(fit.columns) <= set(range(36))
    logits = fit.logits(values[~known])
    assert (np.array(fit.labels)[logits.argmax(1)] == labels[~known]).mean() > 0.98


@pytest.mark.parametrize("n_donors", [1, 4])
def test_labels_without_meaning_get_no_confidence(n_donors):
    """Genes that are found with the held-out cells would make these look easy."""
    rng = np.random.default_rng(0)
    values = log_normalise(sparse.csr_matrix(rng.poisson(0.5, (400, 2000)).astype(float)))
    labels, donors = rng.choice(["a", "b"], 400), np.arange(400) % n_donors
    codes = np.unique(labels, return_inverse=True)[1]
    known = np.arange(400) < 200
    folds = make_folds(codes[known], None if n_donors == 1 else donors[known], 0)
    fit = fit_few_genes(values[known], labels[known], donors[known], folds)
    probabilities = softmax(fit.logits(values[~known]), axis=1)
    assert log_loss(labels[~known], probabilities) < np.log(2) + 0.02


def test_held_out_logits_and_temperature_are_those_of_left_out_studies(cells):
    values, labels, studies = cells
    codes = np.unique(labels, return_inverse=True)[1]
    fit = fit_few_genes(values, labels, studies, group_folds(codes, studies))
    counts, expected = values.copy(), np.empty((360, 3))
    counts.data = np.expm1(counts.data)
    for study in range(3):
        others = studies != study
        features = values[:, strongest_genes(counts[others], codes[others], studies[others])].toarray()
        model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(features[others], codes[others])
        expected[~others] = model.decision_function(features[~others])
    temperature = fit_temperature(expected, codes)
    assert fit.temperature == pytest.approx(temperature, rel=1e-2)
    np.testing.assert_allclose(fit.held_out, expected / temperature, rtol=0.02, atol=0.02)
    features = values[:, fit.columns].toarray()
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(features, codes)
    np.testing.assert_allclose(
        fit.logits(values), model.decision_function(features) / temperature, rtol=0.02, atol=0.02
    )


def test_drawn_cells_stand_for_their_label(cells, monkeypatch):
    """Whether all cells of a common label are read or few, it is as probable."""
    values, labels, studies = cells
    weak = values.copy()
    weak.data = weak.data * (np.random.default_rng(0).random(len(weak.data)) < 0.3)  # types are hardly told apart
    weak = sparse.csr_matrix(weak)
    kept = (labels == "a") | (np.arange(360) % 5 == 0)
    codes = np.unique(labels[kept], return_inverse=True)[1]
    found = []
    for cap in (1000, 30):
        monkeypatch.setattr("scanpy_sct.annotate.few_genes.CELLS_OF_A_LABEL", cap)
        fit = fit_few_genes(weak[kept], labels[kept], studies[kept], cell_folds(codes, 0))
        found.append(softmax(fit.classifier.logits(weak[:, fit.columns]), axis=1).mean(axis=0))
    np.testing.assert_allclose(*found, atol=0.05)


def test_a_label_that_a_fold_lacks():
    """The last label is that of one study."""
    rng = np.random.default_rng(0)
    studies, labels = np.repeat([0, 1], 60), np.tile(["a", "b"], 60).astype(object)
    labels[:20] = "z"
    values = log_normalise(sparse.csr_matrix(rng.poisson(1.0, (120, 80)).astype(float)))
    codes = np.unique(labels.astype(str), return_inverse=True)[1]
    fit = fit_few_genes(values, labels.astype(str), studies, group_folds(codes, studies))
    assert np.isneginf(fit.held_out[:60, 2]).all()
    assert np.isfinite(fit.logits(values)).all()


def test_markers_of_every_pair_are_found():
    """Also of a pair whose genes hardly differ, and of donors with few cells."""
    counts = np.zeros((8, 60))
    counts[:4, :12], counts[4:, 12:24] = 5, 5
    counts[[0, 4], 30:40] = 1000  # high in one donor, in both labels
    codes, donors = np.repeat([0, 1], 4), np.tile([0, 1, 1, 1], 2)
    found = strongest_genes(sparse.csr_matrix(counts), codes, donors)
    assert len(found) == 20
    assert found.max() < 24
    assert strongest_genes(sparse.csr_matrix(counts[:, :3]), codes, donors).tolist() == [0, 1, 2]


def test_a_large_donor_does_not_decide():
    counts = np.zeros((100, 30))
    codes = np.repeat([0, 1], 50)
    donors = np.tile(np.repeat([0, 1], [48, 2]), 2)
    counts[:48, :10] = 3.2  # of label 0 in the large donor alone
    counts[:50, 10:20] = 2.9  # of label 0 in both
    found = strongest_genes(sparse.csr_matrix(counts), codes, donors)
    assert set(range(10, 20)) <= set(found.tolist())
