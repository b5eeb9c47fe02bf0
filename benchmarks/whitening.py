"""Whiten the cell embedding of a network by several powers, and predict labels by neighbours in it.

    python benchmarks/whitening.py

takes the first network of ablations.py, which is trained if it is not in the cache, and writes results/whitening.csv.
The directions are those of the training data, none of which are evaluated. Once the network is there it takes a few
minutes on one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ablations import variants
from common import (
    DATA_SETS,
    HERE,
    SAMPLE_KEY,
    as_markdown,
    cached,
    circumstances,
    default_data,
    hash_of_code,
    hash_of_data,
    read,
)
from embedding import MODEL_CODE, TASK_CODE, blank_unlabelled
from imputation import WHOLE
from pretrained import prepared_files, pretrained

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.train.finish import with_whitened_embedding
from scanpy_sct.train.sources import open_sources

POWERS = (0.0, 0.5, 1.0)
WHITENING_CODE = ("train/finish.py",)
METRICS = ("knn_accuracy", "knn_macro_f1", "kmeans_ari")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "whitening.csv")
    options = parser.parse_args()
    sct.settings.progress = False
    files = prepared_files(options.data)
    recipe = replace(next(iter(variants(options.steps).values())), name="variant")
    network = sct.load_model(pretrained(files, recipe))
    sources = open_sources(files, np.asarray(network.genes))
    tables = []
    for power in POWERS:
        settings = replace(recipe, whitening=power)
        whitened = with_whitened_embedding(network, sources, settings, "cpu") if power else network
        for name in WHOLE:
            depends_on = {
                "data": hash_of_data(name, options.data),
                "weights": network.sha256,
                "power": power,
                "code": hash_of_code(*TASK_CODE, *MODEL_CODE, *WHITENING_CODE),
            }
            compute = partial(measured, whitened, name, options.data)
            found = cached(f"whitening-{name}-{power}".replace(" ", "_"), depends_on, compute, False)
            tables.append(found.assign(power=power))
    table = pd.concat(tables).assign(steps=options.steps, **circumstances())
    table.to_csv(options.output, index=False)
    for metric in METRICS:
        part = table[table["metric"] == metric]
        wide = part.pivot(index="power", columns="data_set", values="value")
        print(as_markdown(wide[list(WHOLE)], metric), end="\n\n")


def measured(checkpoint: Checkpoint, name: str, data: Path) -> pd.DataFrame:
    adata = read(name, data)
    labels_key = DATA_SETS[name][2]
    blank_unlabelled(adata, labels_key)
    found = sct.evaluate.embedding(
        adata,
        methods="sct",
        model=checkpoint,
        labels_key=labels_key,
        library_key=SAMPLE_KEY,
        metrics=list(METRICS),
        n_bootstrap=0,
    )
    return found[["metric", "value"]].assign(data_set=name)


if __name__ == "__main__":
    main()
