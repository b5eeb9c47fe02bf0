from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.annotate.classifier import make_folds
from scanpy_sct.annotate.expression import check_markers, expression_logits, fit_expression_head
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.workflow import open_cells

N_GENES, N_MARKERS = 300, 12


def study(genes, seed, n=90, shift=0.0, depth=2000):
    """Three types with twelve markers each; ``shift`` changes the levels of all other genes, as a protocol does."""
    rng = np.random.default_rng(seed)
    rates = np.random.default_rng(0).gamma(0.5, 2, N_GENES)
    rates[3 * N_MARKERS :] *= np.exp(shift * rng.normal(size=N_GENES - 3 * N_MARKERS))
    codes = np.arange(n) % 3
    of_cells = np.tile(rates, (n, 1))
    for code in range(3):
        own = slice(code * N_MARKERS, (code + 1) * N_MARKERS)
        of_cells[:, own] = np.where(codes[:, None] == code, 8, 0.4)
    of_cells *= depth / of_cells.sum(axis=1, keepdims=True)
    counts = sparse.csr_matrix(rng.poisson(of_cells).astype(np.float32))
    obs = pd.DataFrame(index=[f"{seed}-{number}" for number in range(n)])
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes[:N_GENES])), np.array(["a", "b", "c"])[codes]


@pytest.fixture
def genes(tiny_checkpoint):
    return tiny_checkpoint.genes[tiny_checkpoint.genes != ""]


@pytest.fixture
def fit(genes, tiny_checkpoint):
    """Fit a head to two studies; returns it and a function that opens cells."""

    def opened(adata, **options):
        return open_cells(adata, tiny_checkpoint, ReadOptions(**options))[1]

    parts = [study(genes, seed, shift=0.3) for seed in (1, 2)]
    cells = [opened(adata).block() for adata, _ in parts]
    labels, donors = np.concatenate([labels for _, labels in parts]), np.repeat([0, 1], 90)
    measured = np.flatnonzero(sum(block.token_values for block in cells).sum(axis=0).A1 > 0)
    folds = make_folds(np.unique(labels, return_inverse=True)[1], donors, 0)
    return fit_expression_head(cells, measured, labels, donors, folds), opened


def accuracy(head, cells, labels):
    found = np.array(head.labels)[expression_logits(head.classifier, cells).argmax(1)]
    return (found == labels).mean()


def test_another_protocol_is_labelled_by_its_markers(fit, genes, tiny_checkpoint):
    head, opened = fit
    assert head.labels == ("a", "b", "c")
    assert set(tiny_checkpoint.genes[head.classifier.marker_index]) <= set(genes[: 3 * N_MARKERS])
    query, labels = study(genes, 3, shift=1.0, depth=500)
    assert accuracy(head, opened(query), labels) > 0.97


def test_logits_by_hand(fit, genes, tiny_checkpoint):
    head, opened = fit
    query, _ = study(genes, 4)
    classifier = head.classifier
    index = [list(query.var_names).index(gene) for gene in tiny_checkpoint.genes[classifier.gene_index]]
    counts = query.X.toarray()[:, index].astype(float)
    values = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    markers = values[:, np.searchsorted(classifier.gene_index, classifier.marker_index)]
    expected = markers @ classifier.weight.T + classifier.bias
    np.testing.assert_allclose(expression_logits(classifier, opened(query)), expected, atol=1e-4)
    # The scale of the input does not matter.
    query.X = np.log1p(query.X)
    np.testing.assert_allclose(expression_logits(classifier, opened(query, scale="log1p")), expected, atol=1e-3)


def test_genes_that_are_lacking_have_the_mean_of_the_training_cells(fit, genes, tiny_checkpoint):
    head, opened = fit
    query, labels = study(genes, 5)
    # Without some markers and with few other genes, whose counts are a small part of a cell.
    kept = np.r_[np.arange(2, 8), np.arange(14, 20), np.arange(26, 32), np.arange(36, N_GENES, 4)]
    part = query[:, kept].copy()
    assert accuracy(head, opened(part), labels) > 0.95
    classifier = head.classifier
    here = np.isin(tiny_checkpoint.genes[classifier.gene_index], part.var_names)
    index = [list(part.var_names).index(gene) for gene in tiny_checkpoint.genes[classifier.gene_index[here]]]
    counts = part.X.toarray()[:, index].astype(float)
    expected_total = 1e4 * classifier.gene_rate[here].sum() / classifier.gene_rate.sum()
    assert expected_total < 6000
    values = np.full((part.n_obs, len(here)), np.nan)
    values[:, here] = np.log1p(expected_total * counts / counts.sum(1, keepdims=True))
    markers = values[:, np.searchsorted(classifier.gene_index, classifier.marker_index)]
    markers = np.where(np.isnan(markers), classifier.marker_mean, markers)
    expected = markers @ classifier.weight.T + classifier.bias
    np.testing.assert_allclose(expression_logits(classifier, opened(part)), expected, atol=1e-4)


def test_genes_of_some_samples_are_not_read(fit, genes):
    head, opened = fit
    query, _ = study(genes, 6)
    query.obs["batch"] = np.repeat(["x", "y"], 45)
    in_y = (query.obs["batch"] == "y").to_numpy()
    gone = np.isin(np.arange(N_GENES), np.r_[0:3, 36:80])
    query.X = query.X.multiply(~(in_y[:, None] & gone)).tocsr()
    query.X.eliminate_zeros()
    cells = opened(query, library_key="batch")
    assert cells.partly_measured.sum() >= 40
    query = query[:, ~np.isin(query.var_names, cells.vocabulary[cells.partly_measured])].copy()
    found = expression_logits(head.classifier, cells)
    without = expression_logits(head.classifier, opened(query, library_key="batch"))
    np.testing.assert_allclose(found, without, atol=1e-5)


def test_too_few_markers(fit, genes, caplog):
    head, opened = fit
    query, _ = study(genes, 7)
    n_markers = len(head.classifier.marker_index)
    check_markers(head.classifier, opened(query), "mini")
    assert not caplog.text
    check_markers(head.classifier, opened(query[:, 22:].copy()), "mini")
    assert f"of the {n_markers} marker genes that the label head of 'mini' reads: labels will be less" in caplog.text
    with pytest.raises(ValueError, match=r"adata has \d of the \d+ marker genes .* at least 10 .*pass reference="):
        check_markers(head.classifier, opened(query[:, 30:].copy()), "mini")
