"""A label head on the embedding, fitted to sorted blood: on blood of another study, and on other tissues.

    python benchmarks/label_head.py

fits label heads to four sets of sorted blood cells and annotates pbmc3k with them; logistic regression and nearest
neighbours on 50 principal components, CellTypist (where it is installed) and `tl.annotate(reference=...)` learn from
the same cells. Then the head annotates all other data sets. Writes results/label_head.csv and prints two tables. A head
is worth shipping with a checkpoint only if its macro-F1 is at least that of the logistic regression and of CellTypist.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import methods  # noqa: F401 registers the methods of other packages
import numpy as np
import pandas as pd
from annotation import BY_REFERENCE, COMMON_NAMES, NEEDS, SORTED_BLOOD, sorted_to_pbmc3k
from common import HERE, as_markdown, circumstances, default_data

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.evaluate.annotation import annotation

METRICS = ("accuracy", "macro_f1", "calibration_error")
ROWS = 3000
"""Rows that are read of each other data set."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="folder with train/ and dev/ (%(default)s)")
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "label_head.csv")
    options = parser.parse_args()
    checkpoint = sct.load_model(options.model)
    coarse = with_head(checkpoint, options.data, COMMON_NAMES)
    tables = [accuracy_of_head(options.data, coarse), *accuracy_of_others(options.data, checkpoint)]
    tables.append(outside_home(options.data, coarse))
    results = pd.concat(tables, ignore_index=True).assign(model=checkpoint.name, weights=checkpoint.sha256)
    results = results.assign(**circumstances())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(options.output, index=False)
    print("\n\n".join(tables_of(results)))


def with_head(checkpoint: Checkpoint, data: Path, names: dict[str, str]) -> Checkpoint:
    """Fit a label head to the sorted cells; each file is a study."""
    cells = [ad.read_h5ad(data / "train" / f"{name}.h5ad") for name in SORTED_BLOOD]
    used = set(pd.concat([each.obs["cell_type"] for each in cells]).astype(str))
    names = {label: names[label] for label in used}
    return sct.train.fit_label_head(checkpoint, cells, "cell_type", names=names, device="cpu")


def accuracy_of_head(data: Path, checkpoint: Checkpoint) -> pd.DataFrame:
    query = sorted_to_pbmc3k(data)["adata"]
    table = annotation(query, "name", methods="sct_label_head", model=checkpoint, donor_key="study")
    return tidy(table, "pbmc3k")


def accuracy_of_others(data: Path, checkpoint: Checkpoint) -> list[pd.DataFrame]:
    tables = []
    for method in BY_REFERENCE:
        if method in NEEDS and find_spec(NEEDS[method]) is None:
            print(f"left out {method}, which is not installed")
            continue
        model = checkpoint if method == "sct" else None
        tables.append(
            tidy(annotation(labels_key="name", methods=method, model=model, **sorted_to_pbmc3k(data)), "pbmc3k")
        )
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
    shown = on_blood.pivot_table(index="method", columns="metric", values="value", sort=False)
    unknown = others.pivot_table(index="data_set", columns="metric", values="value", sort=False)
    # Both fractions describe the data, none is best.
    plain = as_markdown(unknown, "fraction of cells", digits=2).replace("**", "")
    return [as_markdown(shown[["macro_f1", "accuracy"]], "sorted blood -> pbmc3k"), plain]


if __name__ == "__main__":
    main()
