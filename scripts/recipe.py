"""Training data and settings of `sct-mini`."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np

from scanpy_sct.train import PretrainConfig

LICENSE = "CC BY 4.0"
# Reads instead of UMI: a hundred times deeper than the other files, and few cells.
LEFT_OUT = {"cortex_pollen_C1", "lung_progenitor_C1", "pancreas_fetal_CIMseq"}

PRETRAINING = PretrainConfig(name="sct-mini")
"""The defaults are the recipe of `sct-mini`. `prior_cells`: trained for 8,000 steps with the bag correction, the
network learnt a prior of 11 cells with random loss of counts, and of 20 without."""


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
