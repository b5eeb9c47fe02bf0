from __future__ import annotations

from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.text import Text

import scanpy_sct as sct
from scanpy_sct.pl._recovery import LABELS_AT, _heights, _spread
from scanpy_sct.write import write_imputation

N_CELLS, N_GENES = 40, 30


@pytest.fixture
def imputed():
    rng = np.random.default_rng(0)
    adata = AnnData((np.arange(N_CELLS)[:, None] < rng.permutation(N_GENES)[None] + 1).astype("float32"))
    adata.var_names = [f"G{number}" for number in range(N_GENES)]
    recovery = rng.random(N_GENES)
    recovery[3] = np.nan
    chosen = np.arange(N_GENES) != 4
    recovery[~chosen] = np.nan
    write_imputation(
        adata, "sct", layer=adata.X, imputed=chosen, recovery=recovery, params={}, details={"scale": "log"}
    )
    return adata


def names(ax):
    return [text.get_text() for text in ax.texts]


def test_each_gene_is_a_point(imputed):
    ax = sct.pl.recovery(imputed)
    known = imputed.var["sct_recovery"].notna().to_numpy()
    bands = [np.asarray(points.get_offsets()) for points in ax.collections[:3]]
    expected = np.stack([(imputed.X > 0).mean(0)[known], imputed.var["sct_recovery"][known]], axis=1)
    points = np.concatenate(bands)
    np.testing.assert_allclose(points[np.argsort(points[:, 1])], expected[np.argsort(expected[:, 1])])
    assert bands[0][:, 1].min() >= 0.3 > bands[1][:, 1].max()
    assert bands[1][:, 1].min() >= 0.1 > bands[2][:, 1].max()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == f"trusted: {(imputed.var['sct_recovery'] >= 0.3).sum()} genes"
    assert ax.lines[0].get_ydata()[0] == pytest.approx(imputed.var["sct_recovery"].median())


def test_the_best_genes_are_labelled_but_not_rare_ones(imputed):
    often = (imputed.X > 0).sum(0) >= 10
    imputed.var.loc[~often, "sct_recovery"] += 1  # better than all others
    best = imputed.var["sct_recovery"][often].nlargest(4)
    assert sorted(names(sct.pl.recovery(imputed, n_genes=4))) == sorted(best.index)


def test_genes_to_label_can_be_chosen(imputed):
    assert sorted(names(sct.pl.recovery(imputed, genes=["G1", "G3", "G7"]))) == ["G1", "G7"]
    assert names(sct.pl.recovery(imputed, n_genes=0)) == []
    with pytest.raises(KeyError, match="G4"):
        sct.pl.recovery(imputed, genes="G4")


@pytest.mark.parametrize("figsize", [(6.4, 4.4), (5, 3)])
def test_labels_do_not_overlap(imputed, figsize):
    imputed.var["sct_recovery"] = np.where(imputed.var["sct_imputed"], 0.5, np.nan)
    own = plt.subplots(figsize=figsize, layout="constrained")[1]
    ax = sct.pl.recovery(imputed, n_genes=8, ax=own)
    ax.figure.canvas.draw()
    # The extent of an annotation includes its line; that of its text does not.
    extents = [Text.get_window_extent(text) for text in ax.texts]
    boxes = sorted((extent.y0, extent.y1) for extent in extents)
    assert len(boxes) == 8
    assert all(below[1] <= above[0] for below, above in pairwise(boxes))


def test_lines_to_labels_do_not_cross():
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = np.stack([rng.random(6), 0.8 + 0.02 * rng.random(6)], axis=1)
        heights = _heights(points, 0.06)
        assert np.diff(np.sort(heights)).min() >= 0.06 - 1e-9
        ends = np.stack([np.full(6, LABELS_AT), heights], axis=1)
        for one, other in combinations(range(6), 2):
            assert not cross(points[one], ends[one], points[other], ends[other])


def cross(a, b, c, d):
    def side(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


def test_five_labels_by_default(imputed):
    assert len(names(sct.pl.recovery(imputed))) == 5


def test_spread_moves_only_what_is_close():
    np.testing.assert_allclose(_spread(np.array([0.1, 0.5, 0.9]), 0.05), [0.1, 0.5, 0.9])
    close = _spread(np.array([0.5, 0.5, 0.5]), 0.05)
    np.testing.assert_allclose(close, [0.45, 0.5, 0.55])
    assert _spread(np.array([1.0, 1.0]), 0.05)[-1] == 1.0


def test_own_axes_and_style(imputed):
    own = plt.subplots()[1]
    ax = sct.pl.recovery(imputed, ax=own, color="green", s=3)
    assert ax is own
    assert ax.collections[0].get_sizes()[0] == 3


def test_without_a_result(imputed):
    with pytest.raises(KeyError, match="key='other'"):
        sct.pl.recovery(imputed, key="other")
