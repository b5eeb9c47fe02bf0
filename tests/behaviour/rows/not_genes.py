"""Columns of the matrix that are not genes."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from behaviour.plain import Scene
from behaviour.row import Group
from behaviour.rows.genes import ensembl_ids, ids

ROWS = Group("Columns that are not genes")


def add(scene: Scene, names: list[str], kind: str | None = None, *, first: bool = False, values: float = 300) -> None:
    """Add columns of one large value that are not genes; ``kind`` goes to `.var["feature_types"]`."""
    more = ad.AnnData(sparse.csr_matrix(np.full((scene.adata.n_obs, len(names)), values, dtype=np.float32)))
    more.obs_names, more.var_names = scene.adata.obs_names, names
    if kind is not None:
        scene.adata.var["feature_types"], more.var["feature_types"] = "Gene Expression", kind
    obs, parts = scene.adata.obs, [scene.adata, more]
    scene.adata = ad.concat(parts[::-1] if first else parts, axis=1, join="outer")
    scene.adata.obs = obs


@ROWS.same("a column `feature_types` that calls all columns `Gene Expression`", on=("embed",))
def all_genes(scene: Scene) -> None:
    scene.adata.var["feature_types"] = pd.Categorical(["Gene Expression"] * scene.adata.n_vars)


@ROWS.same(
    "antibodies with the names of genes, beside genes with Ensembl ids, and `feature_types`",
    "left out of everything, and listed by `pp.check`",
    than=ids,
)
def antibodies(scene: Scene) -> None:
    ids(scene)
    add(scene, ["CD79A", "CD37", "CD45"], "Antibody Capture")


@ROWS.same("antibodies before the genes", "left out", on=("embed",))
def antibodies_first(scene: Scene) -> None:
    add(scene, ["CD3-A0034", "CD45", "CD56"], "Antibody Capture", first=True)


@ROWS.same("guides, peaks, hashtags: any type that is not gene expression", "left out", on=("embed",))
def guides(scene: Scene) -> None:
    add(scene, ["LYZ-2", "NKG7-1"], "CRISPR Guide Capture")


@ROWS.same(
    "antibodies and sample tags by their names (`CD14_TotalSeqB`, `ADT_CD19`, `Hashtag_1`), without a column of types",
    "left out",
    on=("embed",),
)
def tags(scene: Scene) -> None:
    add(scene, ["CD14_TotalSeqB", "ADT_CD19", "Hashtag_1", "CD4_TotalC"])


@ROWS.same(
    "control probes of Xenium, CosMx and MERSCOPE, spike-ins (`NegControlProbe_00042`, `Negative1`, `Blank-1`, "
    "`ERCC-00002`)",
    "left out",
    on=("embed",),
)
def probes(scene: Scene) -> None:
    add(scene, ["NegControlProbe_00042", "Negative1", "SystemControl4", "Blank-1", "BLANK_0006", "ERCC-00002"])


@ROWS.same("NaN, negative or decimal values of antibodies", "not looked at", on=("embed",))
def antibody_values(scene: Scene) -> None:
    add(scene, ["CD4", "CD14"], "Antibody Capture", values=-0.3)
    scene.adata.X = scene.adata.X.toarray()
    scene.adata.X[3, -1] = np.nan


@ROWS.warns(
    "symbols among Ensembl ids, and no column that says what they are",
    "read as these genes; the warning says how to mark antibodies",
    "Most columns of adata have Ensembl ids, but 3 have symbols .*and are read as these genes",
    r"say so in adata\.var\['feature_types'\] \('Antibody Capture'\)",
)
def symbols_among_ids(scene: Scene) -> None:
    scene.adata.var_names = [*ensembl_ids(scene)[:-3], *scene.adata.var_names[-3:]]


@ROWS.refused(
    "an object of antibodies or peaks only",
    "pass the object with the gene expression",
    ValueError,
    "adata",
    r"None of the 160 columns .*'Antibody Capture' \(160\)",
    r"Pass the object with the gene expression \(of a MuData `mdata\['rna'\]`\)",
)
def only_antibodies(scene: Scene) -> None:
    scene.adata.var["feature_types"] = "Antibody Capture"
