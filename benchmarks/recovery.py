"""Compare `.var["sct_recovery"]` with how well genes are imputed where the truth was masked in all passes.

    python benchmarks/recovery.py

15 % of the entries of a data set are masked in all passes; `sct.tl.impute(adata, hide=...)` imputes them and computes
the recovery of each gene from all other entries. Then both are compared with what the masked entries held. Writes
results/recovery.csv (genes by interval of recovery), results/recovery_genes.csv.gz and docs/images/recovery.png.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from common import DATA_SETS, HERE, SAMPLE_KEY, cached, circumstances, default_data, hash_of_code, hash_of_data, read
from imputation import MODEL_CODE, WHOLE
from scipy.stats import spearmanr

import scanpy_sct as sct
from scanpy_sct.evaluate.masking import mask_entries

CUTS = (-1.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
# With fewer detected entries among the masked ones, a correlation is mostly noise.
MIN_DETECTED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(WHOLE), metavar="NAME")
    parser.add_argument("--model", default="sct-mini")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    checkpoint = sct.load_model(options.model)
    genes = pd.concat([genes_of(name, checkpoint, options) for name in options.data_sets], ignore_index=True)
    results = HERE / "results"
    genes.round(5).to_csv(results / "recovery_genes.csv.gz", index=False)
    table = summary(genes).assign(
        model=checkpoint.name, weights=checkpoint.sha256, seed=options.seed, **circumstances()
    )
    table.to_csv(results / "recovery.csv", index=False)
    draw(genes, HERE.parent / "docs" / "images" / "recovery.png")
    print(table.iloc[:, :8].to_string(index=False))


def genes_of(name: str, checkpoint, options: argparse.Namespace) -> pd.DataFrame:
    """Recovery, and the correlation on entries that were masked in all passes, of every gene."""
    depends_on = {
        "data": hash_of_data(name, options.data),
        "seed": options.seed,
        "weights": checkpoint.sha256,
        "code": hash_of_code(*MODEL_CODE, "evaluate/masking.py"),
        "min_detected": MIN_DETECTED,
    }

    def compute() -> pd.DataFrame:
        adata = read(name, options.data)
        masked = mask_entries(*adata.shape, 0.15, rng=options.seed)
        sct.tl.impute(adata, model=checkpoint, hide=masked, library_key=SAMPLE_KEY, rng=options.seed)
        truth = np.log1p(adata.X.toarray())
        found = []
        for gene in np.flatnonzero(adata.var["sct_imputed"]):
            rows = masked[:, gene]
            measured, imputed = truth[rows, gene], adata.layers["sct"][rows, gene]
            if (measured > 0).sum() >= MIN_DETECTED and np.ptp(imputed) > 0:
                found.append((adata.var_names[gene], np.corrcoef(measured, imputed)[0, 1], (truth[:, gene] > 0).mean()))
        table = pd.DataFrame(found, columns=["gene", "held_out", "detection_rate"])
        var = adata.var.loc[table["gene"]]
        return table.assign(data_set=name, recovery=var["sct_recovery"].to_numpy(), source=var["sct_source"].to_numpy())

    return cached(f"recovery-{name}".replace(" ", "_").replace(",", ""), depends_on, compute, options.fresh)


def summary(genes: pd.DataFrame) -> pd.DataFrame:
    """Held-out correlation of the genes in each interval of recovery; the row "all" holds the rank correlation."""
    rows = []
    for name, part in genes.groupby("data_set", sort=False):
        rank = spearmanr(part["recovery"], part["held_out"]).statistic
        rows.append((name, "all", len(part), rank, *part["held_out"].quantile([0.1, 0.5, 0.9])))
        for low, high in pairwise(CUTS):
            inside = part[(part["recovery"] >= low) & (part["recovery"] < high)]
            label = f"{low:g} to {high:g}" if low > -1 else f"below {high:g}"
            rows.append((name, label, len(inside), np.nan, *inside["held_out"].quantile([0.1, 0.5, 0.9])))
    columns = ["data_set", "recovery", "n_genes", "rank_correlation", "tenth", "median", "ninetieth"]
    return pd.DataFrame(rows, columns=columns)


def draw(genes: pd.DataFrame, file: Path) -> None:
    import matplotlib.pyplot as plt

    names = genes["data_set"].unique()
    # Two panels in a row, so that their text can be read on a phone.
    n_rows = -(-len(names) // 2)
    shared = {"sharex": True, "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(n_rows, 2, figsize=(7, 3.2 * n_rows), layout="constrained", **shared)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        part = genes[genes["data_set"] == name]
        axis.axline((0, 0), slope=1, color="0.7", linewidth=1)
        axis.hexbin(part["recovery"], part["held_out"], gridsize=35, mincnt=1, bins="log", cmap="viridis")
        axis.set_title(name)
    figure.supxlabel("sct_recovery")
    figure.supylabel("correlation on held-out entries")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
