"""Make the checkpoint `sct-mini` from start to end.

    python scripts/train_sct_mini.py --data DATA/train --output FOLDER

Runs `sct.train.pretrain` with its default settings. It takes hours on one core; the same command continues a stopped
run. `scripts/write_model_card.py` adds results to the model card later.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from recipe import LICENSE, PRETRAINING, training_files

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
    card = (trained / "README.md").read_text(encoding="utf-8")
    save_checkpoint(options.output, sct.load_model(trained), dtype="float16", readme=card)


if __name__ == "__main__":
    main()
