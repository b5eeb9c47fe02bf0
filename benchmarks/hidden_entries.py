"""Hide 15 % of the measured entries of four data sets, and measure how well each method predicts them.

    python benchmarks/hidden_entries.py

prints the tables of the documentation and writes results/hidden_entries.csv. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import anndata as ad
import pandas as pd

import scanpy_sct as sct
from scanpy_sct.evaluate.baselines import BASELINES
from scanpy_sct.evaluate.imputation import METHODS, SCT_PATHS, imputation
from scanpy_sct.read.genes import released_vocabulary

HERE = Path(__file__).resolve().parent
SOURCE = Path(sct.__file__).parent
DATA_SETS = {
    "her2st G, H": "dev/her2st_breast_heldout.h5ad",
    "pbmc3k": "dev/pbmc3k.h5ad",
    "breast_wu": "dev/breast_wu_CID4465.h5ad",
    "heart CN73": "dev/heart_dev_ST_CN73.h5ad",
}
SAMPLE_KEY = "sample"
PACKAGES = ("scanpy_sct", "anndata", "numpy", "scipy", "scikit-learn", "torch")
# Code on which the numbers depend: a change to it makes what is in the cache worthless.
TASK_CODE = ("read", "plan", "evaluate/hidden.py", "evaluate/imputation.py", "evaluate/metrics.py")
METHOD_CODE = dict.fromkeys(SCT_PATHS, ("model", "checkpoints", "predict"))
BASELINE_CODE = ("evaluate/baselines.py",)
# Title of each table.
METRICS = {
    "average_precision": "Average precision of 'is this entry expressed?' (higher is better)",
    "bin_mcc": "Matthews correlation of the bins (higher is better)",
    "gene_pearson": "Correlation of log values within a gene, mean over genes (higher is better)",
    "calibration_error": "Expected calibration error (lower is better)",
}


def main() -> None:
    options = parse()
    checkpoint = None if options.model == "none" else sct.load_model(options.model)
    tables = [run(name, options, checkpoint) for name in options.data_sets]
    results = pd.concat(tables, ignore_index=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(options.output, index=False)
    print(as_markdown(results))
    print(f"Written to {options.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=default_data(), help="folder that holds dev/ (default: %(default)s)"
    )
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--model", default="sct-mini", help="name, folder or hub id; 'none' for the baselines alone")
    parser.add_argument("--fraction", type=float, default=0.15, help="share of the entries to hide")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "hidden_entries.csv")
    parser.add_argument("--fresh", action="store_true", help="compute again what is in the cache")
    options = parser.parse_args()
    if options.methods is None:
        options.methods = [*BASELINES, *(["sct"] if options.model != "none" else [])]
    return options


def default_data() -> Path:
    """Folder of the real data sets."""
    return Path(os.environ.get("SCANPY_SCT_DATA_DIR") or HERE.parents[1] / "shared" / "data")


def run(name: str, options: argparse.Namespace, checkpoint: sct.checkpoints.Checkpoint | None) -> pd.DataFrame:
    """Results of all methods on one data set; only what is not in the cache is computed."""
    path = options.data / DATA_SETS[name]
    files = {method: cache_file(path, method, options, checkpoint) for method in options.methods}
    missing = [method for method, file in files.items() if options.fresh or not file.exists()]
    if missing:
        print(f"{name}: computing {', '.join(missing)}", flush=True)
        arguments = {"library_key": SAMPLE_KEY, "fraction": options.fraction, "rng": options.seed}
        table = imputation(ad.read_h5ad(path), methods=missing, model=checkpoint, **arguments)
        table = table.assign(data_set=name, fraction=options.fraction, seed=options.seed, **circumstances())
        for method, rows in table.groupby("method"):
            is_model = method in SCT_PATHS
            rows = rows.assign(model=checkpoint.name if is_model else "", weights=checkpoint.sha256 if is_model else "")
            files[method].parent.mkdir(parents=True, exist_ok=True)
            rows.to_csv(files[method], index=False)
    return pd.concat([pd.read_csv(file) for file in files.values()], ignore_index=True)


def cache_file(
    path: Path, method: str, options: argparse.Namespace, checkpoint: sct.checkpoints.Checkpoint | None
) -> Path:
    """Where the result is kept; the name changes with everything that the numbers depend on."""
    vocabulary = released_vocabulary() if checkpoint is None else checkpoint.genes
    depends_on = {
        "data": hashlib.sha256(path.read_bytes()).hexdigest(),
        "method": method,
        "fraction": options.fraction,
        "seed": options.seed,
        "genes": hashlib.sha256("\n".join(vocabulary).encode()).hexdigest(),
        "code": hash_of_code(*TASK_CODE, *METHOD_CODE.get(method, BASELINE_CODE)),
        "weights": checkpoint.sha256 if method in SCT_PATHS else "",
    }
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    return sct.settings.cache_dir / "benchmarks" / f"hidden_entries-{path.stem}-{method}-{key}.csv"


def hash_of_code(*parts: str) -> str:
    """Hash of the source files in folders, and of single files, of the package."""
    files = [
        file for part in parts for file in ([SOURCE / part] if part.endswith(".py") else (SOURCE / part).rglob("*.py"))
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def circumstances() -> dict[str, str]:
    """When, where and with what the numbers were made."""
    versions = " ".join(f"{package}={version(package)}" for package in PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"date": time.strftime("%Y-%m-%d"), "machine": machine, "versions": versions}


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def as_markdown(results: pd.DataFrame) -> str:
    """One table a metric, methods by data sets, the best of each data set in bold."""
    parts = []
    for metric, title in METRICS.items():
        rows = results[results["metric"] == metric]
        table = rows.pivot(index="method", columns="data_set", values="value")
        table = table.loc[rows["method"].unique(), rows["data_set"].unique()]
        best = table.min() if metric == "calibration_error" else table.max()
        text = table.map("{:.3f}".format).where(table != best, table.map("**{:.3f}**".format))
        lines = [f"| {title} | " + " | ".join(text.columns) + " |", "|---" * (text.shape[1] + 1) + "|"]
        lines += [
            f"| {method} | " + " | ".join(values) + " |"
            for method, values in zip(text.index, text.to_numpy(), strict=True)
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
