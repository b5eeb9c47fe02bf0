"""Networks that benchmarks train for themselves, kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from common import HERE, hash_of_code

import scanpy_sct as sct
from scanpy_sct.train import PretrainConfig

sys.path.insert(0, str(HERE.parent / "scripts"))
import recipe


def prepared_files(data: Path) -> list[Path]:
    """Write the training data as `scripts/recipe.py` wants them, or find them written."""
    given = sorted((data / "train").glob("*.h5ad"))
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in given]
    known_by = repr(facts).encode() + Path(recipe.__file__).read_bytes()
    folder = sct.settings.cache_dir / "pretrained" / f"data-{hashlib.sha256(known_by).hexdigest()[:16]}"
    if not folder.exists():
        # Under another name until complete: a second benchmark may be reading these files.
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        unfinished.mkdir(parents=True)
        recipe.training_files(data / "train", unfinished)
        unfinished.rename(folder)
    return sorted(folder.glob("*.h5ad"))


def pretrained(files: list[Path], config: PretrainConfig, genes: Sequence[str] | None = None) -> Path:
    """Train a network, go on where its training was stopped, or find it trained.

    It is found for the same settings, genes, data and code only.
    """
    facts = {
        "config": asdict(config),
        "genes": None if genes is None else list(genes),
        "data": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
        "code": hash_of_code("train", "model", "plan", "read"),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = sct.settings.cache_dir / "pretrained" / key
    if not folder.exists():
        sct.train.pretrain(files, config, folder, vocabulary=genes, device="cpu")
    return folder
