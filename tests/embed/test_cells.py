from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.embed.cells import BACKGROUND_CELLS, background_cells, embed_cells
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.settings import settings


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture
def open_cells(compact_checkpoint):
    def opened(adata, **options):
        return CellReader(adata, compact_checkpoint.genes, "log1p_counts", ReadOptions(**options))

    return opened


def worst_correlation(one, other):
    return min(np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True))


def test_a_vector_depends_on_neither_seed_nor_order_nor_chunks(pbmc, open_cells, compact_checkpoint, monkeypatch):
    """Also where the profile is estimated from a part of the cells."""
    monkeypatch.setattr("scanpy_sct.embed.cells.BACKGROUND_CELLS", 120)
    cells = pbmc[:300]
    vectors = embed_cells(compact_checkpoint, open_cells(cells))
    order = np.random.default_rng(0).permutation(300)
    monkeypatch.setattr("scanpy_sct.embed.block.CELLS_AT_ONCE", 37)
    other = embed_cells(compact_checkpoint, open_cells(cells[order]), ComputeOptions(seed=5))
    assert worst_correlation(vectors[order], other) > 1 - 1e-6
    np.testing.assert_allclose(other, vectors[order], atol=1e-3)


def test_samples_do_not_borrow_from_one_another(pbmc, open_cells, compact_checkpoint):
    cells = pbmc[:90].copy()
    cells.obs["sample"] = ["a", "b", "b"] * 30
    together = embed_cells(compact_checkpoint, open_cells(cells, library_key="sample"))
    alone = embed_cells(compact_checkpoint, open_cells(cells[cells.obs["sample"] == "a"]))
    np.testing.assert_allclose(together[::3], alone, atol=1e-4)


def test_relative_to_the_training_data_cells_do_not_depend_on_one_another(pbmc, open_cells, compact_checkpoint):
    together = embed_cells(compact_checkpoint, open_cells(pbmc[:30]), relative_to="training")
    for rows in (slice(0, 1), slice(20, 30)):
        alone = embed_cells(compact_checkpoint, open_cells(pbmc[rows]), relative_to="training")
        np.testing.assert_allclose(alone, together[rows], atol=1e-4)
    assert not np.allclose(embed_cells(compact_checkpoint, open_cells(pbmc[:30])), together, atol=0.1)


def test_a_cell_is_left_out_of_the_profile_it_is_centred_on(pbmc, open_cells, compact_checkpoint):
    """Two cells: each is centred on the other, as in a bag of two."""
    from scanpy_sct.plan.bags import Bag
    from scanpy_sct.run.inputs import BagInputs, token_rules
    from scanpy_sct.run.runner import Runner

    reader = open_cells(pbmc[:2])
    inputs = BagInputs(reader.block(), [Bag(np.arange(2), 2)], token_rules(compact_checkpoint))
    ((_, of_bag),) = Runner(compact_checkpoint, ComputeOptions()).cell_vectors(inputs)
    np.testing.assert_allclose(embed_cells(compact_checkpoint, reader), of_bag, atol=1e-4)


def test_a_single_cell_and_an_empty_one(pbmc, open_cells, compact_checkpoint):
    cells = pbmc[:3].copy()
    dense = cells.X.toarray()
    dense[1] = 0
    cells.X = dense
    cells.obs["sample"] = ["a", "b", "b"]
    assert np.isfinite(embed_cells(compact_checkpoint, open_cells(cells, library_key="sample"))).all()


def test_empty_cells_do_not_move_the_others(pbmc, open_cells, compact_checkpoint):
    cells = pbmc[:40].copy()
    dense = cells.X.toarray()
    dense[10:30] = 0
    cells.X = dense
    full = np.r_[0:10, 30:40]
    together = embed_cells(compact_checkpoint, open_cells(cells))
    alone = embed_cells(compact_checkpoint, open_cells(cells[full].copy()))
    np.testing.assert_allclose(together[full], alone, atol=1e-5)
    # Of two samples, one is empty.
    cells.obs["sample"] = np.where(np.isin(np.arange(40), full), "full", "empty")
    apart = embed_cells(compact_checkpoint, open_cells(cells, library_key="sample"))
    np.testing.assert_allclose(apart[full], alone, atol=1e-5)
    assert np.isfinite(apart).all()


def test_the_draw_follows_the_names(pbmc, open_cells, monkeypatch):
    assert len(background_cells(open_cells(pbmc))[0]) == min(len(pbmc), BACKGROUND_CELLS)
    monkeypatch.setattr("scanpy_sct.embed.cells.BACKGROUND_CELLS", 50)
    drawn = pbmc.obs_names[background_cells(open_cells(pbmc))[0]]
    turned = pbmc[::-1]
    assert set(drawn) == set(turned.obs_names[background_cells(open_cells(turned))[0]])
    assert len(set(drawn)) == 50


def test_a_released_network_reads_bags(pbmc, open_cells, released_checkpoint):
    reader = open_cells(pbmc[:30])
    one, again, other = (
        embed_cells(released_checkpoint, reader, ComputeOptions(bags="random", seed=seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    cells = np.arange(9, 21)
    part = embed_cells(released_checkpoint, reader.block().block(cells), ComputeOptions(bags="random"))
    alone = embed_cells(released_checkpoint, open_cells(pbmc[cells]), ComputeOptions(bags="random"))
    np.testing.assert_allclose(part, alone, atol=1e-4)
