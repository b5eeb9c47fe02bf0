"""Write the golden results of the shipped checkpoints: `python tests/shipped/make_golden.py [--only CASE ...]`.

Run it only where results are meant to change, and name the cases that may: all others keep what is in the files.
The cells come with scanpy; only results of the functions are kept, not the expression itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import scanpy_sct as sct

if TYPE_CHECKING:
    from anndata import AnnData

FOLDER = Path(__file__).resolve().parent / "golden"
CELL_STEP = 12
GENE_STEP = 4
UNMEASURED = ("CD14", "CD19", "CD68")
MARKERS = {
    "B": ["CD79A", "MS4A1", "CD19"],
    "Myeloid": ["LYZ", "CST3", "CD14"],
    "NK": ["NKG7", "GNLY"],
    "T": ["CD3D", "CD3E"],
}
VALUE_STEP = 2e-4
"""Values are kept as integer multiples of this, in half the space of float32."""

Results = Mapping[str, np.ndarray]


def cells() -> AnnData:
    """59 blood cells; the coordinates of their UMAP stand for those of a section."""
    adata = sct.datasets.pbmc68k()[::CELL_STEP].copy()
    adata.obsm["spatial"] = adata.obsm["X_umap"].astype(float)
    return adata


def impute(model: str) -> Results:
    """Results of the default imputation, with three genes that were not measured."""
    adata = cells()
    sct.tl.impute(adata, [*measured(adata, model), *UNMEASURED], model=model, store_bins=True)
    return {
        "values": as_integers(adata.layers["sct"]),
        "unmeasured": as_integers(adata.obsm["sct_unmeasured"].to_numpy()),
        "recovery": adata.var["sct_recovery"].to_numpy(dtype=np.float32),
        "network_fraction": adata.var["sct_network_fraction"].to_numpy(dtype=np.float32),
        "bins": adata.layers["sct_bins"][:, ::GENE_STEP],
    }


def impute_network(model: str) -> Results:
    """What the network alone predicts, in random bags."""
    adata = cells()
    sct.tl.impute(adata, model=model, calibrate=False, blend=False, bags="random")
    return {"values": as_integers(adata.layers["sct"][:, ::GENE_STEP])}


def denoise(model: str) -> Results:
    """Predictions combined with what was measured."""
    adata = cells()
    sct.tl.impute(adata, model=model, denoise=True)
    return {"values": as_integers(adata.layers["sct"][:, ::GENE_STEP])}


def embed(model: str) -> Results:
    """Vectors of the cells."""
    adata = cells()
    sct.tl.embed(adata, model=model)
    return {"vectors": adata.obsm["X_sct"].astype(np.float16)}


def markers(model: str) -> Results:
    """Labels from marker genes."""
    adata = cells()
    sct.tl.annotate(adata, markers=MARKERS, model=model)
    return annotation(adata)


CASES: dict[str, Callable[[str], Results]] = {
    case.__name__: case for case in (impute, impute_network, denoise, embed, markers)
}
MODELS = ("sct-mini",)


def measured(adata: AnnData, model: str) -> list[str]:
    """Genes of the data that the model knows."""
    from scanpy_sct.read.genes import match_genes

    return adata.var_names[match_genes(adata.var_names, sct.load_model(model).genes).columns].tolist()


def annotation(adata: AnnData) -> Results:
    """Labels, score and probabilities."""
    return {
        "labels": adata.obs["sct_label"].astype(str).to_numpy(dtype=np.str_),
        "score": adata.obs["sct_label_score"].to_numpy(dtype=np.float32),
        "names": np.asarray(adata.obsm["sct_label_probs"].columns, dtype=np.str_),
        "probabilities": as_integers(adata.obsm["sct_label_probs"].to_numpy()),
    }


def as_integers(values: np.ndarray) -> np.ndarray:
    """Round values from 0 to 13 to multiples of `VALUE_STEP`."""
    return np.round(np.asarray(values, dtype=np.float64) / VALUE_STEP).astype(np.uint16)


def as_values(golden: np.ndarray) -> np.ndarray:
    """Turn the integers of :func:`as_integers` into values."""
    return golden * VALUE_STEP


def read_golden(model: str) -> dict[str, dict[str, np.ndarray]]:
    """Golden results by case and field; empty if there are none."""
    path = FOLDER / f"{model}.npz"
    found: dict[str, dict[str, np.ndarray]] = {}
    if path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                case, _, field = name.partition(".")
                found.setdefault(case, {})[field] = archive[name]
    return found


def write_golden(model: str, only: list[str]) -> None:
    """Compute some cases of a model anew, and keep the others."""
    golden = read_golden(model)
    for case in only:
        golden[case] = dict(CASES[case](model))
    FOLDER.mkdir(exist_ok=True)
    arrays = {f"{case}.{field}": values for case, fields in golden.items() for field, values in fields.items()}
    np.savez_compressed(FOLDER / f"{model}.npz", **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="Cases to compute anew.")
    sct.settings.progress = False
    arguments = parser.parse_args()
    for name in MODELS:
        write_golden(name, arguments.only)
