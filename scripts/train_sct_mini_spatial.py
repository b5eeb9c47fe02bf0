"""Make the checkpoint `sct-mini-spatial`: `sct-mini`, finetuned on tissue sections.

    python scripts/train_sct_mini_spatial.py --data DATA/train --output src/scanpy_sct/checkpoints/data/sct-mini-spatial

The settings are in `scripts/recipe.py`. `scripts/write_model_card.py` adds results to the model card later.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from recipe import FINETUNING, SECTIONS

import scanpy_sct as sct
from scanpy_sct.checkpoints import save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the h5ad files to train on")
    parser.add_argument("--model", default="sct-mini", help="checkpoint to start from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    files = [options.data / f"{name}.h5ad" for name in SECTIONS]
    tuned = sct.train.finetune(options.model, files, FINETUNING, library_key="sample", device="cpu")
    save_checkpoint(options.output, replace(tuned, name="sct-mini-spatial"), dtype="float16")


if __name__ == "__main__":
    main()
