"""Names of genes, and genes that are requested."""

from __future__ import annotations

import anndata as ad
import numpy as np
from scipy import sparse

from behaviour.plain import Scene
from behaviour.row import EVERYWHERE, Group
from scanpy_sct.read.genes import to_ensembl

ROWS = Group(
    "Genes",
    notes=(
        "A symbol that several genes have means the gene that the model knows, else the protein-coding one; if several "
        "remain, it is not used and listed by `pp.check`.",
        "Genes that were not measured are masked, never zero.",
    ),
)


def ensembl_ids(scene: Scene) -> list[str]:
    """Return the Ensembl ids of the genes."""
    return to_ensembl(list(scene.adata.var_names)).ensembl_ids.tolist()


def add_columns(scene: Scene, names: list[str], values: float = 3) -> None:
    """Add columns of one value behind the genes."""
    more = ad.AnnData(sparse.csr_matrix(np.full((scene.adata.n_obs, len(names)), values, dtype=np.float32)))
    more.obs_names, more.var_names = scene.adata.obs_names, names
    obs = scene.adata.obs
    scene.adata = ad.concat([scene.adata, more], axis=1, join="outer")
    scene.adata.obs = obs


@ROWS.same("Ensembl ids", "as symbols", on=("embed",))
def ids(scene: Scene) -> None:
    scene.adata.var_names = ensembl_ids(scene)


@ROWS.same("Ensembl ids with a version (`ENSG00000141736.14`)", "it is ignored", on=("embed",))
def versions(scene: Scene) -> None:
    scene.adata.var_names = [f"{name}.{number % 9 + 1}" for number, name in enumerate(ensembl_ids(scene))]


@ROWS.same("a genome in front (`GRCh38_LYZ`)", "it is ignored", on=("embed",))
def genome(scene: Scene) -> None:
    scene.adata.var_names = [f"GRCh38_{name}" for name in scene.adata.var_names]


@ROWS.same("some Ensembl ids among symbols", on=("embed",))
def mixed(scene: Scene) -> None:
    scene.adata.var_names = [*ensembl_ids(scene)[:60], *scene.adata.var_names[60:]]


@ROWS.same("spaces around names", "they are ignored", on=("embed",))
def spaces(scene: Scene) -> None:
    scene.adata.var_names = [f" {name} " for name in scene.adata.var_names]


@ROWS.same("other spellings: `C1ORF162` for `C1orf162`, `HLA.A` for `HLA-A`", on=("embed",))
def spellings(scene: Scene) -> None:
    scene.adata.var_names = scene.adata.var_names.str.upper()


@ROWS.same(
    "former or alternative symbols (`ATP5B` for `ATP5F1B`)",
    "understood; a current symbol wins over a former one, and that over another spelling",
    on=("embed",),
)
def former(scene: Scene) -> None:
    current = {"ATP5B": "ATP5F1B", "SEPT7": "SEPTIN7", "AMICA1": "JAML", "TCEB2": "ELOB"}
    scene.adata.var_names = [current.get(name, name) for name in scene.adata.var_names]


@ROWS.same("genes in another order", "same values", on=("embed",))
def order(scene: Scene) -> None:
    scene.adata = scene.adata[:, ::-1].copy()


@ROWS.same("genes that the model does not know", "they keep their values; `.var['sct_imputed']` is `False`")
def unknown_genes(scene: Scene) -> None:
    add_columns(scene, ["novel-1A", "LINC-unheard-of", "my transgene"])


@ROWS.same(
    "several columns for one gene",
    "the better name wins (an id, then a current symbol), then the larger total; `pp.check` names it and the others",
    on=("embed",),
)
def duplicates(scene: Scene) -> None:
    add_columns(scene, ["LYZ-1"], 1)


@ROWS.same("an antibody with the symbol of a gene, among Ensembl ids", "the id wins", on=("embed",))
def symbols_of_ids(scene: Scene) -> None:
    scene.adata.var_names = ensembl_ids(scene)
    add_columns(scene, ["LYZ", "CD79A"], 300)


