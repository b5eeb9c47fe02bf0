"""Our use of MAGIC beside the package's own, and on scale."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.evaluate.methods.magic import diffuse, diffusion_step, magic, magic_reversed


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("magic")


@pytest.fixture(scope="module")
def blood(pbmc):
    """200 cells of real data, genes that some of them express; linear scale, (200, n_genes)."""
    values = sparse.csr_matrix(pbmc.raw.X if pbmc.raw is not None else pbmc.X)[:200].expm1()
    return values[:, values.getnnz(axis=0) > 0].tocsr()


def published(package, values, first):
    """What Open Problems computes, before any rescaling of ours."""
    size = np.asarray((values if first == "divide" else values.sqrt()).sum(axis=1))
    roots = values.multiply(1 / size).sqrt() if first == "divide" else values.sqrt().multiply(1 / size)
    operator = package.MAGIC(solver="exact", decay=1, t=3, verbose=False, random_state=0)
    return np.square(operator.fit_transform(roots.tocsr(), genes="all_genes")) * size


def thin(values, observe):
    nothing = np.zeros(values.shape, dtype=bool)
    return observe(values.toarray(), nothing, wanted=~nothing)


@pytest.mark.parametrize(("method", "first"), [(magic, "divide"), (magic_reversed, "root")])
def test_what_is_published_but_for_the_total_of_each_cell(package, blood, observe, method, first):
    found = method(thin(blood, observe)).reshape(blood.shape)
    theirs = published(package, blood, first)
    depth = np.asarray(blood.sum(axis=1))
    assert (theirs.sum(axis=1) < 0.95 * depth.ravel()).all()
    np.testing.assert_allclose(found.sum(axis=1), depth.ravel(), rtol=1e-4)
    theirs *= depth / theirs.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, theirs, rtol=1e-3, atol=1e-6)


def test_reversed_normalisation_as_published_forgets_the_depth(package, blood):
    totals = published(package, blood, "root").sum(axis=1)
    assert (totals < 5).all()
    assert (np.ravel(blood.sum(axis=1)) > 50).all()


def test_diffusion_is_that_of_the_package(package, blood):
    roots = blood.sqrt()
    operator = package.MAGIC(solver="exact", decay=1, t=3, verbose=False, random_state=3)
    theirs = operator.fit_transform(roots, genes="all_genes")
    np.testing.assert_allclose(diffuse(diffusion_step(roots, 3), roots.toarray()), theirs, rtol=1e-4, atol=1e-5)


def test_a_hidden_entry_is_the_weighted_mean_of_the_cells_that_show_it(package, observed):
    counts, hidden = observed.counts.toarray().astype(float), observed.hidden
    depth = counts.sum(axis=1, keepdims=True)
    roots = np.sqrt(counts / depth)
    steps = diffusion_step(sparse.csr_matrix(roots), observed.seed).toarray().astype(float)
    weights = steps @ steps @ steps
    expected = np.empty_like(counts)
    for cell, gene in np.ndindex(counts.shape):
        expected[cell, gene] = np.average(roots[~hidden[:, gene], gene], weights=weights[cell, ~hidden[:, gene]]) ** 2
    expected *= depth / np.where(hidden, 0, expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(magic(observed), expected[hidden], rtol=1e-3, atol=1e-5)


def test_the_graph_does_not_draw_from_the_global_generator(package, observed):
    before = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(magic(observed), magic(replace(observed)))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("n_cells", [2, 3, 5, 12])
def test_few_cells(package, counts, hidden, observe, n_cells):
    guess = magic(observe(counts[:n_cells], hidden[:n_cells]))
    assert np.isfinite(guess).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the package warns of cells at no distance
def test_cells_that_are_alike(package, observe):
    counts = np.ones((40, 6), dtype=int)
    hidden = np.zeros(counts.shape, dtype=bool)
    hidden[::2, 1] = True
    guess = magic(observe(counts, hidden))
    # Not quite 1: of six genes, one that is hidden makes a difference to the visible depth.
    np.testing.assert_allclose(guess, 1, rtol=0.2)


def test_without_the_package_the_way_out_is_named(monkeypatch, observed):
    monkeypatch.setitem(sys.modules, "magic", None)
    with pytest.raises(ImportError, match=r"scanpy_sct\[evaluate\]"):
        magic(observed)
