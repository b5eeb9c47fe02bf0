"""Where results go, and other arguments."""

from __future__ import annotations

import numpy as np

from behaviour.plain import Scene
from behaviour.row import EVERYWHERE, Group

ROWS = Group("Results and arguments")
WRITING = ("impute", "embed", "annotate")


@ROWS.same("the same call twice", "the second result replaces all fields of the first", on=("impute",))
def twice(scene: Scene) -> None:
    import scanpy_sct as sct

    sct.tl.impute(scene.adata, ["CD4", "LYZ"], model=scene.model, store_bins=True)


@ROWS.same("another `batch_size`", "to the last bits: differences are below 1e-5")
def batch_size(scene: Scene) -> None:
    scene.arguments["batch_size"] = 3


@ROWS.same("`copy=True`", "the copy has the result")
def copy(scene: Scene) -> None:
    scene.arguments["copy"] = True


@ROWS.refused(
    "`key_added` with `/` in it",
    "files cannot hold it",
    ValueError,
    "key_added='a/b'",
    "cannot be stored in a file",
    "use one or more letters or digits without '/'",
    on=WRITING,
)
def slash(scene: Scene) -> None:
    scene.arguments["key_added"] = "a/b"


@ROWS.refused(
    "`key_added` is not a string",
    "give a string",
    TypeError,
    "key_added=3",
    "must be a string",
    "found int",
    on=WRITING,
)
def key_is_no_string(scene: Scene) -> None:
    scene.arguments["key_added"] = 3


@ROWS.refused(
    "`key_added` is a field that another tool wrote",
    "",
    ValueError,
    "key_added='bulk'",
    r"adata\.obsm\['bulk'\] already exists and was not written by scanpy_sct",
    "choose another name",
    on=WRITING,
)
def taken(scene: Scene) -> None:
    scene.adata.obsm["bulk"] = np.zeros((scene.adata.n_obs, 2))
    scene.arguments["key_added"] = "bulk"


@ROWS.refused(
    "`copy=True` with a backed object",
    "",
    ValueError,
    "copy=True",
    r"the matrix of adata is on disk \(backed\)",
    r"pass adata\.to_memory\(\)",
    on=WRITING,
)
def backed_copy(scene: Scene) -> None:
    import anndata as ad

    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    scene.adata = ad.read_h5ad(scene.folder / "cells.h5ad", backed="r")
    scene.arguments["copy"] = True


@ROWS.refused(
    "`threshold` outside 0 to 1",
    "give a number from 0 to 1",
    ValueError,
    r"threshold=1\.5",
    "1.5",
    "between 0 and 1|from 0 to 1",
    on=("annotate", "markers"),
)
def threshold(scene: Scene) -> None:
    scene.arguments["threshold"] = 1.5


@ROWS.refused("`batch_size` of 0", "give a positive integer", ValueError, "batch_size=0", "0", "positive", on=WRITING)
def no_batch(scene: Scene) -> None:
    scene.arguments["batch_size"] = 0


@ROWS.refused("a negative seed", "", ValueError, "rng=-1", "-1", "must not be negative", on=WRITING)
def seed(scene: Scene) -> None:
    scene.arguments["rng"] = -1


@ROWS.refused(
    "an unknown `precision`", "lists the choices", ValueError, "precision='half'", "half", "bfloat16", on=EVERYWHERE
)
def precision(scene: Scene) -> None:
    scene.arguments["precision"] = "half"


@ROWS.refused(
    "a device that is not there", "use `cpu` or `auto`", ValueError, "device='cuda:99'", "cuda:99", "cpu", on=EVERYWHERE
)
def device(scene: Scene) -> None:
    scene.arguments["device"] = "cuda:99"


@ROWS.refused(
    "an unknown policy of bags", "lists the choices", ValueError, "bags='near'", "near", "spatial.*similar.*random"
)
def bags(scene: Scene) -> None:
    scene.arguments["bags"] = "near"


@ROWS.refused(
    "`out=` that does not end in `.zarr`",
    "end it with `.zarr`",
    ValueError,
    "out",
    r"result\.h5ad",
    r"\.zarr",
    on=("impute",),
)
def out_suffix(scene: Scene) -> None:
    scene.arguments["out"] = scene.folder / "result.h5ad"


@ROWS.refused(
    "a layer for `hide` that is not there",
    "lists the layers",
    KeyError,
    "hide='mask'",
    "available",
    "boolean|available",
    on=("impute",),
)
def hide(scene: Scene) -> None:
    scene.arguments["hide"] = "mask"
