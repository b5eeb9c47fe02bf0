from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from scanpy_sct.evaluate import masking as module
from scanpy_sct.evaluate.masking import choose_panel, mask_entries, thin_counts


def test_the_share_is_right_in_every_gene_and_cell():
    masked = mask_entries(2000, 400, 0.15)
    assert masked.mean() == pytest.approx(0.15, abs=0.002)
    assert np.abs(masked.mean(axis=0) - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 2000)
    assert np.abs(masked.mean(axis=1) - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 400)


def test_only_measured_genes_are_hidden_and_the_others_change_nothing():
    measured = np.arange(50) % 3 == 0
    some, all_ = mask_entries(100, 50, 0.3, measured=measured), mask_entries(100, 50, 0.3)
    assert not some[:, ~measured].any()
    np.testing.assert_array_equal(some[:, measured], all_[:, measured])


def test_the_seed_decides():
    first = mask_entries(60, 50, 0.15, rng=3)
    np.testing.assert_array_equal(first, mask_entries(60, 50, 0.15, rng=np.random.default_rng(3)))
    assert (first != mask_entries(60, 50, 0.15, rng=4)).any()


def test_drawing_in_parts_changes_nothing(monkeypatch):
    whole = mask_entries(100, 50, 0.15)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(mask_entries(100, 50, 0.15), whole)


@pytest.fixture
def counts() -> sparse.csr_matrix:
    """Counts of 200 cells x 100 genes, with cells of different depth and genes that vary more or less."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(2, 1, (1, 100)) * rng.gamma(rng.gamma(1, 2, 100) + 0.1, 1, (200, 100))
    return sparse.csr_matrix(rng.poisson(rates * rng.lognormal(0, 0.5, (200, 1))), dtype=np.float32)


def test_a_panel_is_that_of_scanpy(counts):
    before = counts.toarray()
    cells = ad.AnnData(counts.copy())
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    found = sc.pp.highly_variable_genes(cells, flavor="seurat", n_top_genes=37, inplace=False)["highly_variable"]
    np.testing.assert_array_equal(choose_panel(counts, 37), found)
    np.testing.assert_array_equal(counts.toarray(), before)


def test_a_panel_is_full_even_where_scanpy_ranks_no_gene(counts):
    counts = sparse.hstack([counts, sparse.csr_matrix((200, 50), dtype=np.float32)], format="csr")
    assert choose_panel(counts, 140).sum() == 140


def test_thinning_deals_out_every_molecule(counts):
    before = counts.toarray()
    seen, kept = thin_counts(counts, 0.9, rng=3)
    np.testing.assert_array_equal((seen + kept).toarray(), before)
    assert seen.sum() / counts.sum() == pytest.approx(0.9, abs=0.003)
    assert seen.data.min() == kept.data.min() == 1
    # The number of molecules kept back has the variance of a binomial draw.
    large = sparse.csr_matrix(np.full((100, 100), 50.0))
    assert thin_counts(large)[1].toarray().var() == pytest.approx(50 * 0.9 * 0.1, rel=0.1)
    np.testing.assert_array_equal(thin_counts(counts, rng=3)[0].toarray(), seen.toarray())
    assert (thin_counts(counts, rng=4)[0] != seen).nnz > 0


def test_parts_of_poisson_counts_are_independent():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(4.0, (400, 100)))
    seen, kept = (part.toarray().ravel() for part in thin_counts(counts, 0.6))
    assert abs(np.corrcoef(seen, kept)[0, 1]) < 0.02


def test_only_counts_can_be_thinned(counts):
    with pytest.raises(ValueError, match=r"adata must hold counts .*`layer=`"):
        thin_counts(counts.log1p())


def test_rounding_errors_cost_no_molecule(counts):
    nearly = counts.astype(np.float64)
    nearly.data -= 5e-4
    seen, kept = thin_counts(nearly)
    np.testing.assert_array_equal((seen + kept).toarray(), counts.toarray())
