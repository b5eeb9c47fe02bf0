"""Every function reads values as its argument `scale` says, and refuses what they cannot be."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import scanpy_sct as sct
from scanpy_sct.read.findings import _warn_once
from scanpy_sct.read.scale import sampled_rows

MARKERS = {"B": ["CD79A", "CD79B", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]}

FUNCTIONS = {
    "impute": lambda adata, model, **scale: sct.tl.impute(adata, model=model, **scale),
    "embed": lambda adata, model, **scale: sct.tl.embed(adata, model=model, **scale),
    "annotate": lambda adata, model, **scale: sct.tl.annotate(adata, model=model, markers=MARKERS, **scale),
    "check": lambda adata, model, **scale: sct.pp.check(adata, model=model, **scale),
    "evaluate.imputation": lambda adata, model, **scale: sct.evaluate.imputation(
        adata, model=model, methods=["sct_network"], n_bootstrap=0, **scale
    ),
    "evaluate.embedding": lambda adata, model, **scale: sct.evaluate.embedding(
        adata,
        model=model,
        labels_key="bulk_labels",
        methods=["sct"],
        metrics=["kmeans_nmi"],
        n_bootstrap=0,
        **scale,
    ),
    "evaluate.annotation": lambda adata, model, **scale: sct.evaluate.annotation(
        adata, "bulk_labels", model=model, methods=["logistic_regression"], n_bootstrap=0, **scale
    ),
}


@pytest.fixture
def decimals(pbmc):
    """60 cells with values between 0.5 and 5, which could be decimal counts as well as logarithms."""
    cells = ad.AnnData(pbmc.X[:60].copy(), pbmc.obs[["bulk_labels"]][:60], pbmc.var[[]])
    rng = np.random.default_rng(0)
    cells.X.data = rng.uniform(0.5, 5, cells.X.nnz).astype(np.float32)
    return cells


def result_of(function, adata, model, scale):
    found = FUNCTIONS[function](adata, model, scale=scale)
    match function:
        case "impute":
            return adata.layers["sct"]
        case "embed":
            return adata.obsm["X_sct"]
        case "annotate":
            return adata.obsm["sct_label_probs"].to_numpy()
        case "check":
            return [found.scale == ("counts" if scale == "auto" else "linear")]
    return found["value"].to_numpy(dtype=float)


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "check"])
def test_decimals_are_what_the_argument_says(decimals, tiny_checkpoint, function):
    logs = decimals.copy()
    logs.X = logs.X.log1p()
    expected = result_of(function, logs, tiny_checkpoint, "log1p")
    found = result_of(function, decimals.copy(), tiny_checkpoint, "counts")
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)
    other = result_of(function, decimals.copy(), tiny_checkpoint, "log1p")
    assert not np.allclose(other, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unknown_scales_and_counts_as_logarithms_are_refused(decimals, tiny_checkpoint, function):
    with pytest.raises(ValueError, match=r"^scale='raw' must be one of 'auto', 'counts', 'log1p'"):
        FUNCTIONS[function](decimals, tiny_checkpoint, scale="raw")
    for factor, found in ((1, "integers only"), (10.5, "values up to 52.5")):
        decimals.X = decimals.X.ceil() * np.float32(factor)
        with pytest.raises(ValueError, match=rf"scale='log1p' was given, but .* holds {found}.*scale='counts'"):
            FUNCTIONS[function](decimals, tiny_checkpoint, scale="log1p")
    assert not decimals.uns
    assert not decimals.layers


def test_the_scale_is_reported_and_recorded(decimals, tiny_checkpoint):
    for scale, found in (("counts", "linear"), ("log1p", "log")):
        assert sct.pp.check(decimals, model=tiny_checkpoint, scale=scale).scale == found
        sct.tl.embed(decimals, model=tiny_checkpoint, scale=scale)
        assert decimals.uns["X_sct"]["scale"] == found
        assert decimals.uns["X_sct"]["params"]["scale"] == scale


def test_a_reference_has_a_scale_of_its_own(decimals, tiny_checkpoint):
    options = {"labels_key": "bulk_labels", "model": tiny_checkpoint}
    logs = decimals.copy()
    logs.X = logs.X.log1p()
    same, mixed = decimals.copy(), decimals.copy()
    sct.tl.annotate(same, reference=decimals, scale="counts", reference_scale="counts", **options)
    sct.tl.annotate(mixed, reference=logs, scale="counts", reference_scale="log1p", **options)
    np.testing.assert_allclose(mixed.obsm["sct_label_probs"], same.obsm["sct_label_probs"], atol=1e-3)
    assert mixed.uns["sct_label"]["params"]["reference_scale"] == "log1p"
    with pytest.raises(ValueError, match=r"^reference_scale='raw' must be"):
        sct.tl.annotate(mixed, reference=logs, reference_scale="raw", **options)
    logs.X.data *= 100
    with pytest.raises(ValueError, match=r"^reference_scale='log1p' was given"):
        sct.tl.annotate(mixed, reference=logs, scale="counts", reference_scale="log1p", **options)


def test_doubt_is_logged_and_reported_and_ends_with_the_argument(decimals, tiny_checkpoint, caplog):
    rng = np.random.default_rng(0)  # cells of different depth
    depth = np.repeat(np.linspace(0.2, 1, 60), np.diff(decimals.X.indptr))
    decimals.X.data *= rng.random(decimals.X.nnz) < depth
    decimals.X.eliminate_zeros()
    _warn_once.cache_clear()
    sct.tl.embed(decimals, model=tiny_checkpoint)
    assert "which were read as counts (corrected or expected ones)" in caplog.text
    assert "scale='counts'" in caplog.text
    (note,) = (note for note in sct.pp.check(decimals, model=tiny_checkpoint).notes if "decimals" in note)
    assert note in caplog.text
    assert not [
        note for note in sct.pp.check(decimals, model=tiny_checkpoint, scale="counts").notes if "decimals" in note
    ]
    caplog.clear()
    options = {"labels_key": "bulk_labels", "model": tiny_checkpoint, "scale": "counts"}
    sct.tl.annotate(decimals.copy(), reference=decimals, **options)
    assert "reference_scale='counts'" in caplog.text


def test_decimals_in_later_cells(decimals, tiny_checkpoint):
    """Only some cells are looked at first; what contradicts them later is refused, unless it was given."""
    decimals.X = decimals.X.ceil()
    counts = ad.concat([decimals] * 50, index_unique="-")
    is_looked_at = np.zeros(counts.n_obs, dtype=bool)
    is_looked_at[sampled_rows(counts.n_obs)] = True
    row = np.flatnonzero(~is_looked_at)[0]
    counts.X.data[counts.X.indptr[row]] = 1.5
    with pytest.raises(
        ValueError, match=r"such as 1.5. in row 50,.*if all are counts, corrected or not, pass scale='counts'"
    ):
        sct.pp.check(counts, model=tiny_checkpoint)
    assert sct.pp.check(counts, model=tiny_checkpoint, scale="counts").scale == "counts"


def test_training_reads_the_scale(decimals, tiny_checkpoint):
    counts = ad.AnnData(decimals.X.ceil(), decimals.obs, decimals.var)
    with pytest.raises(ValueError, match="scale='log1p' was given"):
        sct.train.finetune(tiny_checkpoint, counts, scale="log1p")
    with pytest.raises(ValueError, match="scale='log1p' was given"):
        sct.train.fit_label_head(tiny_checkpoint, counts, "bulk_labels", scale="log1p")
