"""Make the checkpoint `sct-mini`: masked pretraining, and a label head.

    python scripts/train_sct_mini.py --data DATA/train --output src/scanpy_sct/checkpoints/data/sct-mini

The recipe is in `scripts/recipe.py`; it takes hours on one processor core, and the same command continues a run that
was stopped. The folder is written without a model card; `scripts/write_model_card.py` writes that from measured
results.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import anndata as ad
from recipe import CELL_ONTOLOGY, LICENSE, PRETRAINING, SORTED, training_files

import scanpy_sct as sct
from scanpy_sct.checkpoints import save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the h5ad files to train on")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--work", type=Path, default=Path("sct-mini-work"), help="folder for prepared files and states")
    parser.add_argument("--steps", type=int, default=PRETRAINING.steps)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    prepared = options.work / "data"
    prepared.mkdir(parents=True, exist_ok=True)
    files = training_files(options.data, prepared)
    config = replace(PRETRAINING, steps=options.steps)
    trained = sct.train.pretrain(files, config, options.work / "pretrained", device="cpu", license=LICENSE)
    checkpoint = with_label_head(sct.load_model(trained), prepared)
    save_checkpoint(options.output, checkpoint, dtype="float16")


def with_label_head(checkpoint: sct.checkpoints.Checkpoint, prepared: Path) -> sct.checkpoints.Checkpoint:
    """Fit a label head to sorted blood cells by their Cell Ontology names, calibrated on files left out in turn.

    The files are of one study: nothing is known of other donors.
    """
    blood = [ad.read_h5ad(prepared / f"{name}.h5ad") for name in SORTED]
    return sct.train.fit_label_head(checkpoint, blood, "cell_type", names=CELL_ONTOLOGY)


if __name__ == "__main__":
    main()
