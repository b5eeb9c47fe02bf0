"""A label head fitted to sorted blood: on blood of another study, and on other tissues.

    python benchmarks/label_head.py

annotates pbmc3k with the label head of `sct-mini`, which was fitted to four sets of sorted blood cells, and with one
that reads the embedding of these cells instead; a model without a label head gets one of each kind.
Logistic regression and nearest neighbours on 50 principal components, CellTypist (where it is installed) and
`tl.annotate(reference=...)` learn from the same cells, and also annotate those cells of blood of other protocols whose
type their best known markers show (which favours methods that read few markers). Every study of sorted cells is left
out in turn. Then the head annotates all other data sets. Writes results/label_head.csv and prints the tables.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import methods  # noqa: F401 registers the methods of other packages
import numpy as np
import pandas as pd
import scanpy as sc
from annotation import BY_REFERENCE, COMMON_NAMES, NEEDS, SORTED_BLOOD, sorted_to_pbmc3k
from common import HERE, as_markdown, circumstances, default_data

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.evaluate.annotation import annotation

METRICS = ("accuracy", "macro_f1", "calibration_error")
ONTOLOGY = {
    "B": "B cell",
    "CD34+": "hematopoietic precursor cell",
    "NK": "natural killer cell",
    "CD8 T": "CD8-positive, alpha-beta T cell",
    "CD4 T": "CD4-positive, alpha-beta T cell",
    "Monocyte": "monocyte",
}
MARKERS = "CD3E CD3D CD3G CD4 CD8A CD8B LYZ CD14 FCGR3A MS4A1 CD79A NKG7 GNLY".split()
OTHER_BLOOD = ("pbmc_frozen_donorA", "pbmc_1k_v2", "pbmc_5prime_1k", "blood_hao_v3")
"""10x v1, v2, 5' and v3, without labels."""
ROWS = 3000
"""Rows that are read of each other data set."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="folder with train/ and dev/ (%(default)s)")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "label_head.csv")
    options = parser.parse_args()
    checkpoint = sct.load_model(options.model)
    studies = sorted_studies(options.data)
    by_embedding = fit_head(checkpoint, list(studies.values()), "embedding")
    if checkpoint.label_head is None:
        checkpoint = fit_head(checkpoint, list(studies.values()), "expression")
    reference = ad.concat(studies, label="study", index_unique="-")
    tables = []
    for name, query in queries(options.data).items():
        tables.append(accuracy(query, checkpoint, "sct_label_head", name))
        tables.append(accuracy(query, by_embedding, "sct_label_head_embedding", name))
        tables += accuracy_of_others(query, reference, checkpoint, name)
    tables += [*left_out_studies(studies, checkpoint), outside_home(options.data, checkpoint)]
    results = pd.concat(tables, ignore_index=True).assign(model=checkpoint.name, weights=checkpoint.sha256)
    results = results.assign(**circumstances())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(options.output, index=False)
    print("\n\n".join(tables_of(results)))


def queries(data: Path) -> dict[str, ad.AnnData]:
    """Read pbmc3k with its labels, and the cells of other blood that markers name."""
    found = {"pbmc3k": in_ontology(sorted_to_pbmc3k(data)["adata"])}
    for name in OTHER_BLOOD:
        cells = ad.read_h5ad(data / "train" / f"{name}.h5ad")
        cells.obs["name"] = named_by_markers(cells)
        cells.obs["study"] = name
        found[f"{name}, clear markers"] = in_ontology(cells[cells.obs["name"] != ""].copy())
    return found


def named_by_markers(adata: ad.AnnData) -> np.ndarray:
    """Return a type for cells that express the markers of one type and none of another, "" for all others."""
    cells = ad.AnnData(adata.X.copy(), var=pd.DataFrame(index=adata.var["gene_symbol"].astype(str)))
    cells.var_names_make_unique()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    level = {gene: np.asarray(cells[:, gene].X.todense()).ravel() for gene in MARKERS if gene in cells.var_names}
    level = {gene: level.get(gene, np.zeros(cells.n_obs)) for gene in MARKERS}
    of_t, of_cd8 = level["CD3E"] + level["CD3D"] + level["CD3G"], level["CD8A"] + level["CD8B"]
    is_t = (of_t > 1) & (level["LYZ"] < 2) & (level["MS4A1"] == 0)
    rules = {
        "Monocyte": (level["LYZ"] > 2) & (level["CD14"] + level["FCGR3A"] > 0) & (of_t + level["MS4A1"] == 0),
        "B": (level["MS4A1"] > 0) & (level["CD79A"] > 0) & (of_t == 0) & (level["LYZ"] < 1.5),
        "NK": (level["NKG7"] > 2) & (level["GNLY"] > 2) & (of_t + of_cd8 == 0),
        "CD4 T": is_t & (level["CD4"] > 0) & (of_cd8 == 0),
        "CD8 T": is_t & (level["CD8A"] > 0) & (level["CD8B"] > 0) & (level["CD4"] == 0),
    }
    return np.select(list(rules.values()), list(rules), default="")


def in_ontology(adata: ad.AnnData) -> ad.AnnData:
    adata.obs["name"] = adata.obs["name"].map(lambda name: ONTOLOGY.get(name, name))
    return adata


def sorted_studies(data: Path) -> dict[str, ad.AnnData]:
    """Read the sorted cells of each study, with names of the Cell Ontology in `.obs["name"]`."""
    studies = {}
    for name in SORTED_BLOOD:
        cells = ad.read_h5ad(data / "train" / f"{name}.h5ad")
        cells.obs["name"] = cells.obs["cell_type"].astype(str).map(COMMON_NAMES)
        studies[name] = in_ontology(cells)
    return studies


def fit_head(checkpoint: Checkpoint, studies: list[ad.AnnData], reads: str) -> Checkpoint:
    return sct.train.fit_label_head(checkpoint, studies, "name", reads=reads, device="cpu")


def accuracy(query: ad.AnnData, checkpoint: Checkpoint, method: str, data_set: str) -> pd.DataFrame:
    table = annotation(query, "name", methods="sct_label_head", model=checkpoint)
    return tidy(table, data_set).assign(method=method)


def left_out_studies(studies: dict[str, ad.AnnData], checkpoint: Checkpoint) -> list[pd.DataFrame]:
    """Annotate each study of sorted cells with heads that are fitted to the others."""
    tables = []
    for name, query in studies.items():
        others = [cells for other, cells in studies.items() if other != name]
        for method, reads in {"sct_label_head": "expression", "sct_label_head_embedding": "embedding"}.items():
            tables.append(accuracy(query, fit_head(checkpoint, others, reads), method, f"{name}, left out"))
    return tables


def accuracy_of_others(
    query: ad.AnnData, reference: ad.AnnData, checkpoint: Checkpoint, data_set: str
) -> list[pd.DataFrame]:
    tables = []
    for method in BY_REFERENCE:
        if method in NEEDS and find_spec(NEEDS[method]) is None:
            print(f"left out {method}, which is not installed")
            continue
        model = checkpoint if method == "sct" else None
        table = annotation(query, "name", reference=reference, methods=method, model=model, donor_key="study")
        tables.append(tidy(table, data_set))
    return tables


def tidy(table: pd.DataFrame, data_set: str) -> pd.DataFrame:
    rows = table[table["metric"].isin(METRICS)]
    return rows[["method", "metric", "value", "lower", "upper"]].assign(data_set=data_set)


def outside_home(data: Path, checkpoint: Checkpoint) -> pd.DataFrame:
    """Fraction of the cells of each data set that are unknown, or new, to the head."""
    rows = []
    for file in sorted([*(data / "dev").glob("*.h5ad"), *(data / "train").glob("*.h5ad")]):
        if file.stem in SORTED_BLOOD:
            continue
        adata = ad.read_h5ad(file)
        drawn = np.random.default_rng(0).permutation(adata.n_obs)[:ROWS]
        adata = sct.tl.annotate(adata[np.sort(drawn)].copy(), model=checkpoint, copy=True)
        values = {
            "unknown": (adata.obs["sct_label"] == "unknown").mean(),
            "new": (adata.obs["sct_label_novelty"] > 0.5).mean(),
        }
        rows += [{"data_set": file.stem, "metric": metric, "value": value} for metric, value in values.items()]
    return pd.DataFrame(rows).assign(method="sct_label_head")


def tables_of(results: pd.DataFrame) -> list[str]:
    on_blood = results[results["metric"].isin(METRICS)]
    others = results[~results["metric"].isin(METRICS)]
    shown = on_blood.pivot_table(index=["data_set", "method"], columns="metric", values="value", sort=False)
    tables = [
        as_markdown(shown.loc[data_set, ["macro_f1", "accuracy"]], f"sorted blood -> {data_set}")
        for data_set in on_blood["data_set"].unique()
    ]
    unknown = others.pivot_table(index="data_set", columns="metric", values="value", sort=False)
    # Both fractions describe the data, none is best.
    return [*tables, as_markdown(unknown, "fraction of cells", digits=2).replace("**", "")]


if __name__ == "__main__":
    main()
