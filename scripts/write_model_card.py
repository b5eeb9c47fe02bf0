"""Write the model card of `sct-mini` from what the benchmarks measured.

    python benchmarks/imputation.py && python benchmarks/embedding.py && python benchmarks/annotation.py
    python scripts/write_model_card.py

Every figure of the card is read from benchmarks/results or from the training log; none is typed in here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FOLDER = ROOT / "src" / "scanpy_sct" / "checkpoints" / "data" / "sct-mini"
sys.path.insert(0, str(ROOT / "benchmarks"))

# Task and metric of the tables on the card.
SHOWN = {("entries_15", metric) for metric in ("average_precision", "gene_pearson", "bin_mcc", "calibration_error")}

DATA = """\
27,323 human cells and spots, raw counts: 10,521 spots of HER2-positive breast tumours (patients A-F of Andersson 2021),
956 spots of a developing heart (Asp 2019), 14,419 blood cells (10x Genomics v1, v2 and 5'; Zheng 2017), 1,427 cells
differentiated from stem cells (heart, midbrain). 4 % of the cells were kept out to watch the training. No cell of the
data sets below was trained on; that the blood donors differ from those of pbmc3k is not known."""

RECIPE = """\
`scanpy_sct.train.pretrain` with the defaults of `PretrainConfig`: 1,500 steps of one bag each, AdamW, warm-up and
cosine, on one or two processor cores in under an hour. The weights were made by an earlier form of the training loop,
which held all cells in memory and drew every bag at random, data sets by the root of their size: a new run gives
similar weights, not the same. `scripts/train_sct_mini.py` has the recipe of the checkpoint that will follow.

Entries are hidden at random (10-50 % of a bag), in part also whole genes, or all but a panel of genes; some bags are
thinned. The genes stand in the order of their co-expression in the training data. Seven in ten bags hold neighbours on
the tissue or similar cells."""

LIMITS = """\
- Few tissues and few cells: breast tumour sections, blood, some heart. Elsewhere the network adds little to the rates
  of the bag; how far it is followed is fitted to your data (`cell_weight` in `.uns`).
- **The convolutional towers and the transformer between them are not worth their time yet**: on held-out training
  bags they change the average precision by {tower:+.4f} (at the last report of the training log: {full:.4f} with them,
  {direct:.4f} without). Predictions therefore take the direct paths; `path="full"` runs the whole network.
- The label head knows the ten kinds of sorted blood cells of Zheng 2017, and nothing else.
- Expression is told in five levels per cell; differences among highly expressed genes are coarse."""

CARD = """\
# sct-mini

A small single-cell transformer that ships with scanpy_sct.

{facts}

## Data and licence

{data}
The 10x Genomics data are CC BY 4.0, so are the articles of Andersson 2021 and Asp 2019, whose authors publish the
sections without a licence of their own; for the other files no licence is stated. The package holds none of the data.
The weights are CC BY 4.0.

## Recipe

{recipe}

## How well hidden entries are predicted

15 % of the measured entries are hidden, zeros and others alike; all methods see the same visible entries
(`python benchmarks/imputation.py`, seed 0, {date}, {machine}).

{tables}

`sct_network` is this checkpoint alone; `sct` is what `sct.tl.impute` makes of it by default, a blend with a low-rank
reconstruction of the data themselves; `sct_finetuned` is that blend after `sct.train.finetune` on the visible entries.
That the weight of the cell embedding is fitted to the data, and that both are blended, was decided after looking at
these data sets, so that the columns are a little optimistic. `poisson_bag` uses the same bags as the network. The share
of the entries that are expressed differs between the data sets, so that columns cannot be compared with each other.

Of genes that no cell shows the network alone has to tell. One gene in ten was hidden in every cell; `training_rates`
knows how often each gene was expressed in the training data, and how deeply each cell was sequenced:

{genes}

## What the embedding is worth

Accuracy and macro-F1 of the 15 nearest neighbours in naming cells, five-fold cross-validation, with 95 % bootstrap
intervals over cells (`python benchmarks/embedding.py`, which measures more than that). `pca` and `scvi` are fitted to
the data set itself, `sct` is not.

{embedding}

## Naming cells

`python benchmarks/annotation.py`: names from other studies and donors, from the other half of the same data set (means
of three divisions), and from markers. `unknown` is the area under the ROC curve of telling cells of a type that was
left out of the reference from all others, mean over types. `sct.tl.annotate` leaves the embedding out where reference
and data differ in it. Its rules were chosen on sets of sorted blood and cardiac cells that `sct-mini` was trained on,
and while looking at some of these data sets: expect a little less elsewhere. Regions of a tissue are named worse than
types of cells, and a region that the reference lacks is not noticed.

{annotation}

## Limits

{limits}
"""


def main() -> None:
    from write_results_pages import GENES, TABLES, tables

    import scanpy_sct as sct

    hidden = pd.read_csv(RESULTS / "imputation.csv.gz")
    checkpoint = sct.load_model(FOLDER)
    used = set(hidden.loc[hidden["method"] == "sct", "weights"])
    if used != {checkpoint.sha256}:
        msg = f"benchmarks/results/imputation.csv.gz is about other weights ({used}): run the benchmarks again."
        raise SystemExit(msg)
    last = pd.read_csv(RESULTS / "sct-mini-training-log.csv").iloc[-1]
    card = CARD.format(
        facts=checkpoint.describe(),
        data=DATA,
        recipe=RECIPE,
        date=hidden["date"].iloc[0],
        machine=hidden["machine"].iloc[0],
        tables=tables(hidden, tuple(table for table in TABLES if table[:2] in SHOWN)),
        genes=tables(hidden, GENES[:2]),
        embedding=embedding_table(),
        annotation=annotation_table(),
        limits=LIMITS.format(
            tower=last["auprc_full"] - last["auprc_direct"], full=last["auprc_full"], direct=last["auprc_direct"]
        ),
    )
    (FOLDER / "README.md").write_text(card, encoding="utf-8")


def embedding_table() -> str:
    results = pd.read_csv(RESULTS / "embedding.csv")
    titles = {"knn_accuracy": "accuracy", "knn_macro_f1": "macro-F1"}
    lines = ["| data set | embedding | " + " | ".join(titles.values()) + " |", "|---|---|---|---|"]
    named = results[results["metric"].isin(titles)]
    for (data_set, method), rows in named.groupby(["data_set", "method"], sort=False):
        rows = rows.set_index("metric").loc[list(titles)]
        cells = [f"{r.value:.3f} ({r.lower:.3f}-{r.upper:.3f})" for r in rows.itertuples()]
        lines.append(f"| {data_set} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def annotation_table() -> str:
    results = pd.read_csv(RESULTS / "annotation.csv")
    metrics = ["accuracy", "macro_f1", "calibration_error", "unknown_auroc"]
    whole = ~results["split"].str.startswith("without ")
    whole &= (results["metric"] != "unknown_auroc") | (results["split"] == "leave one type out")
    rows = results[whole & results["metric"].isin(metrics)]
    table = rows.pivot_table(index=["task", "method"], columns="metric", values="value", sort=False)
    lines = ["| task | method | accuracy | macro-F1 | calibration error | unknown |", "|---|---|---|---|---|---|"]
    for (task, method), values in table[metrics].iterrows():
        shown = ["-" if pd.isna(value) else f"{value:.3f}" for value in values]
        lines.append(f"| {task} | {method} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
