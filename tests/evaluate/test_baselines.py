"""Each baseline beside the same thing written entry by entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.evaluate import baselines as module
from scanpy_sct.evaluate.baselines import (
    BASELINES,
    Observed,
    gene_constant,
    knn_poisson,
    knn_vote,
    poisson_bag,
    poisson_dataset,
    svd,
)
from scanpy_sct.evaluate.hidden import hide_entries, visible

N_CELLS, N_GENES = 70, 40


def observe(counts: np.ndarray, hidden: np.ndarray, unit: float = 1.0) -> Observed:
    seen = visible(sparse.csr_matrix(counts, dtype=np.float32), hidden)
    bags = np.arange(len(counts)) % 4
    return Observed(seen, (seen * unit).log1p(), hidden, np.zeros(len(counts), dtype=int), bags)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    programs = rng.gamma(0.5, 1, (3, N_GENES))
    depth = rng.lognormal(0, 0.5, (N_CELLS, 1))
    return rng.poisson(programs[rng.integers(3, size=N_CELLS)] * depth)


@pytest.fixture(scope="module")
def observed(counts) -> Observed:
    hidden = hide_entries(N_CELLS, N_GENES, 0.3, rng=1)
    hidden[:20, 5] = True
    return observe(counts, hidden)


def poisson_oracle(observed: Observed, members_of, prior_cells: float) -> np.ndarray:
    """P(expressed) of each hidden entry; `members_of(cell)` are the cells whose rates it is given."""
    counts, hidden = observed.counts.toarray().astype(float), observed.hidden
    depth = counts.sum(axis=1)
    result = []
    for cell, gene in zip(*np.nonzero(hidden), strict=True):
        shows = [c for c in range(N_CELLS) if not hidden[c, gene]]
        overall = sum(counts[c, gene] for c in shows) / sum(depth[c] for c in shows)
        members = [c for c in members_of(cell) if c in shows]
        prior = prior_cells * depth.mean()
        rate = (sum(counts[c, gene] for c in members) + prior * overall) / (sum(depth[c] for c in members) + prior)
        result.append(1 - np.exp(-rate * depth[cell]))
    return np.array(result)


def test_gene_constant(observed):
    counts, log = observed.counts.toarray(), observed.log.toarray()
    genes = np.nonzero(observed.hidden)[1]
    rate = [(counts[~observed.hidden[:, g], g] > 0).mean() for g in range(N_GENES)]
    mean = [log[~observed.hidden[:, g], g].mean() for g in range(N_GENES)]
    guess = gene_constant(observed)
    np.testing.assert_allclose(guess.detection, np.array(rate)[genes], rtol=1e-5)
    np.testing.assert_allclose(guess.value, np.array(mean)[genes], rtol=1e-5)


def test_poisson_dataset(observed):
    oracle = poisson_oracle(observed, lambda cell: range(N_CELLS), 0)
    np.testing.assert_allclose(poisson_dataset(observed).detection, oracle, rtol=1e-5)


@pytest.mark.parametrize("prior_cells", [1.0, 4.0])
def test_poisson_bag_and_the_cell_itself_makes_no_difference(observed, prior_cells):
    def bag_without_the_cell(cell):
        return [c for c in range(N_CELLS) if observed.bags[c] == observed.bags[cell] and c != cell]

    oracle = poisson_oracle(observed, bag_without_the_cell, prior_cells)
    np.testing.assert_allclose(poisson_bag(observed, prior_cells).detection, oracle, rtol=1e-5)


def test_poisson_bag_without_a_prior_says_never_where_the_bag_has_none():
    counts = np.ones((8, 3), dtype=int)
    counts[::4, 0] = 0  # gene 0 is missing from bag 0
    hidden = np.zeros((8, 3), dtype=bool)
    hidden[[0, 1], 0] = True
    nothing, something = poisson_bag(observe(counts, hidden), 0).detection
    assert nothing == 0
    # One other cell of bag 1 shows the gene: 1 count at depth 3; the cell itself shows 2 counts.
    assert something == pytest.approx(1 - np.exp(-2 / 3))


def test_knn(observed):
    near = observed.neighbors.toarray()
    np.testing.assert_array_equal(near.sum(axis=1), 15)
    assert not near.diagonal().any()

    counts, cells, genes = observed.counts.toarray(), *np.nonzero(observed.hidden)
    votes = [counts[(near[c] > 0) & ~observed.hidden[:, g], g] > 0 for c, g in zip(cells, genes, strict=True)]
    oracle = [vote.mean() if len(vote) else 0 for vote in votes]
    np.testing.assert_allclose(knn_vote(observed).detection, oracle, rtol=1e-5)

    oracle = poisson_oracle(observed, lambda cell: np.flatnonzero(near[cell]), 5)
    np.testing.assert_allclose(knn_poisson(observed).detection, oracle, rtol=1e-5)


def test_neighbors_are_the_nearest_by_normalised_expression(observed):
    dense = observed.counts.toarray().astype(float)
    dense = np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4)
    # 39 of 40 components keep all distances but for the smallest direction.
    distance = ((dense[:, None] - dense[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :15]
    found = np.take_along_axis(observed.neighbors.toarray(), nearest, axis=1)
    assert found.mean() > 0.98


def test_svd(observed):
    dense = observed.counts.toarray().astype(float)
    depth = dense.sum(axis=1, keepdims=True)
    left, size, right = np.linalg.svd(np.log1p(dense / depth * 1e4), full_matrices=False)
    rebuilt = (left[:, :5] * size[:5]) @ right[:5] / (1 - observed.hidden.mean())
    expected = np.expm1(np.maximum(rebuilt, 0)) * depth / 1e4
    guess = svd(observed, n_components=5)
    np.testing.assert_allclose(guess.detection, 1 - np.exp(-expected[observed.hidden]), atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_guesses_are_probabilities_and_values_of_all_hidden_entries(observed, name, monkeypatch):
    whole = BASELINES[name](observed)
    assert whole.detection.shape == whole.value.shape == (observed.hidden.sum(),)
    assert whole.detection.dtype == whole.value.dtype == np.float32
    assert whole.detection.min() >= 0
    assert whole.detection.max() <= 1
    assert whole.value.min() >= 0
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", 9)
    for part, all_ in zip(BASELINES[name](observed), whole, strict=True):
        np.testing.assert_allclose(part, all_, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "gene_constant"])
def test_guesses_know_more_than_the_gene(observed, counts, name):
    """Cells of one program and depth are alike, so that every method beats the constant guess."""
    from sklearn.metrics import average_precision_score

    expressed = counts[observed.hidden] > 0
    constant = average_precision_score(expressed, gene_constant(observed).detection)
    # 20 components would describe the noise of 70 cells.
    guess = svd(observed, n_components=3) if name == "svd" else BASELINES[name](observed)
    assert average_precision_score(expressed, guess.detection) > constant + 0.01


def test_values_come_on_the_log_scale_of_the_input():
    """Mean of log1p(unit x count) over many draws of a Poisson count."""
    rates = np.append([0.05, 1.0, 5.0, 20.0], np.full(96, 3.0))
    counts = np.random.default_rng(0).poisson(rates, (2000, 100))
    hidden = hide_entries(*counts.shape, 0.2)
    for unit in (1.0, 8.0):
        guess = poisson_dataset(observe(counts, hidden, unit))
        genes = np.nonzero(hidden)[1]
        means = np.bincount(genes, guess.value) / np.bincount(genes)
        np.testing.assert_allclose(means, np.log1p(unit * counts).mean(axis=0), rtol=0.1)


@pytest.mark.parametrize("name", BASELINES)
def test_cells_and_genes_without_anything_visible(observed, counts, name):
    """An empty cell, a gene that nobody shows, and a gene that nobody expresses."""
    counts, hidden = counts.copy(), observed.hidden.copy()
    counts[3], counts[:, 7], hidden[:, 8] = 0, 0, True
    guess = BASELINES[name](replace(observe(counts, hidden), bags=observed.bags))
    assert np.isfinite(guess.detection).all()
    assert np.isfinite(guess.value).all()
