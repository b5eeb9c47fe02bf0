"""Compare embeddings by labels, batches and tissue domains: `X_sct`, PCA and scVI.

    python benchmarks/embedding.py

measures what `scanpy_sct.evaluate.embedding` measures on the data sets below, writes results/embedding.csv and prints
one table per data set. Needs scvi-tools and scib-metrics: pip install -r benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import methods  # noqa: F401 registers the methods of other packages
import numpy as np
import pandas as pd
from common import HERE, SAMPLE_KEY, cached, circumstances, default_data, hash_of_code, version, without_copies

import scanpy_sct as sct

# Labels of cells that nobody annotated, or could not.
NO_LABEL = ("nan", "undetermined", "unlabelled")
METHODS = ("sct", "pca", "pca_unscaled", "scvi")
# On a CPU scVI takes long on more than a thousand cells.
SCVI_ON = ("heart CN73", "her2st G2", "her2st H1")
# Code and packages on which the numbers depend: a change to them makes what is in the cache worthless.
TASK_CODE = ("read", "evaluate/_arguments.py", "evaluate/embedding.py")
TASK_CODE += ("evaluate/embedding_methods.py", "evaluate/embedding_metrics.py")
TASK_CODE += (HERE / "methods" / "scib.py",)
MODEL_CODE = ("model", "checkpoints", "plan", "run", "embed")
METHOD_CODE = {"sct": MODEL_CODE, "scvi": (HERE / "methods" / "scvi.py",)}
PACKAGES = ("scanpy", "scib-metrics", "scvi-tools")


class DataSet(NamedTuple):
    """Cells, and what to compare their vectors with."""

    files: str | tuple[str, ...]
    labels_key: str | None = None
    batch_key: str | None = None
    samples: tuple[str, ...] = ()  # empty: all


# No cell of dev/ was trained on; "blood chemistries" joins two files that were, without their types and batches.
# Batches are sections of one donor's organ: what differs between them is mostly technical, but never all of it.
DATA_SETS = {
    "pbmc3k": DataSet("dev/pbmc3k.h5ad", "cell_type"),
    "breast_wu": DataSet("dev/breast_wu_CID4465.h5ad", "cell_type"),
    "heart CN73": DataSet("dev/heart_dev_ST_CN73.h5ad", "region", SAMPLE_KEY),
    "her2st G2": DataSet("dev/her2st_breast_heldout.h5ad", "region", samples=("G2",)),
    "her2st H1": DataSet("dev/her2st_breast_heldout.h5ad", "region", samples=("H1",)),
    "her2st G1-G3": DataSet("dev/her2st_breast_heldout.h5ad", None, SAMPLE_KEY, ("G1", "G2", "G3")),
    "her2st H1-H3": DataSet("dev/her2st_breast_heldout.h5ad", None, SAMPLE_KEY, ("H1", "H2", "H3")),
    "blood chemistries": DataSet(
        ("dev/pbmc3k.h5ad", "train/pbmc_1k_v2.h5ad", "train/pbmc_5prime_1k.h5ad"), "cell_type", SAMPLE_KEY
    ),
}


def main() -> None:
    options = parse()
    checkpoint = sct.load_model(options.model)
    tables = [
        run(name, method, options, checkpoint)
        for name in options.data_sets
        for method in options.methods or METHODS
        if options.methods or method != "scvi" or name in SCVI_ON
    ]
    results = pd.concat(tables, ignore_index=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(options.output, index=False)
    print(as_markdown(results))
    print(f"Written to {options.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="folder that holds dev/")
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), metavar="NAME")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        metavar="NAME",
        help=f"default: {', '.join(METHODS)}, the last on {', '.join(SCVI_ON)} only",
    )
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "embedding.csv")
    parser.add_argument("--fresh", action="store_true", help="compute again what is in the cache")
    return parser.parse_args()


def run(name: str, method: str, options: argparse.Namespace, checkpoint: sct.checkpoints.Checkpoint) -> pd.DataFrame:
    """Results of one method on one data set, from the cache where nothing has changed."""
    spec = DATA_SETS[name]
    depends_on = {
        "data": hashlib.sha256(b"".join(file.read_bytes() for file in paths(options.data, spec))).hexdigest(),
        "spec": [*spec, NO_LABEL],
        "method": method,
        "seed": options.seed,
        "code": hash_of_code(*TASK_CODE, *METHOD_CODE.get(method, ())),
        "weights": checkpoint.sha256 if method.startswith("sct") else "",
        "packages": [version(package) for package in PACKAGES],
    }
    label = f"embedding-{name.replace(' ', '_')}-{method}"
    return cached(label, depends_on, lambda: measure(name, method, options, checkpoint), options.fresh)


def measure(
    name: str, method: str, options: argparse.Namespace, checkpoint: sct.checkpoints.Checkpoint
) -> pd.DataFrame:
    spec = DATA_SETS[name]
    keys = {"labels_key": spec.labels_key, "batch_key": spec.batch_key, "library_key": SAMPLE_KEY}
    adata = read(options.data, spec)
    table = sct.evaluate.embedding(adata, methods=method, model=checkpoint, rng=options.seed, **keys)
    table.insert(0, "data_set", name)
    table = table.assign(seed=options.seed, **circumstances())
    more = [package for package in PACKAGES if f"{package}=" not in table["versions"][0]]
    table["versions"] += "".join(f" {package}={version(package)}" for package in more)
    is_model = method.startswith("sct")
    return table.assign(model=checkpoint.name if is_model else "", weights=checkpoint.sha256 if is_model else "")


def paths(folder: Path, spec: DataSet) -> list[Path]:
    return [folder / file for file in ([spec.files] if isinstance(spec.files, str) else spec.files)]


def read(folder: Path, spec: DataSet) -> ad.AnnData:
    """Read the samples of a data set, with NaN where a cell has no label."""
    parts = [without_copies(ad.read_h5ad(file)) for file in paths(folder, spec)]
    for part in parts:
        if spec.labels_key and spec.labels_key not in part.obs:
            part.obs[spec.labels_key] = NO_LABEL[0]
    adata = ad.concat(parts, join="inner", index_unique="-") if len(parts) > 1 else parts[0]
    if spec.samples:
        adata = adata[adata.obs[SAMPLE_KEY].isin(spec.samples)].copy()
    if spec.labels_key:
        blank_unlabelled(adata, spec.labels_key)
    return adata


def blank_unlabelled(adata: ad.AnnData, labels_key: str) -> None:
    """Return labels, NaN for the labels that stand for none."""
    labels = adata.obs[labels_key].astype(str)
    adata.obs[labels_key] = labels.where(~labels.isin(NO_LABEL), np.nan)


def as_markdown(results: pd.DataFrame) -> str:
    """Write one table per data set, metrics by methods."""
    parts = []
    for name, rows in results.groupby("data_set", sort=False):
        table = rows.pivot(index="metric", columns="method", values="value")
        table = table.loc[rows["metric"].unique(), rows["method"].unique()]
        lines = [f"| {name} | " + " | ".join(table.columns) + " |", "|---" * (table.shape[1] + 1) + "|"]
        lines += [
            f"| {metric} | " + " | ".join(map("{:.3f}".format, values)) + " |" for metric, *values in table.itertuples()
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
