"""Scale of the values."""

from __future__ import annotations

import anndata as ad
import numpy as np
from scipy import sparse

from behaviour.plain import Scene
from behaviour.row import EVERYWHERE, Group

ROWS = Group(
    "Values and their scale",
    notes=(
        "Where the values of a cell are not multiples of one unit, bins of counts are made in units of its median "
        "expressed value.",
    ),
)


def normalise(scene: Scene, total: float = 1e4) -> None:
    """Give all cells one total."""
    matrix = scene.adata.X
    scene.adata.X = sparse.diags(total / np.asarray(matrix.sum(axis=1)).ravel()).dot(matrix).tocsr().astype(np.float32)


def log_normalised(scene: Scene) -> None:
    """Normalise and take the logarithm."""
    normalise(scene)
    scene.adata.X = scene.adata.X.log1p()


ROWS.same(
    "`log1p` of normalised counts",
    "counts are recovered for the tokens; imputed values are on the scale of the input",
    on=("embed",),
)(log_normalised)


@ROWS.same("logarithms of another base (2, 10)", "as of base e", than=log_normalised, on=("embed",))
def log2_normalised(scene: Scene) -> None:
    log_normalised(scene)
    scene.adata.X.data /= np.float32(np.log(2))


@ROWS.same("normalised counts (CPM, CP10k) without logarithm", "`log1p` is taken", than=log_normalised)
def normalised(scene: Scene) -> None:
    normalise(scene)


@ROWS.warns(
    "log-like values that were not counts (square roots, another transformation)",
    "`pp.check` says that no counts can be recovered; used as they are",
    "no counts can be recovered",
    on=("check",),
)
def square_roots(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.sqrt()


@ROWS.refused(
    "scaled or centred values",
    "names `adata.raw.to_adata()` or the layers if there are any",
    ValueError,
    r"adata\.X",
    "negative values .*scaled or centred data",
    r"Pass `adata\.raw\.to_adata\(\)` if it holds them, or pass a layer .*'counts'",
    on=EVERYWHERE,
)
def scaled(scene: Scene) -> None:
    scene.adata.layers["counts"] = scene.adata.X.copy()
    scene.adata.raw = scene.adata.copy()
    dense = scene.adata.X.toarray()
    scene.adata.X = (dense - dense.mean(axis=0)) / (dense.std(axis=0) + 1)


@ROWS.refused(
    "NaN or infinite values",
    "says how many there are and in which rows",
    ValueError,
    r"adata\.X",
    "1 NaN and 1 infinite values, in rows 2, 7",
    "remove or correct the cells or genes with such values, or pass another matrix as `layer=`",
)
def not_finite(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray()
    scene.adata.X[2, 5], scene.adata.X[7, 3] = np.nan, np.inf


@ROWS.refused(
    "NaN, infinite or negative values, or another scale, far down in a matrix that is not in memory",
    "as soon as they are read",
    ValueError,
    r"adata\.X",
    "1 NaN .* in row 33",
    "remove or correct",
    on=EVERYWHERE,
)
def not_finite_on_disk(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray()
    scene.adata.X[33, 5] = np.nan
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    scene.adata = ad.read_h5ad(scene.folder / "cells.h5ad", backed="r")


@ROWS.refused(
    "no positive value at all",
    "pass the layer that holds the expression",
    ValueError,
    r"adata\.X",
    "no positive value: all 40 x 160 are zero",
    "as `layer=`",
)
def all_zero(scene: Scene) -> None:
    scene.adata.X = np.zeros(scene.adata.shape, dtype=np.float32)


@ROWS.refused(
    "`denoise=True` with values that are neither counts nor log-normalised counts",
    "it needs counts, or values from which they can be recovered",
    ValueError,
    "denoise",
    "count",
    "denoise",
    on=("impute all",),
)
def denoise_without_counts(scene: Scene) -> None:
    square_roots(scene)
    scene.arguments["denoise"] = True


@ROWS.refused(
    "counts and values that are not integers in one matrix, or logarithms and values above 20",
    "names the rows; pass another matrix or correct these cells",
    ValueError,
    r"adata\.X",
    r"values that are not integers \(such as 0\.5\) in rows 30, 31",
    "Pass another matrix as `layer=`, or correct these cells",
)
def two_scales(scene: Scene) -> None:
    scene.patch.setattr("scanpy_sct.read.scale.N_SAMPLED_ROWS", 8)
    scene.patch.setattr("scanpy_sct.read.scale.N_RUNS", 2)
    scene.patch.setattr("scanpy_sct.read.scale.RUN_LENGTH", 4)
    scene.adata.X = scene.adata.X.toarray()
    scene.adata.X[30:32, 3] = 0.5


def counts_given(scene: Scene) -> None:
    scene.arguments["scale"] = "counts"


ROWS.same("`scale='counts'` for counts", on=("embed", "check"))(counts_given)


@ROWS.same("`scale='log1p'` for log-normalised values", than=log_normalised, on=("embed",))
def given_logs(scene: Scene) -> None:
    log_normalised(scene)
    scene.arguments["scale"] = "log1p"


@ROWS.refused(
    "`scale='log1p'` for counts, or for values above 20",
    "pass `scale='counts'`, or another matrix",
    ValueError,
    "scale='log1p' was given",
    "holds values up to|holds integers only",
    "Pass scale='counts' .*or another matrix as `layer=`",
    on=EVERYWHERE,
)
def counts_given_as_logs(scene: Scene) -> None:
    scene.arguments["scale"] = "log1p"


@ROWS.refused(
    "an unknown `scale`", "lists the choices", ValueError, "scale='counst'", "counst", "'auto', 'counts'.*'log1p'"
)
def unknown_scale(scene: Scene) -> None:
    scene.arguments["scale"] = "counst"


@ROWS.warns(
    "decimal counts below 20 (corrected, expected, divided among cells)",
    "read as counts; the warning says why, and how to choose otherwise",
    "which were read as counts",
    "scale='log1p'",
)
def decimal_counts(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    scene.adata.X.data = np.minimum(scene.adata.X.data, 15) * rng.beta(30, 2, scene.adata.X.nnz).astype(np.float32)


@ROWS.refused(
    "counts in some cells, log-normalised values in others",
    "",
    ValueError,
    r"adata\.X holds integers in",
    "look like logarithms",
    "Log-normalise all cells or none",
)
def counts_and_logarithms(scene: Scene) -> None:
    logged = scene.adata.X.copy()
    logged.data = np.log1p(logged.data)
    is_first = np.repeat(np.arange(scene.adata.n_obs) < scene.adata.n_obs // 2, np.diff(logged.indptr))
    logged.data[is_first] = scene.adata.X.data[is_first]
    scene.adata.X = logged


@ROWS.warns(
    "values that were smoothed or imputed before", "", "hardly any zeros", "Pass the measured values", on=("check",)
)
def smoothed(scene: Scene) -> None:
    values = scene.adata.X.toarray().astype(float) + 1e-3
    left, weights, right = np.linalg.svd(np.log1p(values), full_matrices=False)
    scene.adata.X = np.clip((left[:, :4] * weights[:4]) @ right[:4], 1e-4, None).astype(np.float32)


@ROWS.warns("logarithms taken twice", "", "logarithms of logarithms", "numpy.expm1", on=("check",))
def logged_twice(scene: Scene) -> None:
    scene.adata.X.data = np.log1p(np.log1p(scene.adata.X.data)).astype(np.float32)
