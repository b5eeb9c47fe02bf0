"""Files, checkpoints and the command line."""

from __future__ import annotations

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
    "",
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
    "",
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
    "",
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
    r"adata\.X",
    "negative values",
    "Use the object from before scaling",
    on=HERE,
)
def scaled(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray() - 0.5
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    command(scene, "impute")


@ROWS.refused(
    "a name of a checkpoint that nobody knows",
    "lists the known ones",
    ValueError,
    "'sct-nano'",
    "neither a known model",
    "sct-mini",
    on=EVERYWHERE,
)
def no_such_model(scene: Scene) -> None:
    scene.model = "sct-nano"
