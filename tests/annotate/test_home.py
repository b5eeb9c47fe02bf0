from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.annotate.classifier import group_folds
from scanpy_sct.annotate.home import (
    MIN_LIMIT,
    check_shared,
    estimate_home,
    home_novelty,
    nearest_cells,
    novelty_of,
)
from scanpy_sct.checkpoints import LabelHome

N_GENES, N_CELLS = 400, 60
RATES = np.random.default_rng(0).gamma(0.3, 1.0, (4, N_GENES))
"""Expression of four types; only the first two are known."""


def cells_of(names, kinds, depth, seed=0):
    """Poisson counts of cells of some types."""
    rates = RATES[kinds, : len(names)]
    rates = rates / rates.sum(1, keepdims=True) * depth
    counts = sparse.csr_matrix(np.random.default_rng(seed).poisson(rates).astype(np.float32))
    obs = pd.DataFrame(index=[f"cell{number}" for number in range(len(kinds))])
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=names))


def vectors_of(kinds):
    """An embedding that separates the types."""
    return 10 * np.eye(4)[kinds] + np.random.default_rng(1).normal(size=(len(kinds), 4))


@pytest.fixture
def names(compact_checkpoint):
    return list(compact_checkpoint.genes[:N_GENES])


@pytest.fixture
def home(names, open_cells):
    """Home of two types, of two studies."""
    kinds = np.arange(N_CELLS) % 2
    blocks = [open_cells(cells_of(names, kinds, 800, seed)).block() for seed in (1, 2)]
    codes = np.tile(kinds, 2)
    folds = group_folds(codes, np.repeat([0, 1], N_CELLS))
    return estimate_home(blocks, [vectors_of(kinds)] * 2, codes, folds, ["made up"], 0)


def novelty(home, reader, kinds, empty=None):
    empty = np.zeros(len(kinds), dtype=bool) if empty is None else empty
    return home_novelty(home, reader, vectors_of(kinds), empty, check_shared(home, reader, "tiny"), 0)


def test_what_is_recorded(home, names, open_cells):
    assert (home.sources, home.n_cells) == (("made up",), (N_CELLS, N_CELLS))
    reader = open_cells(cells_of(names, np.zeros(3, dtype=int), 800))
    np.testing.assert_array_equal(home.measured, reader.measured)
    rates = np.zeros((2, len(home.measured)))
    rates[:, reader.genes.gene_index] = RATES[:2, reader.genes.columns]
    expected = np.log1p(1e4 * rates / rates.sum(1, keepdims=True))[:, home.measured]
    assert np.corrcoef(home.profiles[0, home.measured], expected[0])[0, 1] > 0.99
    assert np.corrcoef(home.profiles[1, home.measured], expected[0])[0, 1] < 0.5
    # Simulated cells are as far from their profile as cells of that type are expected to be.
    assert np.abs(home.distances[:, 0]).max() < 0.03
    assert home.distances[:, 1].max() < 0.1


@pytest.mark.parametrize("depth", [60, 800, 20_000])
def test_known_types_are_not_new_and_others_are_at_any_depth(home, names, open_cells, depth):
    kinds = np.arange(N_CELLS) % 4
    found = novelty(home, open_cells(cells_of(names, kinds, depth)), kinds)
    assert found[kinds < 2].max() < 0.3
    assert found[kinds >= 2].min() > 0.9


def test_a_panel_of_genes(home, names, open_cells):
    kinds = np.arange(N_CELLS) % 4
    found = novelty(home, open_cells(cells_of(names[:120], kinds, 200)), kinds)
    assert np.median(found[kinds < 2]) < 0.3
    assert np.median(found[kinds >= 2]) > 0.9


