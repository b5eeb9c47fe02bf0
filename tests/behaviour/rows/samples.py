"""Cells and samples."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from behaviour.plain import Scene
from behaviour.row import EVERYWHERE, Group

ROWS = Group(
    "Cells and samples",
    notes=(
        "Cells without any counts are kept, in the same order.",
        "A sample of fewer cells than a bag holds is one smaller bag; the weights work with any number of cells.",
        "Fewer than 20 cells or 50 measured genes are imputed by the network alone: too little for a low-rank "
        "reconstruction.",
        "More than 8,192 cells are computed in blocks; what is learnt from the data is estimated on at most 8,192 "
        "cells, drawn at random ([Concepts](concepts.md#blocks)).",
    ),
)


def donors(scene: Scene) -> None:
    """Give the cells samples, and pass them."""
    scene.adata.obs["donor"] = pd.Categorical(np.where(np.arange(scene.adata.n_obs) % 3 == 0, "a", "b"))
    scene.arguments["library_key"] = "donor"


@ROWS.same("categories of samples without cells", "ignored", than=donors)
def unused_categories(scene: Scene) -> None:
    donors(scene)
    scene.adata.obs["donor"] = scene.adata.obs["donor"].cat.add_categories(["c", "d"])


@ROWS.same("samples as strings or numbers", "as categories", than=donors)
def sample_numbers(scene: Scene) -> None:
    donors(scene)
    scene.adata.obs["donor"] = scene.adata.obs["donor"].cat.codes.astype(int)


@ROWS.same("one sample", "as without `library_key`")
def one_sample(scene: Scene) -> None:
    scene.adata.obs["donor"] = "a"
    scene.arguments["library_key"] = "donor"


@ROWS.same("names of cells that are numbers", on=("embed",))
def numbered_cells(scene: Scene) -> None:
    scene.adata.obs_names = [str(number) for number in range(scene.adata.n_obs)]


@ROWS.same("cells in another order", "same vectors", on=("embed",))
def order(scene: Scene) -> None:
    scene.adata = scene.adata[::-1].copy()


@ROWS.same("other fields in the object (`obsp`, `uns`, `varm`, `raw`, PCA, ...)", "neither read nor changed")
def other_fields(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    adata = scene.adata
    adata.raw = adata.copy()
    adata.obsm["X_pca"], adata.varm["PCs"] = rng.random((adata.n_obs, 3)), rng.random((adata.n_vars, 3))
    adata.obsp["distances"], adata.uns["neighbors"] = adata.X @ adata.X.T, {"params": {"n_neighbors": 5}}


@ROWS.refused(
    "`library_key` is not a column of `.obs`",
    "lists the columns",
    KeyError,
    "library_key='smaple'",
    "not a column of adata.obs",
    "there are: 'bulk_labels'",
    on=EVERYWHERE,
)
def no_such_column(scene: Scene) -> None:
    scene.arguments["library_key"] = "smaple"


@ROWS.refused(
    "`library_key` is not a string",
    "",
    TypeError,
    "library_key",
    "found int",
    "must be a string or None",
)
def key_is_no_string(scene: Scene) -> None:
    scene.arguments["library_key"] = 3


@ROWS.refused(
    "cells without a sample",
    "says how many",
    ValueError,
    r"adata\.obs\['donor'\] \(library_key\)",
    "missing for 2 of 40 cells",
    "Give every cell a sample, or remove these cells",
    on=EVERYWHERE,
)
def missing_samples(scene: Scene) -> None:
    donors(scene)
    scene.adata.obs["donor"] = scene.adata.obs["donor"].astype(object).where(np.arange(scene.adata.n_obs) > 1)


@ROWS.warns(
    "a column that seems to hold samples (`sample`, `batch`, `donor_id`, `orig.ident`, `fov`, `puck`, ...), and no "
    "`library_key`",
    "all cells are read as one sample; the warning names the column",
    r"All cells are read as one sample, but adata\.obs\['donor'\] has 2 values",
    "pass library_key='donor'",
)
def missed_column(scene: Scene) -> None:
    donors(scene)
    scene.arguments.clear()


def joined(scene: Scene) -> None:
    """Join with other cells, of which 60 genes were not measured."""
    adata = ad.concat({"whole": scene.adata, "panel": scene.reference}, label="run")
    matrix = adata.X.toarray()
    matrix[(adata.obs["run"] == "panel").to_numpy(), :60] = 0
    adata.X = matrix
    scene.adata = adata


@ROWS.warns(
    "genes that one sample never measured, zeros in their place (`anndata.concat(join='outer')` of sparse matrices)",
    "they count as not measured in this sample: masked, and left out of recovery, calibration and blend",
    r"Some samples have no count of genes that the other samples detect too often for chance.*'panel' \(\d+\)",
    "count as not measured in these samples, instead of as zero",
    on=("check", "impute", "embed"),
)
def joined_samples(scene: Scene) -> None:
    joined(scene)
    scene.arguments["library_key"] = "run"


@ROWS.warns(
    "the same without `library_key`",
    "read as measured zeros; the warning names the column that seems to hold the samples",
    r"genes have no count in cells with some values of adata\.obs\['run'\]",
    "pass library_key='run'",
)
def joined_without_key(scene: Scene) -> None:
    joined(scene)


@ROWS.refused(
    "the same of dense matrices, where a join leaves NaN",
    "the message says how to join such objects",
    ValueError,
    r"adata\.X",
    "NaN",
    "join",
)
def dense_join(scene: Scene) -> None:
    scene.adata.X, scene.reference.X = scene.adata.X.toarray(), scene.reference.X.toarray()
    scene.adata = ad.concat({"whole": scene.adata, "panel": scene.reference[:, 60:].copy()}, label="run", join="outer")


@ROWS.warns(
    "cells that are there more than once",
    "computed as they are; masked values of a copy could be read off the other, so that the recovery is too good",
    "have exactly the values of another cell",
    "keep one of each",
)
def copies(scene: Scene) -> None:
    adata = scene.adata[[*range(scene.adata.n_obs), 3]].copy()
    adata.obs_names_make_unique()
    scene.adata = adata
