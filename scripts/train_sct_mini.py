"""Make the checkpoint `sct-mini` from start to end.

    python scripts/train_sct_mini.py --data DATA/train --output FOLDER

Runs `sct.train.pretrain` with its default settings and adds a label head for blood cells. It takes hours on one core;
the same command continues a stopped run. `scripts/write_model_card.py` adds results to the model card later.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import anndata as ad
from recipe import CELL_ONTOLOGY, LICENSE, PRETRAINING, SORTED, training_files

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint, save_checkpoint

LABEL_SECTION = """
## Label head

Fitted to the embedding of sorted blood cells ({files}), with names of the Cell Ontology, and calibrated by leaving out
one file at a time. All files are of one study: other donors were not tested. Its labels are: {labels}.
"""


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
    sorted_blood = [file for file in files if file.stem in SORTED]
    if not sorted_blood:
        parser.error(f"{options.data} lacks the sorted blood cells for the label head: {', '.join(SORTED)}")
    config = replace(PRETRAINING, steps=options.steps)
    trained = sct.train.pretrain(files, config, options.work / "pretrained", device="cpu", license=LICENSE)
    checkpoint = with_label_head(sct.load_model(trained), sorted_blood)
    section = LABEL_SECTION.format(
        files=", ".join(file.stem for file in sorted_blood), labels="; ".join(checkpoint.label_head.labels)
    )
    card = (trained / "README.md").read_text(encoding="utf-8") + section
    save_checkpoint(options.output, checkpoint, dtype="float16", readme=card)


def with_label_head(checkpoint: Checkpoint, files: list[Path]) -> Checkpoint:
    """Fit a label head to sorted blood cells with Cell Ontology names; each file is a donor."""
    blood = [ad.read_h5ad(file) for file in files]
    return sct.train.fit_label_head(checkpoint, blood, "cell_type", names=CELL_ONTOLOGY, device="cpu")


if __name__ == "__main__":
    main()