def test_neither_empty_cells_nor_blocks_nor_the_order_matter(home, names, open_cells, monkeypatch):
    kinds = np.arange(N_CELLS) % 4
    adata = cells_of(names, kinds, 800)
    plain = novelty(home, open_cells(adata), kinds)
    monkeypatch.setattr("scanpy_sct.read.reader.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("scanpy_sct.annotate.home.CELLS_AT_ONCE", 3)
    np.testing.assert_allclose(novelty(home, open_cells(adata), kinds), plain, rtol=1e-5)
    order = np.random.default_rng(3).permutation(N_CELLS)
    vectors = vectors_of(kinds)[order]
    reader = open_cells(adata[order].copy())
    found = home_novelty(home, reader, vectors, np.zeros(N_CELLS, bool), check_shared(home, reader, "tiny"), 0)
    np.testing.assert_allclose(found, plain[order], rtol=1e-5)
    empty = np.arange(N_CELLS) == 5
    adata.X = sparse.csr_matrix(adata.X.multiply(~empty[:, None]))
    found = novelty(home, open_cells(adata), kinds, empty)
    np.testing.assert_array_equal(np.isnan(found), empty)
    # Empty cells are nobody's neighbours.
    others = open_cells(adata[~empty].copy())
    without = home_novelty(
        home, others, vectors_of(kinds)[~empty], np.zeros(N_CELLS - 1, bool), check_shared(home, others, "tiny"), 0
    )
    np.testing.assert_allclose(found[~empty], without, rtol=1e-5)
    assert np.isnan(novelty(home, open_cells(adata), kinds, np.ones(N_CELLS, bool))).all()


def test_a_single_cell(home, names, open_cells):
    for kind, low, high in ((0, 0, 0.3), (2, 0.9, 1)):
        kinds = np.array([kind])
        assert low <= novelty(home, open_cells(cells_of(names, kinds, 800)), kinds)[0] <= high
    np.testing.assert_array_equal(nearest_cells(np.zeros((1, 3)), 0), [[0, 0]])


def test_the_limit_is_that_of_the_nearest_label_and_never_too_strict():
    distances = np.array([[0.05, 0.05], [0.05, 0.4]], dtype=np.float32)
    profiles = np.ones((2, 5), dtype=np.float32)
    home = LabelHome((), (1, 1), profiles, distances)
    found = novelty_of(np.array([[MIN_LIMIT, 9], [9, 0.4], [0.01, 0.9], [0.6, 0.9], [0.4, 0.39]]), home)
    np.testing.assert_allclose(found[:2], 0.5, atol=1e-6)
    assert found[2] < 0.01
    assert found[3] > 0.99
    assert 0.4 < found[4] < 0.5


def test_held_out_studies_that_differ_have_larger_distances(names, open_cells):
    kinds = np.arange(N_CELLS) % 2
    blocks = [open_cells(cells_of(names, kinds + shift, 800)).block() for shift in (0, 2)]
    codes, groups = np.tile(kinds, 2), np.repeat([0, 1], N_CELLS)
    vectors = [vectors_of(kinds)] * 2
    apart = estimate_home(blocks, vectors, codes, group_folds(codes, groups), [], 0)
    assert apart.distances[:, 0].min() > 0.7
    # A label of one study cannot be left out: its cells are compared with the profile of all of them.
    own = np.concatenate([kinds, kinds + 2])
    alone = estimate_home(blocks, vectors, own, [], [], 0)
    assert len(alone.n_cells) == 4
    assert alone.distances.max() < 0.1


def test_genes_that_one_object_lacks(home, names, open_cells):
    kinds = np.arange(N_CELLS) % 2
    blocks = [open_cells(cells_of(part, kinds, 800)).block() for part in (names, names[:200])]
    codes = np.concatenate([kinds, kinds + 1])
    found = estimate_home(blocks, [vectors_of(kinds)] * 2, codes, [], [], 0)
    # The last label has the genes of the second object only.
    assert found.measured.sum() == blocks[1].measured.sum() < blocks[0].measured.sum()


def test_too_few_shared_genes_raise_an_error(home, names, open_cells):
    reader = open_cells(cells_of(names, np.zeros(5, dtype=int), 800))
    hidden = replace(home, profiles=np.where(np.arange(home.profiles.shape[1]) < 60, np.nan, home.profiles))
    few = reader.with_genes(reader.genes.gene_index[:40])
    message = r"shares 40 genes .* head of 'tiny' .* at least 50 are needed. Check the gene names, or pass reference="
    with pytest.raises(ValueError, match=message):
        check_shared(home, few, "tiny")
    assert len(check_shared(hidden, reader, "tiny")) < len(check_shared(home, reader, "tiny"))
