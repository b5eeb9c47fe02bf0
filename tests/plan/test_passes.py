from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.plan.passes import NOT_MASKED, BlockMasks, Passes


def test_every_entry_belongs_to_one_pass_in_equal_parts():
    passes = Passes(4, seed=0)
    assigned = passes.assigned(np.arange(50), np.arange(20_000))
    fractions = np.bincount(assigned.ravel(), minlength=4) / assigned.size
    assert len(fractions) == 4
    np.testing.assert_allclose(fractions, 0.25, atol=0.002)
    np.testing.assert_allclose((assigned == 0).mean(0).mean(), 0.25, atol=0.002)


def test_assignment_depends_on_cell_and_gene_alone():
    passes = Passes(7, seed=3)
    whole = passes.assigned(np.arange(100), np.arange(500))
    np.testing.assert_array_equal(passes.assigned(np.array([42, 7]), np.arange(500)), whole[[42, 7]])
    np.testing.assert_array_equal(passes.assigned(np.arange(100), np.array([8, 33])), whole[:, [8, 33]])


def test_cells_genes_and_seeds_are_independent():
    first = Passes(2, 0).assigned(np.arange(200), np.arange(1000)).astype(float)
    other_seed = Passes(2, 1).assigned(np.arange(200), np.arange(1000)).astype(float)
    for one, two in [(first.ravel(), other_seed.ravel()), (first[0], first[1]), (first[:, 0], first[:, 1])]:
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.2
    assert abs(np.corrcoef(first.ravel(), other_seed.ravel())[0, 1]) < 0.01


def test_number_of_passes_follows_the_mask_fraction():
    assert Passes.for_fraction(0.15, 0).n == 7
    assert Passes.for_fraction(0.25, 0).n == 4
    assert Passes.for_fraction(0.9, 0).n == 2


def test_masks_of_a_block_are_those_of_all_cells():
    passes, genes = Passes(4, 1), np.arange(0, 900, 3)
    measured = np.arange(300) % 5 > 0
    whole = BlockMasks(passes, np.arange(700), genes, measured, None)
    part = BlockMasks(passes, np.array([650, 3]), genes, measured, None)
    np.testing.assert_array_equal(part.pass_of(), whole.pass_of()[[650, 3]])
    assert (whole.pass_of()[:, ~measured] == NOT_MASKED).all()
    masked = sum(whole.masked(number).astype(int) for number in range(4))
    np.testing.assert_array_equal(masked, np.broadcast_to(measured, masked.shape))
    assert whole.is_known.all()


def test_hidden_entries_are_masked_in_all_passes_and_predicted_in_the_last():
    hidden = np.random.default_rng(0).random((50, 40)) < 0.2
    measured = np.arange(40) > 3
    masks = BlockMasks(Passes(3, 0), np.arange(50), np.arange(40), measured, hidden)
    assert masks.n_passes == 5
    assert masks.is_known.tolist() == [True, True, True, True, False]
    for number in range(5):
        assert masks.masked(number)[hidden & measured].all()
        assert not masks.masked(number)[:, ~measured].any()
        assert masks.targets(number)[hidden & measured].all() == (number == 4)
    np.testing.assert_array_equal(masks.masked(4), hidden & measured)
    # The probe masks few entries more; it alone teaches the last pass.
    assert 0.04 < masks.targets(3)[:, measured].mean() < 0.1
    assert masks.learns_from[4].tolist() == [False, False, False, True, False]
    assert masks.learns_from[0].tolist() == [False, True, True, False, False]
    assert not masks.learns_from.diagonal().any()


def test_without_hidden_entries_every_pass_learns_from_the_others():
    masks = BlockMasks(Passes(3, 0), np.arange(5), np.arange(4), np.ones(4, dtype=bool), None)
    np.testing.assert_array_equal(masks.learns_from, ~np.eye(3, dtype=bool))


def test_passes_fit_into_eight_bits_however_few_entries_were_masked_in_training():
    assert Passes.for_fraction(1e-4, 0).n + 2 < NOT_MASKED


def test_passes_of_single_entries_are_those_of_the_table():
    passes, cells, genes = Passes(5, 2), np.arange(70, 140), np.arange(90)
    row, column = np.random.default_rng(0).integers(0, [[70], [90]], (2, 200))
    np.testing.assert_array_equal(
        passes.of_entries(cells[row], genes[column]), passes.assigned(cells, genes)[row, column]
    )


@pytest.mark.parametrize("with_hidden", [False, True])
def test_visible_entries_are_those_of_the_masks(with_hidden):
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.5, (600, 30)).astype(np.float32)
    measured, hidden = np.arange(30) > 2, rng.random(dense.shape) < 0.2
    masks = BlockMasks(Passes(3, 0), np.arange(600), np.arange(30), measured, hidden if with_hidden else None)
    assert masks.n_measured == 27
    for number in range(masks.n_passes):
        masked = masks.masked(number)
        values = sparse.csr_matrix(dense)
        np.testing.assert_array_equal(masks.visible(values, number).toarray(), np.where(masked, 0, dense))
        part = masks.visible(values[500:], number, slice(500, 600))
        np.testing.assert_array_equal(part.toarray(), np.where(masked, 0, dense)[500:])