@ROWS.same("symbols in another column of `.var`", "read with `gene_names=`")
def other_column(scene: Scene) -> None:
    scene.adata.var["symbol"] = scene.adata.var_names.to_numpy()
    scene.adata.var_names = [f"gene {number}" for number in range(scene.adata.n_vars)]
    scene.arguments["gene_names"] = "symbol"


@ROWS.refused(
    "names that the model does not know, and another column of `.var` with known ones",
    "names the column",
    ValueError,
    r"adata\.var_names",
    "Only 0 of 160 names",
    "use gene_names='symbol'",
    on=EVERYWHERE,
)
def better_column(scene: Scene) -> None:
    other_column(scene)
    del scene.arguments["gene_names"]


@ROWS.refused(
    "`gene_names` is not a column of `.var`",
    "lists the columns",
    KeyError,
    "gene_names='symbols'",
    "there are: 'symbol'",
    "None uses var_names",
)
def no_such_column(scene: Scene) -> None:
    scene.adata.var["symbol"] = scene.adata.var_names.to_numpy()
    scene.arguments["gene_names"] = "symbols"


@ROWS.refused(
    "numbers as gene names",
    "human gene symbols or Ensembl ids are needed",
    ValueError,
    r"adata\.var_names",
    "Only 0 of 160 names .*'0', '1', '2'",
    "Human gene symbols or Ensembl gene ids",
)
def numbers(scene: Scene) -> None:
    scene.adata.var_names = [str(number) for number in range(scene.adata.n_vars)]


@ROWS.refused(
    "fewer than 50 known genes",
    "at least 50 are needed",
    ValueError,
    r"adata\.var_names",
    "Only 40 of 40 names",
    "at least 50 are needed",
)
def few_genes(scene: Scene) -> None:
    scene.adata = scene.adata[:, :40].copy()


@ROWS.refused(
    "mouse genes (`Lyz`, `Cd79a`), or human ones in lower case",
    "map them to human orthologues first, or `adata.var_names.str.upper()`",
    ValueError,
    r"adata\.var_names",
    "In upper case .* names would match, so these look like genes of mouse",
    r"map them to human orthologues first .*\.str\.upper\(\)",
    on=EVERYWHERE,
)
def mouse(scene: Scene) -> None:
    scene.adata.var_names = [name.capitalize() for name in scene.adata.var_names]


@ROWS.refused(
    "Ensembl ids of mouse genes",
    "map them to human orthologues first",
    ValueError,
    r"adata\.var_names",
    r"mouse Ensembl ids \(ENSMUSG\.\.\.\)",
    "map them to human orthologues first",
)
def mouse_ids(scene: Scene) -> None:
    scene.adata.var_names = [f"ENSMUSG{number:011d}" for number in range(scene.adata.n_vars)]


@ROWS.refused(
    "a requested gene that neither the object nor the model knows",
    "suggests a similar name",
    KeyError,
    "genes",
    r"does not know \['LYZZ'\]",
    r"give symbols or Ensembl ids of human genes\. Did you mean \['LYZ'\]",
    on=("impute",),
)
def no_such_gene(scene: Scene) -> None:
    scene.arguments["genes"] = ["LYZZ", "CD2"]


@ROWS.refused(
    "an empty list of genes",
    "",
    ValueError,
    "genes",
    "is empty",
    "give at least one gene, or None for all",
    on=("impute",),
)
def no_genes_requested(scene: Scene) -> None:
    scene.arguments["genes"] = []


@ROWS.warns(
    "a requested gene that the model does not know",
    "it keeps its values",
    r"genes: \['my transgene'\] keep their values",
    on=("impute",),
    in_report=False,
)
def unknown_requested(scene: Scene) -> None:
    add_columns(scene, ["my transgene"])
    scene.arguments["genes"] = ["LYZ", "my transgene"]


def _some_genes(scene: Scene) -> None:
    scene.arguments["genes"] = ["LYZ", "NKG7", "CD79A"]


@ROWS.same("requested genes by symbol, Ensembl id or former symbol", than=_some_genes, on=("impute",))
def requested_by_id(scene: Scene) -> None:
    found = dict(zip(scene.adata.var_names, ensembl_ids(scene), strict=True))
    scene.arguments["genes"] = ["LYZ", found["NKG7"], f"{found['CD79A']}.5"]
