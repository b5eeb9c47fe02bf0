"""Make the checkpoint `sct-mini`: masked pretraining, correction by the bag, a whitened embedding, and a label head.

    python scripts/train_sct_mini.py --data DATA/train --output src/scanpy_sct/checkpoints/data/sct-mini

The recipe is in `scripts/recipe.py`; it takes hours on one processor core, and the same command continues a run that
was stopped. The folder is written without a model card; `scripts/write_model_card.py` writes that from measured
results.
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import replace
from pathlib import Path

import anndata as ad
import torch
from recipe import CELL_ONTOLOGY, LICENSE, PRETRAINING, PRIOR_CELLS, SORTED, WHITENING, training_files

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint, save_checkpoint
from scanpy_sct.model import Sct


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
    save_checkpoint(options.output, finished(sct.load_model(trained), files), dtype="float16")


def finished(checkpoint: Checkpoint, files: list[Path]) -> Checkpoint:
    """Add to a pretrained network what needs no training of it."""
    objects = {file.stem: ad.read_h5ad(file) for file in files}
    corrected = with_bag_correction(checkpoint)
    whitened = sct.train.whiten_embedding(corrected, list(objects.values()), power=WHITENING, device="cpu")
    return with_label_head(replace(whitened, name=checkpoint.name), [objects[name] for name in SORTED])


def with_bag_correction(checkpoint: Checkpoint) -> Checkpoint:
    """Let the bag correct each gene. The network was trained without: its own part is right where no cell shows one."""
    config = replace(checkpoint.config, bag_correction=True)
    network = Sct(config, checkpoint.network.n_genes)
    weights = network.state_dict() | checkpoint.network.state_dict()
    weights["correction.log_prior_cells"] = torch.tensor(math.log(PRIOR_CELLS))
    network.load_state_dict(weights)
    return replace(checkpoint, config=config, network=network.eval())


def with_label_head(checkpoint: Checkpoint, blood: list[ad.AnnData]) -> Checkpoint:
    """Fit a label head to sorted blood cells by their Cell Ontology names, calibrated on files left out in turn.

    The files are of one study: nothing is known of other donors.
    """
    return sct.train.fit_label_head(checkpoint, blood, "cell_type", names=CELL_ONTOLOGY, device="cpu")


if __name__ == "__main__":
    main()
