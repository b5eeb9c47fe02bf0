"""Make the checkpoint `sct-mini` that ships with the package.

    python scripts/train_sct_mini.py --data DATA/train --output src/scanpy_sct/checkpoints/data/sct-mini

It trains (under an hour on one or two cores; the same command continues a run that was stopped), fits the
label head, and writes the folder without a model card; `scripts/write_model_card.py` writes that from measured results.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import anndata as ad

import scanpy_sct as sct
from scanpy_sct.checkpoints import save_checkpoint

LICENSE = "CC BY 4.0"
# Read counts, not UMI: a hundred times deeper than all other files, and few cells.
LEFT_OUT = {"cortex_pollen_C1", "lung_progenitor_C1", "pancreas_fetal_CIMseq"}
LABELLED = "pbmc_facs_zheng"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the h5ad files to train on")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    files = sorted(file for file in options.data.glob("*.h5ad") if file.stem not in LEFT_OUT)
    config = sct.train.PretrainConfig(name="sct-mini")
    folder = sct.train.pretrain(files, config, options.output, device="cpu", license=LICENSE)
    finish(folder, options.data)


def finish(folder: Path, data: Path) -> None:
    """Fit the label head on sorted blood cells, and let predictions take the path that is worth its time."""
    checkpoint = sct.load_model(folder)
    blood = ad.read_h5ad(data / f"{LABELLED}.h5ad")
    checkpoint = sct.train.fit_label_head(checkpoint, blood, "cell_type")
    save_checkpoint(folder, replace(checkpoint, path="direct"), dtype="float16")


if __name__ == "__main__":
    main()
