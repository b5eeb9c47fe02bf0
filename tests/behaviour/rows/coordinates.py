"""Coordinates of cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from behaviour.plain import Scene
from behaviour.row import EVERYWHERE, Group
from scanpy_sct.model import make_network

ROWS = Group("Coordinates")


def spatial(scene: Scene) -> None:
    """Give the cells coordinates."""
    scene.adata.obsm["spatial"] = np.random.default_rng(0).random((scene.adata.n_obs, 2)) * 1000


@ROWS.same("coordinates as integers", than=lambda scene: _rounded(scene, float))
def integers(scene: Scene) -> None:
    _rounded(scene, np.int64)


def _rounded(scene: Scene, dtype: type) -> None:
    spatial(scene)
    scene.adata.obsm["spatial"] = np.rint(scene.adata.obsm["spatial"]).astype(dtype)


@ROWS.same("more than two columns in `obsm['spatial']`", "the first two are used", than=spatial)
def three_columns(scene: Scene) -> None:
    spatial(scene)
    scene.adata.obsm["spatial"] = np.column_stack([scene.adata.obsm["spatial"], np.arange(scene.adata.n_obs)])


@ROWS.same("a DataFrame with the columns x and y", than=spatial)
def data_frame(scene: Scene) -> None:
    spatial(scene)
    scene.adata.obsm["spatial"] = pd.DataFrame(scene.adata.obsm["spatial"], scene.adata.obs_names, ["x", "y"])


@ROWS.refused(
    "NaN in some rows of `obsm['spatial']`, where coordinates are used",
    "leave these cells out, or go without coordinates",
    ValueError,
    r"obsm\['spatial'\]",
    "NaN or infinite for 2 of 40 cells, and coordinates are used",
    "Remove these cells, or use no coordinates: pass bags='similar'",
    on=("check", "impute"),
)
def some_nan(scene: Scene) -> None:
    spatial(scene)
    scene.adata.obsm["spatial"][:2, 0] = np.nan


@ROWS.warns(
    "NaN in some rows of `obsm['spatial']`, and `bags='similar'`",
    "computed without coordinates",
    "NaN or infinite for 2 of 40 cells",
    "Coordinates can only be used after you remove these cells",
    on=("check", "impute", "embed"),
)
def some_nan_unused(scene: Scene) -> None:
    some_nan(scene)
    scene.arguments["bags"] = "similar"


@ROWS.warns(
    "NaN in all rows of `obsm['spatial']`",
    "read as no coordinates",
    r"adata\.obsm\['spatial'\] is NaN or infinite for all cells; the cells are read as having no coordinates",
    on=("check", "impute", "embed"),
)
def all_nan(scene: Scene) -> None:
    scene.adata.obsm["spatial"] = np.full((scene.adata.n_obs, 2), np.nan)


def table(scene: Scene, **columns: np.ndarray) -> None:
    """Put a table into `obsm`."""
    scene.adata.obsm["spatial"] = pd.DataFrame(columns, index=scene.adata.obs_names)


@ROWS.same(
    "a DataFrame with other columns beside x and y (`cell_id`, `x_centroid`, `y_centroid`)",
    "the columns are found by their names",
    than=spatial,
)
def other_columns(scene: Scene) -> None:
    spatial(scene)
    points = scene.adata.obsm["spatial"]
    table(scene, cell_id=np.arange(len(points)), x_centroid=points[:, 0], y_centroid=points[:, 1])


@ROWS.warns(
    "a DataFrame with several pairs of coordinates, one of which is usual",
    "names the pair that is read",
    "'CenterX_global_px' and 'CenterY_global_px' are read as x and y",
    r"Keep the two right ones: .*\[\['x', 'y'\]\]",
    on=("check", "impute"),
)
def several_pairs(scene: Scene) -> None:
    names = ("CenterX_local_px", "CenterY_local_px", "CenterX_global_px", "CenterY_global_px")
    table(scene, **{name: np.random.default_rng(n).random(scene.adata.n_obs) for n, name in enumerate(names)})


@ROWS.refused(
    "a DataFrame in which x and y cannot be told",
    "",
    ValueError,
    r"adata\.obsm\['spatial'\]",
    "has the columns 'cell_id', 'first', 'second'",
    "Name them 'x' and 'y'",
)
def unknown_columns(scene: Scene) -> None:
    table(scene, **{name: np.arange(scene.adata.n_obs) for name in ("cell_id", "first", "second")})


@ROWS.refused(
    "one column in `obsm['spatial']`",
    "",
    ValueError,
    r"adata\.obsm\['spatial'\]",
    r"found shape \(40, 1\)",
    "must have the columns x and y",
    on=("check", "impute"),
)
def one_column(scene: Scene) -> None:
    spatial(scene)
    scene.adata.obsm["spatial"] = scene.adata.obsm["spatial"][:, :1]


@ROWS.refused(
    "strings in `obsm['spatial']`",
    "",
    ValueError,
    r"adata\.obsm\['spatial'\]",
    "could not convert",
    "must hold numbers",
    on=("check", "impute"),
)
def strings(scene: Scene) -> None:
    scene.adata.obsm["spatial"] = np.full((scene.adata.n_obs, 2), "left", dtype=object)


@ROWS.refused(
    "`bags='spatial'`, and no `obsm['spatial']`",
    "use another policy",
    ValueError,
    "bags='spatial'",
    "needs coordinates",
    r"obsm\['spatial'\]",
    on=("check", "impute", "embed", "annotate"),
)
def no_coordinates(scene: Scene) -> None:
    scene.arguments["bags"] = "spatial"


@ROWS.refused(
    "no `obsm['spatial']`, and a model that reads coordinates",
    "use a model that does without, such as `sct-mini`",
    ValueError,
    "model 'tiny'",
    r"reads coordinates from \.obsm\['spatial'\], and there are none",
    "use a model that does not, such as 'sct-mini'",
    on=EVERYWHERE,
)
def model_reads_coordinates(scene: Scene) -> None:
    config = replace(scene.model.config, reads_coordinates=True)
    network = make_network(config, scene.model.network.n_genes)
    scene.model = replace(scene.model, network=network)


@ROWS.warns(
    "many cells exactly where another cell lies, and no `library_key`",
    "several sections are suspected; all cells are read as one sample",
    "40 cells lie exactly where another does",
    "library_key=.*if these are not real coordinates, use bags='similar'",
    on=("check", "impute"),
)
def overlaid_sections(scene: Scene) -> None:
    scene.adata.obsm["spatial"] = np.tile(np.random.default_rng(0).random((20, 2)), (2, 1))
