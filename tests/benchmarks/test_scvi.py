"""scVI on small data: that it learns, and leaves chance and files alone."""

from __future__ import annotations

import os
import random
import sys

import numpy as np
import pytest
import torch

from scanpy_sct.evaluate.hidden import hide_entries
from scanpy_sct.evaluate.methods.poisson import poisson_dataset
from scanpy_sct.evaluate.methods.scvi import scvi


@pytest.fixture(scope="module")
def two_kinds() -> tuple[np.ndarray, np.ndarray]:
    """130 cells of two kinds that express different genes, (130, 30); entries hidden."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([[8.0, 0.2], [0.2, 8.0]], 15, axis=1)
    counts = rng.poisson(kinds[np.arange(130) % 2] * rng.lognormal(0, 0.3, (130, 1)))
    counts[:, 29] = 0
    counts[:2, 29] = 5  # too rare to be modelled
    return counts, hide_entries(130, 30, 0.2, rng=1)


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("scvi")


def test_it_learns_kinds_of_cells_on_the_scale_of_counts(package, two_kinds, observe, tmp_path, monkeypatch, caplog):
    counts, hidden = two_kinds
    monkeypatch.chdir(tmp_path)
    data = observe(counts, hidden)
    generators = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state().clone()
    environment, seed = dict(os.environ), package.settings.seed

    guess = scvi(data, max_epochs=60)

    assert random.getstate() == generators[0]
    np.testing.assert_array_equal(np.random.get_state()[1], generators[1])
    assert torch.equal(torch.get_rng_state(), generators[2])
    assert dict(os.environ) == environment
    assert package.settings.seed == seed
    assert not list(tmp_path.iterdir())
    assert not caplog.records

    truth, plain = counts[hidden], poisson_dataset(data)
    assert ((guess - truth) ** 2).mean() < 0.6 * ((plain - truth) ** 2).mean()
    assert guess.sum() == pytest.approx(truth.sum(), rel=0.15)
    rare = np.nonzero(hidden)[1] == 29
    np.testing.assert_allclose(guess[rare], plain[rare], rtol=1e-5)


def test_one_seed_one_result(package, two_kinds, observe):
    first, again = (scvi(observe(*two_kinds, seed=4), max_epochs=1) for _ in range(2))
    other = scvi(observe(*two_kinds, seed=5), max_epochs=1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_the_package_the_way_out_is_named(monkeypatch, observed):
    monkeypatch.setitem(sys.modules, "scvi", None)
    with pytest.raises(ImportError, match=r"scanpy_sct\[evaluate\]"):
        scvi(observed)
