"""Make the checkpoint `sct-mini` from start to end.

    python scripts/train_sct_mini.py --data DATA/train --output FOLDER

Runs `sct.train.pretrain` with its default settings. It takes hours on one core; the same command continues a stopped
run. Then a label head is fitted to sorted blood cells, which takes a minute, and can be done again alone:

    python scripts/train_sct_mini.py --data DATA/train --output FOLDER --head-of sct-mini

`scripts/write_model_card.py` adds results to the model card later.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from recipe import LICENSE, PRETRAINING, training_files, with_label_head

import scanpy_sct as sct
from scanpy_sct.checkpoints import save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the h5ad files to train on")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--work", type=Path, default=Path("sct-mini-work"), help="folder for prepared files and states")
    parser.add_argument("--steps", type=int, default=PRETRAINING.steps)
    parser.add_argument("--head-of", help="name or folder of a trained checkpoint, which only gets a new label head")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    trained = options.head_of or str(train(options.data, options.work, options.steps))
    checkpoint = sct.load_model(trained)
    card = sct.models.describe(trained)
    with_head = with_label_head(checkpoint, options.data)
    save_checkpoint(options.output, with_head, dtype="float16", readme=card)


def train(data: Path, work: Path, steps: int) -> Path:
    """Train the network; returns the folder of the checkpoint."""
    prepared = work / "data"
    prepared.mkdir(parents=True, exist_ok=True)
    files = training_files(data, prepared)
    config = replace(PRETRAINING, steps=steps)
    return sct.train.pretrain(files, config, work / "pretrained", device="cpu", license=LICENSE)


if __name__ == "__main__":
    main()
