"""The reference of an annotation."""

from __future__ import annotations

import numpy as np

from behaviour.plain import Scene
from behaviour.row import Group
from behaviour.rows.genes import ensembl_ids

ROWS = Group(
    "Reference",
    notes=(
        "Where the reference lacks a type of your cells, `.obs['sct_label_novelty']` is the probability of that for "
        "each cell; it lowers the score, and below `threshold` the cell is `unknown`.",
        "A reference of another tissue: a warning that the cells of both can be separated almost without error; the "
        "novelty does not show it, since it needs cells of known types for comparison.",
        "Fewer than 50 cells in the reference, or to annotate: no novelty; the score is the probability of the best "
        "label.",
        "If `library_key` is a column of the reference, and labels occur in several of its samples, probabilities are "
        "calibrated on samples left out in turn instead of cells.",
    ),
)
HERE = ("annotate",)


@ROWS.same("Ensembl ids in one object and symbols in the other", on=HERE)
def ids(scene: Scene) -> None:
    scene.reference.var_names = ensembl_ids(scene)


@ROWS.same("genes of the reference in another order, and further ones", on=HERE)
def order(scene: Scene) -> None:
    scene.reference = scene.reference[:, ::-1].copy()


@ROWS.same("a dense or backed reference, or a view", on=HERE)
def dense(scene: Scene) -> None:
    scene.reference.X = scene.reference.X.toarray()


@ROWS.same("counts of the reference in a layer", "read with `reference_layer=`", on=HERE)
def layer(scene: Scene) -> None:
    scene.reference.layers["counts"] = scene.reference.X
    scene.reference.X = np.zeros(scene.reference.shape)
    scene.arguments["reference_layer"] = "counts"


def _donor(scene: Scene) -> None:
    scene.adata.obs["donor"] = "d"
    scene.arguments["library_key"] = "donor"


@ROWS.same("`library_key` or `gene_names` is not a column of the reference", "not used for it", than=_donor, on=HERE)
def optional_columns(scene: Scene) -> None:
    _donor(scene)
    scene.adata.var["symbol"] = scene.adata.var_names.to_numpy()
    scene.arguments["gene_names"] = "symbol"


@ROWS.refused(
    "a reference that is not an AnnData",
    "read the file first",
    TypeError,
    "reference must be an AnnData",
    "found str",
    "reference must be an AnnData",
    on=HERE,
)
def path(scene: Scene) -> None:
    scene.reference = "reference.h5ad"


@ROWS.refused(
    "a reference without `labels_key`",
    "give both",
    ValueError,
    "labels_key",
    "reference is given without labels_key",
    "labels_key",
    on=HERE,
)
def no_labels_key(scene: Scene) -> None:
    scene.arguments["labels_key"] = None


@ROWS.refused(
    "a reference that shares fewer than 50 known genes with the object",
    "",
    ValueError,
    "reference and adata",
    "share 40 genes",
    "use a reference that measured the same genes",
    on=HERE,
)
def other_genes(scene: Scene) -> None:
    scene.adata, scene.reference = scene.adata[:, :100].copy(), scene.reference[:, 60:].copy()


@ROWS.refused(
    "a reference and markers",
    "",
    ValueError,
    "reference and markers",
    "both given",
    "omit the other",
    on=HERE,
)
def markers_too(scene: Scene) -> None:
    scene.arguments["markers"] = scene.markers


@ROWS.refused(
    "scaled values, mouse genes, NaN, ... in the reference",
    "as in the object; the message speaks of the reference",
    ValueError,
    r"^reference\.X",
    "negative values .*scaled or centred data",
    "Pass a layer that holds them as `reference_layer=`",
    on=HERE,
)
def scaled(scene: Scene) -> None:
    scene.reference.layers["counts"] = scene.reference.X.copy()
    scene.reference.X = scene.reference.X.toarray() - 0.5


@ROWS.same("gene names of the reference in another column of its `.var`", "read with `reference_gene_names=`", on=HERE)
def gene_names(scene: Scene) -> None:
    scene.reference.var["symbol"] = scene.reference.var_names.to_numpy()
    scene.reference.var_names = [str(number) for number in range(scene.reference.n_vars)]
    scene.arguments["reference_gene_names"] = "symbol"


@ROWS.refused(
    "the same without `reference_gene_names`",
    "the message speaks of the reference, and names the argument that works for it",
    ValueError,
    "reference",
    "Only 0 of 160 names",
    "use reference_gene_names='symbol'",
    on=HERE,
)
def no_gene_names(scene: Scene) -> None:
    gene_names(scene)
    del scene.arguments["reference_gene_names"]
