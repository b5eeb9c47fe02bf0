"""The network that evaluations are tested with, and small data sets with masked entries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.evaluate.masking import mask_entries
from scanpy_sct.evaluate.observed import Observed
from scanpy_sct.sparse_tools import without_masked

N_CELLS, N_GENES = 70, 40


@pytest.fixture(scope="session")
def model(compact_checkpoint):
    """A tiny compact network with random weights, for the genes of `pbmc`."""
    return compact_checkpoint


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="session")
def observe() -> Callable[..., Observed]:
    """Make an `Observed` of counts: four bags, one sample, by default; masked entries are targets."""

    def make(counts: np.ndarray, masked: np.ndarray, unit: float = 1.0, **more) -> Observed:
        seen = without_masked(sparse.csr_matrix(counts, dtype=np.float32), masked)
        arguments = {
            "targets": masked,
            "samples": np.zeros(len(counts), dtype=int),
            "bags": np.arange(len(counts)) % 4,
            **more,
        }
        return Observed(seen, (seen * unit).log1p(), masked, **arguments)

    return make


@pytest.fixture(scope="session")
def counts() -> np.ndarray:
    """Cells of three programs and different depth, Poisson counts, (70, 40)."""
    rng = np.random.default_rng(0)
    programs = rng.gamma(0.5, 1, (3, N_GENES))
    depth = rng.lognormal(0, 0.5, (N_CELLS, 1))
    return rng.poisson(programs[rng.integers(3, size=N_CELLS)] * depth)


@pytest.fixture(scope="session")
def masked() -> np.ndarray:
    masked = mask_entries(N_CELLS, N_GENES, 0.3, rng=1)
    masked[:20, 5] = True
    return masked


@pytest.fixture(scope="session")
def observed(observe, counts, masked) -> Observed:
    """30 % of the entries masked; on a tissue, in two samples; with cell types."""
    rng = np.random.default_rng(2)
    return observe(
        counts,
        masked,
        samples=np.repeat([0, 1], N_CELLS // 2),
        coordinates=rng.random((N_CELLS, 2)),
        labels=rng.choice(["B", "T", "NK"], N_CELLS),
    )


@pytest.fixture(scope="session")
def thinned(observe, counts) -> Observed:
    """Nothing masked, every entry a target, as after thinning."""
    nothing = np.zeros(counts.shape, dtype=bool)
    return observe(counts, nothing, targets=~nothing)


@pytest.fixture(scope="session")
def pooled_oracle() -> Callable[..., np.ndarray]:
    """Expected count of each target entry, by the rates of the cells that `members_of(cell)` returns."""

    def expected(observed: Observed, members_of, prior_cells: float) -> np.ndarray:
        counts, masked = observed.counts.toarray().astype(float), observed.masked
        depth = counts.sum(axis=1)
        result = []
        for cell, gene in zip(*np.nonzero(observed.targets), strict=True):
            shows = {c for c in range(len(counts)) if not masked[c, gene]}
            overall = sum(counts[c, gene] for c in shows) / sum(depth[c] for c in shows)
            members = [c for c in members_of(cell) if c in shows]
            prior = prior_cells * depth.mean()
            rate = (sum(counts[c, gene] for c in members) + prior * overall) / (sum(depth[c] for c in members) + prior)
            result.append(rate * depth[cell])
        return np.array(result)

    return expected


@pytest.fixture(scope="session")
def mean_oracle() -> Callable[..., np.ndarray]:
    """Mean for each target entry of `values` over the cells of `members_of(cell)` that show it, else over all such."""

    def expected(observed: Observed, values: np.ndarray, members_of) -> np.ndarray:
        result = []
        for cell, gene in zip(*np.nonzero(observed.targets), strict=True):
            shows = [c for c in range(len(values)) if not observed.masked[c, gene]]
            members = [c for c in members_of(cell) if c in shows] or shows
            result.append(values[members, gene].mean())
        return np.array(result)

    return expected
