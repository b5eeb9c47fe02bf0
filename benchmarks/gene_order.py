"""Train networks of convolutions that differ in the order of their genes, and judge them.

    python benchmarks/gene_order.py

trains plain networks, without any direct path, on the 2,048 genes that are expressed most in the training data; hides
15 % of the entries of data sets that were not trained on, and writes results/gene_order.csv. A quarter of an hour
a network on one core.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from common import (
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
from imputation import MODEL_CODE, TASK_CODE, WHOLE
from pretrained import prepared_files, pretrained

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.model import SctConfig
from scanpy_sct.read.genes import released_vocabulary
from scanpy_sct.train import PretrainConfig

N_GENES = 2048
NETWORK = SctConfig(
    num_downsamples=6,
    token_embed_dim=32,
    embed_dim=96,
    ffn_embed_dim=192,
    num_layers=2,
    attention_heads=4,
    key_size=24,
    num_cells=16,
)
# What the vocabulary is called, the order it is given in, and what training makes of it.
ORDERS = {
    "released": ("given", "given"),
    "at random": ("shuffled", "given"),
    "mean expression": ("given", "mean"),
    "co-expression": ("given", "coexpression"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only", nargs="+", choices=list(ORDERS), default=list(ORDERS), metavar="ORDER")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "gene_order.csv")
    options = parser.parse_args()
    sct.settings.progress = False
    files = prepared_files(options.data)
    genes = most_expressed(files)
    tables = []
    for name in options.only:
        checkpoint = trained(name, genes, files, options.steps)
        for dataset in WHOLE:
            depends_on = {
                "data": hash_of_data(dataset, options.data),
                "weights": checkpoint.sha256,
                "code": hash_of_code(*TASK_CODE, *MODEL_CODE, "evaluate"),
            }
            compute = partial(measured, checkpoint, dataset, options.data)
            tables.append(cached(f"gene-order-{dataset}", depends_on, compute, False).assign(order=name))
        table = pd.concat(tables).assign(steps=options.steps, **circumstances())
        table.to_csv(options.output, index=False)
    shown = table[(table["metric"] == "average_precision") & (table["method"] == "sct_network")]
    wide = shown.pivot(index="order", columns="data_set", values="value")
    print(as_markdown(wide.loc[list(options.only), list(WHOLE)], "average precision"))


def most_expressed(files: list[Path]) -> np.ndarray:
    """Genes with the largest share of expressing cells, mean over files, in the released order."""
    known = released_vocabulary()
    rates = pd.DataFrame({file: share_of_cells(file) for file in files}).fillna(0).mean(axis=1)
    chosen = set(rates[rates.index.isin(known)].nlargest(N_GENES).index)
    return np.array([gene for gene in known if gene in chosen])


def share_of_cells(file: Path) -> pd.Series:
    adata = ad.read_h5ad(file)
    rates = pd.Series(np.asarray((adata.X > 0).mean(axis=0)).ravel(), index=adata.var_names)
    return rates[~rates.index.duplicated()]


def trained(name: str, genes: np.ndarray, files: list[Path], steps: int) -> Checkpoint:
    """Train a network with the genes in one order, or find it trained."""
    given, order = ORDERS[name]
    genes = np.random.default_rng(0).permutation(genes) if given == "shuffled" else genes
    config = short_recipe(NETWORK, steps, gene_order=order)
    return sct.load_model(pretrained(files, config, genes))


def short_recipe(network: SctConfig, steps: int, **changes: object) -> PretrainConfig:
    """Make a recipe in which the convolutions take part in every step, and entries are hidden at random only."""
    return PretrainConfig(
        name="variant",
        network=network,
        steps=steps,
        tower_every=1,
        tower_bag_size=16,
        warmup_steps=50,
        panel_share=0.0,
        hidden_gene_share=0.0,
        thin_share=0.0,
        report_every=150,
        **changes,
    )


def measured(checkpoint: Checkpoint, dataset: str, data: Path) -> pd.DataFrame:
    found = sct.evaluate.imputation(
        read(dataset, data),
        tasks="entries_15",
        methods=["sct_network", "gene_mean", "poisson_dataset"],
        model=checkpoint,
        library_key=SAMPLE_KEY,
        n_bootstrap=0,
    )
    kept = found["metric"].isin(["average_precision", "gene_pearson"]) & (found["stratum"] == "all")
    return found.loc[kept, ["method", "metric", "value"]].assign(data_set=dataset)


if __name__ == "__main__":
    main()
