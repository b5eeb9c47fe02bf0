"""Show that the memory of pretraining does not grow with the data.

    python benchmarks/streaming.py

writes the cells of a file again and again until there are so many, trains on them for a few steps in a process of its
own, and writes its largest memory and its speed to results/streaming.csv.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import pandas as pd
from common import HERE, as_markdown, circumstances, default_data

import scanpy_sct as sct
from scanpy_sct.model import CompactConfig, ReleasedConfig

GIB = 2**20  # ru_maxrss counts KiB
STEPS = {"compact": 150, "released": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--file", default="train/pbmc_facs_zheng.h5ad", help="cells to repeat")
    parser.add_argument("--cells", type=int, nargs="+", default=[40_000, 400_000])
    parser.add_argument("--networks", nargs="+", choices=STEPS, default=["compact"])
    parser.add_argument("--output", type=Path, default=HERE / "results" / "streaming.csv")
    parser.add_argument("--train", nargs=2, metavar=("FILE", "NETWORK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(Path(options.train[0]), options.train[1])))
        return
    rows = []
    for n_cells in options.cells:
        with tempfile.TemporaryDirectory() as folder:
            file = repeated(options.data / options.file, n_cells, Path(folder))
            for network in options.networks:
                command = [sys.executable, __file__, "--train", str(file), network]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                rows.append({"cells": n_cells, "network": network, "file_gib": file.stat().st_size / 2**30})
                rows[-1] |= json.loads(done.stdout.splitlines()[-1])
    table = pd.DataFrame(rows)
    table.assign(**circumstances()).to_csv(options.output, index=False)
    for what in ("peak_gib", "cells_per_s"):
        print(as_markdown(table.pivot(index="network", columns="cells", values=what), what, digits=2), end="\n\n")


def repeated(file: Path, n_cells: int, folder: Path) -> Path:
    """Write the cells of a file over and over, to at least ``n_cells``, without ever holding them all."""
    n_times = -(-n_cells // ad.read_h5ad(file, backed="r").n_obs)
    output = folder / "cells.h5ad"
    copies = {}
    for number in range(n_times):  # concat_on_disk wants one path each
        copies[str(number)] = folder / f"{number}.h5ad"
        copies[str(number)].symlink_to(file.resolve())
    ad.experimental.concat_on_disk(copies, output, label="copy", index_unique="-")
    return output


def train(file: Path, network: str) -> dict[str, float]:
    """Train for a few steps; return the largest memory of this process, in GiB, and its speed."""
    sct.settings.progress = False
    steps = STEPS[network]
    config = CompactConfig(bag_correction=False) if network == "compact" else ReleasedConfig()
    # Small windows, so that many are read.
    config = sct.train.PretrainConfig(network=config, steps=steps, report_every=steps, block_size=256, window_blocks=1)
    with tempfile.TemporaryDirectory() as folder:
        sct.train.pretrain([file], config, Path(folder) / "checkpoint", device="cpu")
        log = pd.read_csv(Path(folder) / "checkpoint.training" / "log.csv")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    return {"peak_gib": peak, "cells_per_s": float(log["cells_per_s"].iloc[-1])}


if __name__ == "__main__":
    main()
