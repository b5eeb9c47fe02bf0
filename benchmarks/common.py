"""Data sets, versions and the cache of results of all benchmarks."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import scanpy_sct as sct
from scanpy_sct.read.copies import copies

HERE = Path(__file__).resolve().parent
SOURCE = Path(sct.__file__).parent
SAMPLE_KEY = "sample"
# File, the sample to take from it (None: all), and the column of cell types or regions.
DATA_SETS = {
    "her2st G, H": ("dev/her2st_breast_heldout.h5ad", None, "region"),
    "pbmc3k": ("dev/pbmc3k.h5ad", None, "cell_type"),
    "breast_wu": ("dev/breast_wu_CID4465.h5ad", None, "cell_type"),
    "heart CN73": ("dev/heart_dev_ST_CN73.h5ad", None, "region"),
    "her2st G2": ("dev/her2st_breast_heldout.h5ad", "G2", "region"),
    "her2st H1": ("dev/her2st_breast_heldout.h5ad", "H1", "region"),
}
PACKAGES = ("scanpy_sct", "anndata", "numpy", "scipy", "scikit-learn", "torch", "magic-impute", "scvi-tools")


def default_data() -> Path:
    """Folder of the real data sets."""
    return Path(os.environ.get("SCANPY_SCT_DATA_DIR") or HERE.parents[1] / "shared" / "data")


def read(name: str, data: Path) -> ad.AnnData:
    """Read one of `DATA_SETS`, each cell once: masked values of a copy could be read off the original."""
    file, sample, _ = DATA_SETS[name]
    adata = ad.read_h5ad(data / file)
    if sample is not None:
        adata = adata[adata.obs[SAMPLE_KEY] == sample].copy()
    return without_copies(adata)


def without_copies(adata: ad.AnnData) -> ad.AnnData:
    """Keep one of the cells with exactly the same values, of which the heart sections have some."""
    found = copies(sparse.csr_matrix(adata.X))
    return adata[np.delete(np.arange(adata.n_obs), found[:, 0])].copy() if len(found) else adata


def hash_of_data(name: str, data: Path) -> str:
    file, sample, _ = DATA_SETS[name]
    return hashlib.sha256((data / file).read_bytes() + f"{sample}, each cell once".encode()).hexdigest()


def hash_of_code(*parts: str | Path) -> str:
    """Hash the statements of source files; comments and docstrings may change.

    Parts are folders and files, of the package unless the path is absolute. A missing one raises an error:
    under its new name the file would not be in the hash.
    """
    files = []
    for part in parts:
        found = [SOURCE / part] if (SOURCE / part).is_file() else list((SOURCE / part).rglob("*.py"))
        if not found:
            msg = f"There is no source file {SOURCE / part}; name what it was renamed to."
            raise FileNotFoundError(msg)
        files += found
    return hashlib.sha256("".join(_statements(file.read_text()) for file in sorted(files)).encode()).hexdigest()


def _statements(source: str) -> str:
    """Return code without comments, docstrings and line breaks of its author."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [child for child in node.body if not _is_text(child)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def cached(
    label: str, depends_on: dict[str, object], compute: Callable[[], pd.DataFrame] | None, fresh: bool
) -> pd.DataFrame | None:
    """Return what was computed before for the same `depends_on`, or compute and keep it; None without `compute`."""
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True, default=str).encode()).hexdigest()[:16]
    file = sct.settings.cache_dir / "benchmarks" / f"{label}-{key}.csv"
    if compute is None and not file.exists():
        print(f"Not in the cache: {label}")
        return None
    if compute is not None and (fresh or not file.exists()):
        print(f"{time.strftime('%H:%M:%S')} computing {label}", flush=True)
        table = compute()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        table.to_csv(partial, index=False)
        partial.replace(file)
    return pd.read_csv(file)


def circumstances() -> dict[str, str]:
    """When, where and with what the numbers were made."""
    versions = " ".join(f"{package}={version(package)}" for package in PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"date": time.strftime("%Y-%m-%d"), "machine": machine, "versions": versions}


def keep_for_machine(what: str, rows: list[dict[str, object]]) -> None:
    """Keep the results of one benchmark on this machine, with date and versions, in results/<what>.json."""
    file = HERE / "results" / f"{what}.json"
    here = circumstances()
    others = [each for each in _kept(file) if each["machine"] != here["machine"]]
    text = json.dumps([*others, {**here, "rows": rows}], indent=1)
    file.write_text(f"{text}\n")


def kept_for_machine(what: str) -> list[dict[str, object]]:
    """Return what was kept for this machine."""
    machine = circumstances()["machine"]
    return next((each["rows"] for each in _kept(HERE / "results" / f"{what}.json") if each["machine"] == machine), [])


def _kept(file: Path) -> list[dict[str, object]]:
    return json.loads(file.read_text()) if file.exists() else []


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def as_markdown(table: pd.DataFrame, title: str, best: str = "max", digits: int = 3) -> str:
    """Write methods by data sets as a table, the best of each column in bold; a dash where nothing was measured."""
    chosen = table.min() if best == "min" else table.max()
    text = table.map(lambda value: "-" if pd.isna(value) else f"{value:.{digits}f}")
    text = text.where(table.round(digits) != chosen.round(digits), text.map(lambda value: f"**{value}**"))
    lines = [f"| {title} | " + " | ".join(map(str, text.columns)) + " |", "|---" * (text.shape[1] + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in zip(text.index, text.to_numpy(), strict=True)]
    return "\n".join(lines)
