"""Training data and settings of `sct-mini` and `sct-mini-spatial`."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np

from scanpy_sct.train import FinetuneConfig, PretrainConfig

LICENSE = "CC BY 4.0"
# Reads instead of UMI: a hundred times deeper than the other files, and few cells.
LEFT_OUT = {"cortex_pollen_C1", "lung_progenitor_C1", "pancreas_fetal_CIMseq"}
SORTED = ("pbmc_facs_zheng", "pbmc_sorted_14k", "pbmc_sorted_mudan", "pbmc_sorted_zheng500")
"""Files of sorted blood cells."""

CELL_ONTOLOGY = {
    "CD14+ Monocyte": "CD14-positive monocyte",
    "CD19+ B": "B cell",
    "CD34+": "hematopoietic precursor cell",
    "CD4+ T Helper": "CD4-positive helper T cell",
    "CD4+/CD25 T Reg": "CD4-positive, CD25-positive, alpha-beta regulatory T cell",
    "CD4+/CD45RA+/CD25- Naive T": "naive thymus-derived CD4-positive, alpha-beta T cell",
    "CD4+/CD45RO+ Memory": "CD4-positive, alpha-beta memory T cell",
    "CD56+ NK": "natural killer cell",
    "CD8+ Cytotoxic T": "CD8-positive, alpha-beta cytotoxic T cell",
    "CD8+/CD45RA+ Naive Cytotoxic": "naive thymus-derived CD8-positive, alpha-beta T cell",
}
"""Cell Ontology names of the sorted types."""

PRETRAINING = PretrainConfig(name="sct-mini")
"""The defaults are the recipe of `sct-mini`. `prior_cells`: trained for 8,000 steps with the bag correction, the
network learnt a prior of 11 cells with random loss of counts, and of 20 without."""

FINETUNING = FinetuneConfig(
    spatial=True,
    steps=2000,
    learning_rate=5e-4,
    warmup_steps=100,
    mask_range=(0.1, 0.6),
    masked_gene_fraction=0.3,
    panel_fraction=0.2,
    thin_fraction=0.3,
    near_fraction=0.9,
    pull=2.0,
    validate_every=250,
)
SECTIONS = ("her2st_breast_train", "heart_dev_ST_CN74")
"""Files of tissue sections."""


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
