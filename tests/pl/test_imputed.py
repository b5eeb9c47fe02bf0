from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import scanpy_sct as sct


@pytest.fixture(scope="module")
def imputed(pbmc, tiny_checkpoint):
    adata = pbmc[:60, pbmc.var_names != "CD79B"].copy()
    adata.obsm["spatial"] = np.stack(np.unravel_index(np.arange(60), (10, 6)), axis=1).astype(float) * 10
    sct.tl.impute(adata, ["LYZ", "CD79B", "MS4A1"], model=tiny_checkpoint)
    return adata


def shown(ax):
    """Values of the points, in the order in which they are plotted."""
    return np.asarray(ax.collections[0].get_array())


@pytest.mark.parametrize("basis", [None, "umap", "X_umap"])
def test_observed_beside_imputed(imputed, basis):
    axes = sct.pl.imputed(imputed, ["LYZ", "CD79B"], basis=basis, **({"sort_order": False} if basis else {}))
    assert axes.shape == (2, 2)
    titles = [[ax.get_title() for ax in row] for row in axes]
    recovery = f"(recovery {imputed.var['sct_recovery']['LYZ']:.2f})"
    assert titles[0] == ["LYZ, observed", f"LYZ, imputed\n{recovery}"]
    assert titles[1] == ["CD79B, not measured", "CD79B, imputed\n(no recovery known)"]
    column = imputed.var_names.get_loc("LYZ")
    np.testing.assert_allclose(np.sort(shown(axes[0, 0])), np.sort(imputed.X[:, column].toarray().ravel()))
    np.testing.assert_allclose(np.sort(shown(axes[0, 1])), np.sort(imputed.layers["sct"][:, column].toarray().ravel()))
    np.testing.assert_allclose(np.sort(shown(axes[1, 1])), np.sort(imputed.obsm["sct_unmeasured"]["CD79B"]))
    points = np.asarray(axes[0, 0].collections[0].get_offsets())
    np.testing.assert_allclose(points, imputed.obsm["X_umap" if basis else "spatial"])


def test_one_scale_for_both_panels_and_its_unit(imputed):
    for shared in (False, True):
        left, right = sct.pl.imputed(imputed, "LYZ", shared_scale=shared)[0]
        limits = [ax.collections[0].get_clim() for ax in (left, right)]
        assert (limits[0] == limits[1]) == shared
        others = [ax.get_ylabel() for ax in left.figure.axes if ax not in (left, right)]
        assert others == ["expression, log scale"] * 2


def test_the_trust_of_genes_from_a_reference_is_in_the_title(pbmc):
    adata = pbmc[:60, pbmc.var_names != "CD79B"].copy()
    sct.tl.impute(adata, "CD79B", reference=pbmc[60:].copy())
    title = sct.pl.imputed(adata, "CD79B")[0, 1].get_title()
    assert title == f"CD79B, imputed\n(trust {adata.uns['sct']['unmeasured'].loc['CD79B', 'trust']:.2f}, estimated)"


def test_cells_without_coordinates_are_not_drawn(imputed):
    adata = imputed.copy()
    adata.obsm["spatial"] = pd.DataFrame(adata.obsm["spatial"], adata.obs_names, ["x", "y"])
    adata.obsm["spatial"].insert(0, "cell_id", range(60))
    adata.obsm["spatial"].iloc[0, 1:] = np.nan
    points = np.asarray(sct.pl.imputed(adata, "LYZ")[0, 0].collections[0].get_offsets())
    np.testing.assert_allclose(points, imputed.obsm["spatial"][1:])
    adata.obsm["spatial"][["x", "y"]] = np.nan
    points = np.asarray(sct.pl.imputed(adata, "LYZ", sort_order=False)[0, 0].collections[0].get_offsets())
    np.testing.assert_allclose(points, imputed.obsm["X_umap"])
    with pytest.raises(ValueError, match="choose another basis"):
        sct.pl.imputed(adata, "LYZ", basis="spatial")


def test_tissue_is_drawn_as_the_image_has_it(imputed):
    ax = sct.pl.imputed(imputed, "LYZ")[0, 0]
    assert ax.yaxis_inverted()
    assert ax.get_aspect() == 1


def test_points_on_the_tissue_nearly_touch(imputed):
    ax = sct.pl.imputed(imputed, "LYZ")[0, 0]
    points = ax.transData.transform([[0, 0], [10, 0]]) / ax.figure.dpi * 72
    distance = points[1, 0] - points[0, 0]
    diameter = np.sqrt(ax.collections[0].get_sizes()[0]) / 2
    assert 0.7 * distance < diameter < distance
    assert sct.pl.imputed(imputed, "LYZ", size=5.0)[0, 0].collections[0].get_sizes()[0] == pytest.approx(5.0)


def test_observed_counts_are_shown_on_the_scale_of_the_result(pbmc, tiny_checkpoint):
    adata = pbmc[:24].copy()
    counts = np.random.default_rng(0).poisson(2.0, adata.shape).astype("float32")
    adata.layers["counts"] = counts
    sct.tl.impute(adata, "LYZ", model=tiny_checkpoint, layer="counts")
    ax = sct.pl.imputed(adata, "LYZ")[0, 0]
    expected = np.log1p(counts[:, adata.var_names.get_loc("LYZ")])
    np.testing.assert_allclose(np.sort(shown(ax)), np.sort(expected), rtol=1e-6)


def test_own_axes_and_nothing_changed(imputed):
    before = (set(imputed.uns), list(imputed.obs), set(imputed.obsm))
    own = plt.subplots(1, 2)[1]
    axes = sct.pl.imputed(imputed, "LYZ", axes=own)
    assert axes[0, 0] is own[0]
    assert (set(imputed.uns), list(imputed.obs), set(imputed.obsm)) == before
    with pytest.raises(ValueError, match=r"axes has shape \(2,\); expected shape \(2, 2\)"):
        sct.pl.imputed(imputed, ["LYZ", "MS4A1"], axes=own)


def test_a_constant_gene_can_be_drawn(imputed):
    adata = imputed.copy()
    adata.layers["sct"] = adata.layers["sct"].toarray()
    adata.layers["sct"][:, adata.var_names.get_loc("LYZ")] = 0
    assert sct.pl.imputed(adata, "LYZ").shape == (1, 2)


def test_errors(imputed):
    with pytest.raises(KeyError, match="basis='tsne'"):
        sct.pl.imputed(imputed, "LYZ", basis="tsne")
    with pytest.raises(KeyError, match=r"sct\.tl\.impute"):
        sct.pl.imputed(imputed, "CD8A")


def test_show_shows(imputed, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    sct.pl.imputed(imputed, "LYZ")
    assert shown == []
    sct.pl.imputed(imputed, "LYZ", show=True)
    assert shown == [True]
