"""Files, checkpoints and the command line."""

from __future__ import annotations

import gzip
import shutil

import h5py
import pandas as pd

from behaviour.plain import Scene
from behaviour.row import EVERYWHERE, Group

ROWS = Group("Files and the command line")
HERE = ("command",)


def command(scene: Scene, name: str, cells: str = "cells.h5ad", output: str = "out.h5ad", *more: object) -> None:
    """Set the command: cells and output are in the folder of the scene."""
    files = [str(scene.folder / cells), "--output", str(scene.folder / output)]
    scene.command = (name, *files, "--model", str(scene.model_folder), *map(str, more))


@ROWS.same("an h5ad file, on the command line", "as the function", on=HERE)
def h5ad(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    command(scene, "embed")


@ROWS.same("a zarr store, on the command line", "as the function", on=HERE)
def zarr(scene: Scene) -> None:
    scene.adata.write_zarr(scene.folder / "cells.zarr")
    command(scene, "embed", "cells.zarr", "out.zarr")


@ROWS.refused(
    "an input file that is not there",
    "",
    FileNotFoundError,
    r"cells\.h5ad",
    "does not exist",
    "check the path",
    on=HERE,
)
def no_input(scene: Scene) -> None:
    command(scene, "embed")


@ROWS.refused(
    "a file of another kind",
    "use `.h5ad` or `.zarr`",
    ValueError,
    r"cells\.csv",
    "unknown file name extension",
    r"use \.h5ad or \.zarr",
    on=HERE,
)
def csv(scene: Scene) -> None:
    (scene.folder / "cells.csv").write_text("a,b\n", encoding="utf-8")
    command(scene, "embed", "cells.csv")


@ROWS.refused(
    "an output that exists, without `--overwrite`",
    "choose another name, or replace it with `--overwrite`",
    FileExistsError,
    r"out\.h5ad",
    "already exists",
    "--overwrite",
    on=HERE,
)
def output_exists(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    (scene.folder / "out.h5ad").write_text("of another tool", encoding="utf-8")
    command(scene, "embed")


@ROWS.refused(
    "an output in a folder that is not there",
    "",
    FileNotFoundError,
    r"results/out\.h5ad",
    "does not exist",
    "create it first",
    on=HERE,
)
def no_folder(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    command(scene, "embed", "cells.h5ad", "results/out.h5ad")


@ROWS.refused(
    "an output of another kind",
    "use `.h5ad` or `.zarr`",
    ValueError,
    r"out\.csv",
    "unknown file name extension",
    r"\.h5ad or \.zarr",
    on=HERE,
)
def output_csv(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    command(scene, "embed", "cells.h5ad", "out.csv")


@ROWS.refused(
    "scaled values, NaN, mouse genes, ... in a file",
    "the error of the function as one message; no output is written",
    ValueError,
    r"X of .*cells\.h5ad",
    "negative values",
    "Use the object from before scaling",
    on=HERE,
)
def scaled(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray() - 0.5
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    command(scene, "impute")


@ROWS.refused(
    "a file that SeuratDisk wrote: `_index` among the columns of `raw.var`",
    "found before computing, since everything but the matrices is written on trial; the message has the remedy as code",
    ValueError,
    r"raw\.var\['_index'\] of .*cells\.h5ad",
    "the name is reserved",
    "fix it with",
    on=HERE,
)
def seurat_disk(scene: Scene) -> None:
    scene.adata.raw = scene.adata.copy()
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    with h5py.File(scene.folder / "cells.h5ad", "r+") as file:
        var = file["raw/var"]
        var["features"] = var["_index"] = var[var.attrs["_index"]][:]
        for name in ("features", "_index"):
            var[name].attrs["encoding-type"], var[name].attrs["encoding-version"] = "string-array", "0.2.0"
        var.attrs["_index"], var.attrs["column-order"] = "features", ["_index"]
    command(scene, "embed")


def _with_columns(scene: Scene, function: str, *names: str) -> None:
    for name in names:
        scene.adata.obs[name] = pd.Categorical(["a", "b"] * (scene.adata.n_obs // 2))
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    command(scene, function, "cells.h5ad", "out.zarr")


@ROWS.refused(
    "a column `G1/S` of `.obs`, and an output that ends in `.zarr`",
    "found before computing; the message has the remedy as code",
    ValueError,
    r"out\.zarr .*obs\['G1/S'\] of .*cells\.h5ad",
    "the name contains '/'",
    r"adata\.obs\.rename\(columns=\{'G1/S': 'G1\|S'\}, inplace=True\)",
    on=HERE,
)
def slash_in_column(scene: Scene) -> None:
    _with_columns(scene, "impute", "G1/S")


@ROWS.refused(
    "columns `Sample` and `sample`, and an output that ends in `.zarr`",
    "such a store could not be read again; found before computing",
    ValueError,
    r"obs\['sample'\] of .*cells\.h5ad",
    "the name differs from 'Sample' only in case",
    r"adata\.obs\.rename",
    on=HERE,
)
def case_of_columns(scene: Scene) -> None:
    _with_columns(scene, "embed", "Sample", "sample")


@ROWS.refused(
    "the same with `out=`, in Python",
    "the message has the remedy as code",
    ValueError,
    r"adata\.obs\['G1/S'\]",
    "the name contains '/'",
    r"adata\.obs\.rename",
    on=("impute",),
)
def slash_in_column_of_object(scene: Scene) -> None:
    scene.adata.obs["G1/S"] = 1.0
    scene.arguments["out"] = scene.folder / "out.zarr"


def _file(scene: Scene, content: bytes, name: str = "cells.h5ad") -> None:
    (scene.folder / name).write_bytes(content)
    command(scene, "embed", name)


@ROWS.refused(
    "an h5ad file that is cut off, as after a broken download",
    "copy or download it again",
    ValueError,
    r"cells\.h5ad",
    "is damaged or incomplete",
    "copy or download it again",
    on=HERE,
)
def truncated(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "whole.h5ad")
    _file(scene, (scene.folder / "whole.h5ad").read_bytes()[:20_000])


@ROWS.refused("an empty file", "", ValueError, r"cells\.h5ad", "is empty", "write, copy or download it again", on=HERE)
def empty(scene: Scene) -> None:
    _file(scene, b"")


@ROWS.refused(
    "a web page, a table or a compressed file with the name of an h5ad file",
    "says what it is",
    ValueError,
    r"cells\.h5ad",
    "is not an h5ad file but .*gzip",
    "unpack it",
    on=HERE,
)
def compressed(scene: Scene) -> None:
    _file(scene, gzip.compress(b"cells" * 100))


@ROWS.refused(
    "a zarr store with the name of an h5ad file, or the other way round",
    "rename it",
    ValueError,
    r"cells\.h5ad",
    "is not an h5ad file but a zarr store",
    r"rename it to end with \.zarr",
    on=HERE,
)
def renamed(scene: Scene) -> None:
    scene.adata.write_zarr(scene.folder / "store.zarr")
    (scene.folder / "store.zarr").rename(scene.folder / "cells.h5ad")
    command(scene, "embed")


@ROWS.refused(
    "a matrix of 10x Genomics (`filtered_feature_bc_matrix.h5`), a loom file, MuData or SpatialData as h5ad or zarr",
    "says what it is and how to read it",
    ValueError,
    r"cells\.h5ad",
    "a matrix of 10x Genomics",
    r"read it with scanpy\.read_10x_h5",
    on=HERE,
)
def matrix_of_10x(scene: Scene) -> None:
    with h5py.File(scene.folder / "cells.h5ad", "w") as file:
        file["matrix/barcodes"] = [b"AAAC"]
    command(scene, "embed")


@ROWS.refused(
    "a file of a newer version of anndata, with parts that this one does not know",
    "update anndata",
    ValueError,
    r"cells\.h5ad",
    "has parts that this version of anndata cannot read",
    "update anndata",
    on=HERE,
)
def newer(scene: Scene) -> None:
    scene.adata.obs["score"] = 1.0
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    with h5py.File(scene.folder / "cells.h5ad", "r+") as file:
        file["obs/score"].attrs["encoding-version"] = "99"
    command(scene, "embed")


@ROWS.refused(
    "a reference that cannot be read, beside good cells",
    "the message names the file of the two",
    ValueError,
    r"reference\.h5ad",
    "is not an h5ad file",
    "another kind of file",
    on=HERE,
)
def bad_reference(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    path = scene.folder / "reference.h5ad"
    path.write_text("gene,count\n", encoding="utf-8")
    command(scene, "annotate", "cells.h5ad", "out.h5ad", "--reference", path, "--labels-key", "bulk_labels")


@ROWS.refused(
    "a folder that is not a checkpoint",
    "the message says which files one has",
    ValueError,
    "model=",
    "is a folder without a checkpoint",
    r"expected config\.json with model\.safetensors",
)
def no_checkpoint(scene: Scene) -> None:
    scene.model = scene.folder / "model"
    scene.model.mkdir()


@ROWS.refused(
    "a checkpoint of which the weights are cut off",
    "",
    ValueError,
    r"model\.safetensors",
    "is damaged or not a safetensors file",
    "copy or download it again",
)
def truncated_weights(scene: Scene) -> None:
    shutil.copytree(scene.model_folder, scene.folder / "model")
    scene.model = scene.folder / "model"
    weights = scene.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


@ROWS.refused(
    "an unknown name of a checkpoint",
    "lists the known ones",
    ValueError,
    "'sct-nano'",
    "use the name of a model",
    "sct-mini",
    on=EVERYWHERE,
)
def no_such_model(scene: Scene) -> None:
    scene.model = "sct-nano"
