"""Training data and settings of `sct-mini`."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np

from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.train import PretrainConfig, fit_label_head

LICENSE = "CC BY 4.0"
# Reads instead of UMI: a hundred times deeper than the other files, and few cells.
LEFT_OUT = {"cortex_pollen_C1", "lung_progenitor_C1", "pancreas_fetal_CIMseq"}

PRETRAINING = PretrainConfig(name="sct-mini")
"""The defaults are the recipe of `sct-mini`. `prior_cells`: trained for 8,000 steps with the bag correction, the
network learnt a prior of 11 cells with random loss of counts, and of 20 without."""

LABELLED = ("pbmc_facs_zheng", "pbmc_sorted_14k", "pbmc_sorted_mudan", "pbmc_sorted_zheng500")
"""Files that the label head is fitted to: sorted cells, each file a study."""
_CD4, _CD8 = "CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell"
LABELS = {
    "CD19+ B": "B cell",
    "CD34+": "hematopoietic precursor cell",
    "CD56+ NK": "natural killer cell",
    "CD14+ Monocyte": "monocyte",
    "CD8+ Cytotoxic T": _CD8,
    "CD8+/CD45RA+ Naive Cytotoxic": _CD8,
    "CD4+ T Helper": _CD4,
    "CD4+/CD45RO+ Memory": _CD4,
    "CD4+/CD25 T Reg": _CD4,
    "CD4+/CD45RA+/CD25- Naive T": _CD4,
}
"""Names in the Cell Ontology."""
SOURCES = ("sorted blood cells, 10x v1",)


def with_label_head(checkpoint: Checkpoint, data: Path) -> Checkpoint:
    """Return the checkpoint with a label head for blood."""
    cells = [ad.read_h5ad(data / f"{name}.h5ad") for name in LABELLED]
    return fit_label_head(checkpoint, cells, "cell_type", names=LABELS, sources=SOURCES, device="cpu")


def training_files(data: Path, folder: Path) -> list[Path]:
    """Write the training files to ``folder``, and return them.

    Dissociated cells are shuffled, since bags are drawn from blocks of consecutive cells. The samples of the sorted
    files are cell types; here a file of blood is one sample, so that bags mix cell types.
    """
    files = []
    for file in sorted(data.glob("*.h5ad")):
        if file.stem in LEFT_OUT:
            continue
        adata = ad.read_h5ad(file)
        if "spatial" not in adata.obsm:
            adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
        if file.stem.startswith("pbmc"):
            adata.obs["sample"] = file.stem
        files.append(folder / file.name)
        adata.write_h5ad(files[-1])
    return files
