"""Properties that hold for any data, and equality with slow and obvious ways to compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scanpy_sct.plan.bags import plan_bags
from scanpy_sct.plan.bins import assign_bins, bin_edges, bin_values
from scanpy_sct.plan.blocks import plan_blocks, plan_fit
from scanpy_sct.plan.passes import NOT_MASKED, BlockMasks, Passes
from scanpy_sct.plan.tokens import TokenRules, make_tokens
from scanpy_sct.sparse_tools import with_data

# The same examples in every run: a failure is a change of the code.
few = settings(max_examples=20, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 40)


@st.composite
def expression(draw, n_genes=sizes):
    """Cells x genes of ``log1p`` counts or other values, some cells empty or constant."""
    rng = np.random.default_rng(draw(seeds))
    shape = draw(sizes), draw(n_genes)
    counts = rng.poisson(draw(st.sampled_from([0.1, 1, 20])), shape) * rng.choice([0, 1, 1], (shape[0], 1))
    if draw(st.booleans()):
        counts = counts * rng.uniform(0.1, 2, shape)
    return sparse.csr_matrix(np.log1p(counts).astype(np.float32))


@few
@given(expression(), st.integers(3, 9), st.sampled_from(["uniform", "counts"]))
def test_a_bin_is_the_number_of_edges_that_are_not_above_the_value(values, n_bins, binning):
    edges = bin_edges(values, n_bins, binning)
    bins = assign_bins(values, edges)
    expected = [sum(float(x) >= edge for edge in edges[row]) for row in range(len(edges)) for x in values[row].data]
    assert bins.tolist() == expected
    assert values.nnz == 0 or (bins.min() >= (1 if binning == "uniform" else 0) and bins.max() < n_bins)


@few
@given(expression(), st.integers(3, 9), st.sampled_from(["uniform", "counts"]))
def test_the_value_of_a_bin_is_in_that_bin(values, n_bins, binning):
    edges = bin_edges(values, n_bins, binning)
    bins = assign_bins(values, edges)
    cell = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    back = bin_values(values, bins, n_bins)[cell, bins.astype(int) - 1]
    for row, number in set(zip(cell.tolist(), bins.tolist(), strict=True)):
        inside = (cell == row) & (bins == number)
        np.testing.assert_allclose(back[inside], values.data[inside].astype(float).mean(), rtol=1e-6)
    assert np.array_equal(assign_bins(with_data(values, back), edges), bins)


@few
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(3, 12))
def test_bins_of_counts_are_powers_of_two(counts, n_bins):
    values = sparse.csr_matrix(np.log1p(np.array([counts], dtype=np.float64)).astype(np.float32))
    expected = [min((count - 1).bit_length() + 1, n_bins - 1) for count in counts]
    assert assign_bins(values, bin_edges(values, n_bins, "counts")).tolist() == expected


def slow_hash(cell: int, gene: int, seed: int) -> int:
    def scrambled(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    first, second = (int(each) for each in np.random.SeedSequence(seed).generate_state(2))
    return scrambled((scrambled((cell + first) % 2**32) + scrambled((gene + second) % 2**32)) % 2**32)


@st.composite
def block_masks(draw):
    """Masks of a block, with what they are made of."""
    rng = np.random.default_rng(draw(seeds))
    cells = rng.permutation(1000)[: draw(sizes)]
    genes = np.sort(rng.permutation(500)[: draw(sizes)])
    measured = rng.random(len(genes)) < 0.8
    hidden = rng.random((len(cells), len(genes))) < 0.2 if draw(st.booleans()) else None
    passes = Passes(draw(st.integers(2, 9)), draw(st.integers(0, 2**31)))
    return passes, cells, genes, measured, hidden


@few
@given(block_masks())
def test_every_measured_entry_is_predicted_once_and_is_masked_then(parts):
    masks = BlockMasks(*parts)
    measured, hidden = parts[3], parts[4]
    targets = np.array([masks.targets(number) for number in range(masks.n_passes)])
    masked = np.array([masks.masked(number) for number in range(masks.n_passes)])
    assert (targets.sum(0) == measured).all()
    assert (masked >= targets).all()
    if hidden is None:
        assert (masked == targets).all()
    else:
        assert (masked.sum(0)[hidden & measured] == masks.n_passes).all()
        assert (masked.sum(0)[~hidden & measured] == 1).all()
    values = sparse.csr_matrix(np.where(measured, 1.0, 0.0) * np.ones((len(parts[1]), 1)))
    for number in range(masks.n_passes):
        assert (masks.visible(values, number).toarray() == (values.toarray() * ~masked[number])).all()


@few
@given(block_masks())
def test_passes_are_a_hash_of_cell_and_gene(parts):
    passes, cells, genes, measured, hidden = parts
    found = BlockMasks(*parts).pass_of()
    for (i, j), number in np.ndenumerate(found):
        expected = slow_hash(int(cells[i]), int(genes[j]), passes.seed) % passes.n
        if hidden is not None and slow_hash(int(cells[i]), int(genes[j]), passes.seed + 2) % 12 == 0:
            expected = passes.n
        if hidden is not None and hidden[i, j]:
            expected = passes.n + 1
        assert number == (expected if measured[j] else NOT_MASKED)


@few
@given(block_masks(), seeds)
def test_passes_do_not_depend_on_the_order_of_cells_and_genes(parts, seed):
    passes, cells, genes, measured, hidden = parts
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(cells)), rng.permutation(len(genes))
    hidden = None if hidden is None else hidden[np.ix_(rows, columns)]
    other = BlockMasks(passes, cells[rows], genes[columns], measured[columns], hidden)
    assert (other.pass_of() == BlockMasks(*parts).pass_of()[np.ix_(rows, columns)]).all()


@few
@given(expression(), seeds, st.sampled_from(["uniform", "counts"]))
def test_tokens_are_those_of_a_loop_over_cells_and_genes(values, seed, binning):
    rng = np.random.default_rng(seed)
    n_cells, n_genes = values.shape
    measured = rng.random(n_genes) < 0.8
    values = sparse.csr_matrix(values.toarray() * measured)
    masked = rng.random(values.shape) < 0.3
    vocabulary = np.where(rng.random(n_genes) < 0.9, "gene", "")
    rules = TokenRules(vocabulary, mask=5, pad=6, binning=binning)
    visible = sparse.csr_matrix(values.toarray() * ~masked)
    edges = bin_edges(visible, 5, binning)
    last = max([number for number in range(n_genes) if vocabulary[number]], default=-1)
    found = make_tokens(values, values, masked, measured, rules).tokens
    for cell, gene in np.ndindex(n_cells, n_genes):
        value = visible[cell, gene]
        if measured[gene] and not masked[cell, gene] and value > 0:
            expected = sum(float(value) >= edge for edge in edges[cell])
        elif gene > last:
            continue  # padding, whatever is masked
        else:
            is_masked = masked[cell, gene] if measured[gene] else bool(vocabulary[gene])
            expected = 5 if is_masked else 0
        assert found[cell, gene] == expected


@st.composite
def samples_and_points(draw):
    rng = np.random.default_rng(draw(seeds))
    samples = rng.integers(0, draw(st.integers(1, 4)), draw(st.integers(1, 120)))
    if draw(st.booleans()):
        samples = np.sort(samples)
    return samples, rng.normal(size=(len(samples), 2)) if draw(st.booleans()) else None, draw(seeds)


@few
@given(samples_and_points(), st.integers(1, 30))
def test_bags_have_every_cell_as_a_target_once(parts, size):
    samples, points, seed = parts
    bags = plan_bags(samples, size, np.random.default_rng(seed), points)
    targets = np.concatenate([bag.rows[: bag.n_targets] for bag in bags])
    assert sorted(targets.tolist()) == list(range(len(samples)))
    for bag in bags:
        sample = samples[bag.rows[0]]
        assert (samples[bag.rows] == sample).all()
        assert len(np.unique(bag.rows)) == len(bag.rows) == min(size, (samples == sample).sum())
    for sample in np.unique(samples):
        n_targets = [bag.n_targets for bag in bags if samples[bag.rows[0]] == sample]
        assert len(n_targets) == -(-(samples == sample).sum() // size)
        assert points is not None or max(n_targets) - min(n_targets) <= 1


@few
@given(samples_and_points(), st.integers(1, 30))
def test_bags_of_points_do_not_depend_on_the_order_of_cells(parts, size):
    samples, points, seed = parts
    points = np.random.default_rng(seed).normal(size=(len(samples), 3)) if points is None else points
    order = np.random.default_rng(seed).permutation(len(samples))
    bags = plan_bags(samples, size, np.random.default_rng(0), points)
    others = plan_bags(samples[order], size, np.random.default_rng(0), points[order])
    assert {frozenset(bag.rows.tolist()) for bag in bags} == {frozenset(order[bag.rows].tolist()) for bag in others}


@few
@given(samples_and_points(), st.integers(1, 50), st.integers(1, 10))
def test_blocks_have_every_cell_once(parts, max_cells, bag_size):
    samples, points, seed = parts
    blocks = plan_blocks(samples, points, seed, max_cells)
    assert sorted(np.concatenate([block.rows for block in blocks]).tolist()) == list(range(len(samples)))
    for block in blocks:
        assert len(block.rows) <= max_cells
        assert (np.diff(block.rows) > 0).all()
    for sample in np.unique(samples):
        n_parts = sum(sample in samples[block.rows] for block in blocks)
        n_cells = (samples == sample).sum()
        assert n_parts == (1 if n_cells <= max_cells or len(samples) <= max_cells else -(-n_cells // max_cells))
    fit = plan_fit(samples, points, bag_size, seed, max_cells)
    assert (np.diff(fit.rows) > 0).all()
    assert len(fit.rows) <= max(max_cells, bag_size)
    if fit.bags is not None:
        assert sorted(np.concatenate([bag.rows for bag in fit.bags]).tolist()) == list(range(len(fit.rows)))


@pytest.mark.parametrize("binning", ["uniform", "counts"])
def test_every_bin_is_reached(binning):
    values = sparse.csr_matrix(np.log1p(2.0 ** np.arange(12))[None].astype(np.float32))
    assert set(assign_bins(values, bin_edges(values, 5, binning)).tolist()) == {1, 2, 3, 4}
