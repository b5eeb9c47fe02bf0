"""Annotate labelled cells: from other studies and donors, from half of the same data set, from markers.

    python benchmarks/annotation.py

measures what `scanpy_sct.evaluate.annotation` measures on the tasks below, writes results/annotation.csv and prints
one table per metric. CellTypist and decoupler take part where they are installed: pip install -r
benchmarks/requirements.txt.

A calibration error is never 0: that of perfect probabilities would be .05 on the heart (462 spots) and .03 on her2st
(932). Patients of her2st differ by more (accuracy .2 to .9), so that no calibration on some holds for each other one.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import methods  # noqa: F401 registers the methods of other packages
import numpy as np
import pandas as pd
from common import HERE, as_markdown, cached, circumstances, default_data, hash_of_code, version, without_copies

import scanpy_sct as sct
from scanpy_sct.evaluate.annotation import annotation

SORTED_BLOOD = ("pbmc_facs_zheng", "pbmc_sorted_14k", "pbmc_sorted_mudan", "pbmc_sorted_zheng500")
# Common names of sorted cells and of the clusters of pbmc3k. Sorting does not separate naive from memory cells the
# way clustering does, so these are joined; FCGR3A+ monocytes are monocytes. DC and platelets were never sorted.
COMMON_NAMES = {
    "CD19+ B": "B",
    "CD34+": "CD34+",
    "CD56+ NK": "NK",
    "CD8+ Cytotoxic T": "CD8 T",
    "CD8+/CD45RA+ Naive Cytotoxic": "CD8 T",
    "CD4+ T Helper": "CD4 T",
    "CD4+/CD45RO+ Memory": "CD4 T",
    "CD4+/CD25 T Reg": "CD4 T",
    "CD4+/CD45RA+/CD25- Naive T": "CD4 T",
    "CD14+ Monocyte": "Monocyte",
    "Naive CD4 T": "CD4 T",
    "Memory CD4 T": "CD4 T",
    "CD14+ Mono": "Monocyte",
    "FCGR3A+ Mono": "Monocyte",
}
MARKERS = {
    "T": ["CD3D", "CD3E", "CD3G", "TRAC", "IL7R"],
    "B": ["CD79A", "CD79B", "MS4A1", "CD19"],
    "NK": ["NKG7", "GNLY", "KLRD1", "KLRF1", "NCAM1"],
    "Monocyte": ["LYZ", "CD14", "FCGR3A", "S100A8", "MS4A7"],
    "DC": ["FCER1A", "CLEC10A", "CD1C"],
    "Platelet": ["PPBP", "PF4", "GNG11"],
}
MARKER_NAMES = {"CD4 T": "T", "CD8 T": "T"}
PANGLAO_NAMES = {
    "T cells": "T",
    "B cells": "B",
    "NK cells": "NK",
    "Monocytes": "Monocyte",
    "Dendritic cells": "DC",
    "Platelets": "Platelet",
}
# Labels of spots that nobody annotated, that could not be annotated, or that name no region.
NO_LABEL = ("nan", "undetermined", "unlabelled", "whole heart")
N_MARKER_CELLS = 1000
MIN_CELLS = 6
BY_REFERENCE = ("sct", "logistic_regression", "knn", "celltypist")
# The last one reads coordinates, as `sct` does where they help.
ON_TISSUE = (*BY_REFERENCE, "logistic_regression_on_tissue")
BY_MARKERS = ("sct_markers", "ulm")
# CellTypist is not trained once more for every type that is left out.
LEFT_OUT_BY = ("sct", "logistic_regression", "knn")
NEEDS = {"celltypist": "celltypist", "ulm": "decoupler"}
# Code and packages on which the numbers depend: a change to them invalidates the cache.
TASK_CODE = ("read", "evaluate/_arguments.py", "evaluate/annotation.py")
TASK_CODE += tuple(f"evaluate/annotation_{part}.py" for part in ("methods", "metrics", "splits"))
MODEL_CODE = ("model", "checkpoints", "plan", "run", "embed", "impute", "annotate", "tl/_annotate.py")
OTHER_CODE = ("annotate/tissue.py", *(HERE / "methods" / f"{name}.py" for name in ("celltypist", "on_tissue", "ulm")))
PACKAGES = ("celltypist", "decoupler")
SHOWN = {
    "accuracy": "max",
    "macro_f1": "max",
    "calibration_error": "min",
    "accuracy_at_75": "max",
    "unknown_auroc": "max",
}


class Task(NamedTuple):
    """Cells to annotate, and how."""

    read: Callable[[Path], dict[str, object]]
    """From the folder of the data to arguments of `evaluate.annotation`."""
    methods: tuple[str, ...] = BY_REFERENCE
    n_seeds: int = 1
    leave_one_type_out: bool = False


def sorted_to_pbmc3k(data: Path) -> dict[str, object]:
    query = ad.read_h5ad(data / "dev" / "pbmc3k.h5ad")
    query.obs["study"] = "pbmc3k"
    query.obs["name"] = common(query.obs["cell_type"])
    return {"adata": query, "reference": sorted_blood(data), "donor_key": "study"}


def sorted_studies(data: Path) -> dict[str, object]:
    return {"adata": sorted_blood(data), "donor_key": "study"}


def sorted_blood(data: Path) -> ad.AnnData:
    """Four studies of sorted cells, with common names in `.obs["name"]`."""
    sets = {name: ad.read_h5ad(data / "train" / f"{name}.h5ad") for name in SORTED_BLOOD}
    joined = ad.concat(sets, label="study", index_unique="-")
    joined.obs["name"] = common(joined.obs["cell_type"])
    return joined


def regions(file: str, reference: str, donor_key: str) -> Callable[[Path], dict[str, object]]:
    """Make a reader of spots whose region is to be annotated, and of those with known regions."""

    def read(data: Path) -> dict[str, object]:
        adata, known = (labelled(data / each, "region") for each in (file, reference))
        return {"adata": adata, "reference": known, "donor_key": donor_key}

    return read


def patients(data: Path) -> dict[str, object]:
    """All annotated sections of breast tumours, one of each patient."""
    return {"adata": ad.concat([labelled(data / file, "region") for file in TUMOURS]), "donor_key": "patient"}


def halves(file: str, key: str) -> Callable[[Path], dict[str, object]]:
    return lambda data: {"adata": labelled(data / file, key)}


def markers(of: Callable[[Path], object]) -> Callable[[Path], dict[str, object]]:
    """Make a reader of some cells of pbmc3k, and of markers of their types."""

    def read(data: Path) -> dict[str, object]:
        query = sorted_to_pbmc3k(data)["adata"]
        query = query[np.random.default_rng(0).permutation(query.n_obs)[:N_MARKER_CELLS]].copy()
        query.obs["name"] = query.obs["name"].replace(MARKER_NAMES)
        return {"adata": query, "markers": of(data)}

    return read


def panglaodb(data: Path) -> pd.DataFrame:
    """Human markers of the types of pbmc3k."""
    table = pd.read_csv(data / "panglaodb_markers.csv.gz")
    table = table[table["cell.type"].isin(PANGLAO_NAMES)]
    return table.assign(**{"cell.type": table["cell.type"].map(PANGLAO_NAMES)})


def labelled(file: Path, key: str) -> ad.AnnData:
    """Read the cells of a file that have a label which is not too rare, in `.obs["name"]`."""
    adata = without_copies(ad.read_h5ad(file))
    names = adata.obs[key].astype(str)
    adata.obs["name"] = names
    return adata[~names.isin(NO_LABEL) & (names.map(names.value_counts()) >= MIN_CELLS)].copy()


def common(labels: pd.Series) -> np.ndarray:
    return labels.astype(str).map(lambda name: COMMON_NAMES.get(name, name)).to_numpy()


HEARTS = ("dev/heart_dev_ST_CN73.h5ad", "train/heart_dev_ST_CN74.h5ad")
TUMOURS = ("dev/her2st_breast_heldout.h5ad", "train/her2st_breast_train.h5ad")
BREAST = "dev/breast_wu_CID4465.h5ad"
TASKS = {
    "sorted blood -> pbmc3k": Task(sorted_to_pbmc3k, leave_one_type_out=True),
    "sorted blood, other studies": Task(sorted_studies, leave_one_type_out=True),
    "heart CN74 -> CN73": Task(regions(*HEARTS, "sample"), ON_TISSUE, leave_one_type_out=True),
    "heart CN73 -> CN74": Task(regions(*HEARTS[::-1], "sample"), ON_TISSUE),
    "her2st A-F -> G, H": Task(regions(*TUMOURS, "patient"), ON_TISSUE),
    "her2st, other patients": Task(patients, ON_TISSUE),
    "pbmc3k, half -> half": Task(halves("dev/pbmc3k.h5ad", "cell_type"), n_seeds=3, leave_one_type_out=True),
    "breast, half -> half": Task(halves(BREAST, "cell_type"), n_seeds=3, leave_one_type_out=True),
    "breast, fine, half -> half": Task(halves(BREAST, "cell_type_minor"), n_seeds=3, leave_one_type_out=True),
    "markers, pbmc3k": Task(markers(lambda data: MARKERS), BY_MARKERS),
    "PanglaoDB, pbmc3k": Task(markers(panglaodb), BY_MARKERS),
}


def main() -> None:
    options = parse()
    checkpoint = sct.load_model(options.model)
    tables = []
    for name in options.tasks:
        for method in TASKS[name].methods:
            if method in NEEDS and find_spec(NEEDS[method]) is None:
                print(f"{name}: left out {method}, which is not installed")
                continue
            tables += [run(name, method, seed, options, checkpoint) for seed in range(TASKS[name].n_seeds)]
    results = pd.concat(tables, ignore_index=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(options.output, index=False)
    print("\n\n".join(tables_of(results)))
    print(f"Written to {options.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="folder with train/ and dev/ (%(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "annotation.csv")
    parser.add_argument("--fresh", action="store_true", help="compute again what is in the cache")
    return parser.parse_args()


def run(
    name: str, method: str, seed: int, options: argparse.Namespace, checkpoint: sct.checkpoints.Checkpoint
) -> pd.DataFrame:
    """Results of one method on one task, from the cache where nothing has changed."""
    is_model = method.startswith("sct")
    depends_on = {
        "task": [name, method, seed, NO_LABEL, MIN_CELLS, N_MARKER_CELLS, COMMON_NAMES, MARKERS, PANGLAO_NAMES],
        "script": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "code": hash_of_code(*TASK_CODE, *(MODEL_CODE if is_model else OTHER_CODE)),
        "weights": checkpoint.sha256 if is_model else "",
        "packages": [version(package) for package in PACKAGES],
    }
    label = f"annotation-{'_'.join(name.replace(',', '').replace('->', 'to').split())}-{method}-{seed}"
    return cached(label, depends_on, lambda: measure(name, method, seed, options, checkpoint), options.fresh)


def measure(
    name: str, method: str, seed: int, options: argparse.Namespace, checkpoint: sct.checkpoints.Checkpoint
) -> pd.DataFrame:
    task, is_model = TASKS[name], method.startswith("sct")
    table = annotation(
        labels_key="name",
        methods=method,
        model=checkpoint if is_model else None,
        # Types are left out of one split only: the others differ by the seed alone.
        leave_one_type_out=task.leave_one_type_out and method in LEFT_OUT_BY and seed == 0,
        rng=seed,
        **task.read(options.data),
    )
    table.insert(0, "task", name)
    table = table.assign(seed=seed, **circumstances())
    more = [package for package in PACKAGES if f"{package}=" not in table["versions"][0]]
    table["versions"] += "".join(f" {package}={version(package)}" for package in more)
    return table.assign(model=checkpoint.name if is_model else "", weights=checkpoint.sha256 if is_model else "")


def tables_of(results: pd.DataFrame) -> list[str]:
    """Write a table per metric, methods by tasks, means over seeds; `unknown_auroc` is the mean over types left out."""
    whole = ~results["split"].str.startswith("without ")
    whole &= (results["metric"] != "unknown_auroc") | (results["split"] == "leave one type out")
    parts = []
    for metric, best in SHOWN.items():
        rows = results[whole & (results["metric"] == metric)]
        if len(rows):
            table = rows.pivot_table(index="method", columns="task", values="value", aggfunc="mean", sort=False)
            parts.append(as_markdown(table, metric, best))
    return parts


if __name__ == "__main__":
    main()
