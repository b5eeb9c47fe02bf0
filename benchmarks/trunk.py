"""Train small networks of convolutions, and ask whether the transformer between their towers does anything.

    python benchmarks/trunk.py

trains on the 2,048 genes that are expressed most in the training data, and writes what the training log says of cells
that were held out to results/trunk.csv: `auprc_lesion` beside `auprc_full` tells what is lost when the output of the
transformer is replaced by its mean, `cell_variance_trunk` how much of its variance is between cells. A quarter of an
hour a network on one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
from common import HERE, as_markdown, circumstances, default_data
from gene_order import NETWORK, most_expressed, short_recipe
from pretrained import prepared_files, pretrained

import scanpy_sct as sct

WITH_PROFILE = replace(NETWORK, context=True)
CENTERED = replace(WITH_PROFILE, center_tokens=True)
NETWORKS = {
    "plain": NETWORK,
    "profile beside the tokens": WITH_PROFILE,
    "tokens centered on the profile": CENTERED,
    "centered, no skip connections": replace(CENTERED, use_skip_connection=False),
}
SHOWN = ("auprc_full", "auprc_lesion", "auprc_direct", "cell_variance_stem", "cell_variance_trunk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "trunk.csv")
    options = parser.parse_args()
    sct.settings.progress = False
    files = prepared_files(options.data)
    genes = most_expressed(files)
    logs = []
    for name in options.only:
        config = short_recipe(NETWORKS[name], options.steps)
        place = pretrained(files, config, genes)
        logs.append(pd.read_csv(place.with_name(f"{place.name}.training") / "log.csv").assign(network=name))
        pd.concat(logs).assign(**circumstances()).to_csv(options.output, index=False)
    last = pd.concat(log.iloc[[-1]] for log in logs).set_index("network")
    print(as_markdown(last.reindex(columns=list(SHOWN)).T, "at the last step", digits=4))


if __name__ == "__main__":
    main()
