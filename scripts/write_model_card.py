"""Write the model card of `sct-mini` from what the benchmarks measured.

    python benchmarks/imputation.py && python benchmarks/embedding.py && python benchmarks/annotation.py
    python benchmarks/label_head.py && python benchmarks/bags.py
    python benchmarks/ablations.py && python benchmarks/whitening.py
    python scripts/write_model_card.py

Figures are read from benchmarks/results, the training log, scripts/recipe.py and the checkpoint. Sections
of annotation, label heads and bags are left out while their results are about other weights.
"""

from __future__ import annotations

import pandas as pd
from conclusions import best_others, of_annotation
from experiments_page import sections
from model_cards import ANNOTATION, BAGS, LABEL_HEAD, LICENCES, MINI, MIXING, PARTS
from page_parts import (
    ENTRIES,
    GENES,
    ROOT,
    bags_by_data_set,
    by_data_set,
    marked,
    measured,
    plain,
    require,
    tables,
    when,
)
from recipe import PRETRAINING

import scanpy_sct as sct
from scanpy_sct.checkpoints import Checkpoint
from scanpy_sct.train import PretrainConfig

FOLDER = ROOT / "src" / "scanpy_sct" / "checkpoints" / "data"
# Tables on the card of sct-mini.
SHOWN = {
    ("entries_15", metric)
    for metric in ("average_precision", "gene_pearson", "bin_mcc", "level_mcc", "calibration_error")
}
# Kind and size of the bags on the card of sct-mini.
SHOWN_BAGS = {"default 50": "50", "ablated 50": "50, without attention", "random 50": "50, random", "default 1": "1"}
CHEMISTRIES = "blood chemistries"


def main() -> None:
    checkpoint = sct.load_model(FOLDER / "sct-mini")
    (FOLDER / "sct-mini" / "README.md").write_text(mini_card(checkpoint), encoding="utf-8")


def mini_card(checkpoint: Checkpoint) -> str:
    refuse_other_recipe(checkpoint)
    of_entries = of_these_weights("imputation.csv.gz", "python benchmarks/imputation.py", checkpoint)
    embedding = of_these_weights("embedding.csv", "python benchmarks/embedding.py", checkpoint)
    annotation, label_head, bags = (
        None if not is_of_these_weights(f"{name}.csv", checkpoint) else measured(f"{name}.csv")
        for name in ("annotation", "label_head", "bags")
    )
    last = require("sct-mini-training-log.csv", "scripts/train_sct_mini.py and copy its log").iloc[-1]
    return MINI.format(
        short=short_table(of_entries, of_entries),
        annotated="" if annotation is None else f"{of_annotation(annotation)} ",
        facts=checkpoint.describe(),
        watched=percent(PRETRAINING.validation_fraction),
        licences=LICENCES,
        **pretraining_facts(last),
        prior=PRETRAINING.prior_cells,
        whitening=PRETRAINING.whitening,
        seed=of_entries["seed"].iloc[0],
        when=when(of_entries),
        tables=tables(of_entries, tuple(table for table in ENTRIES if table[:2] in SHOWN)),
        genes_tables=tables(of_entries, GENES[:2]),
        bags="" if bags is None else BAGS.format(table=bags_table(bags)),
        embedding=embedding_table(embedding),
        mixing=mixing_sentence(embedding),
        annotation=annotation_sections(annotation, label_head),
        ablations="\n\n".join("#" + section for section in sections("ablations", "whitening")),
        labels=labels_sentence(checkpoint),
        levels=bins_sentence(checkpoint),
        parts=parts_sentence(last),
    )


def annotation_sections(annotation: pd.DataFrame | None, label_head: pd.DataFrame | None) -> str:
    text = "" if annotation is None else ANNOTATION.format(table=annotation_table(annotation))
    if label_head is not None:
        text += LABEL_HEAD.format(label_head=label_head_table(label_head), outside=outside_table(label_head))
    return text


def short_table(of_data: pd.DataFrame, of_model: pd.DataFrame) -> str:
    """Write the few figures of the first page: `tl.impute` with this checkpoint beside the best other method."""
    rows = {}
    for task, title in (("entries_15", "masked entries"), ("genes", "whole genes")):
        ours = by_data_set(of_model, task, "average_precision").loc["sct"]
        others = best_others(by_data_set(of_data, task, "average_precision")).loc[ours.index, "other"]
        rows |= {f"{title}, `sct.tl.impute`": ours, f"{title}, best other method": others}
    return plain(pd.DataFrame(rows).T, "average precision")


def refuse_other_recipe(checkpoint: Checkpoint) -> None:
    """Stop where the recipe makes another network than that of the checkpoint."""
    made, meant = checkpoint.config, PRETRAINING.network
    for name in ("n_bins", "cell_dim", "cell_layers"):
        if getattr(made, name) != getattr(meant, name):
            msg = (
                f"{checkpoint.name} was not made by scripts/recipe.py: its network has {name}={getattr(made, name)}, "
                f"the recipe {getattr(meant, name)}."
            )
            raise SystemExit(msg)


def is_of_these_weights(name: str, checkpoint: Checkpoint) -> bool:
    """Return whether results are about the weights of the checkpoint; rows of other methods do not depend on them."""
    results = measured(name)
    if results is None:
        return False
    of_model = results["method"].str.startswith("sct") if "method" in results else slice(None)
    return set(results.loc[of_model, "weights"].dropna()) == {checkpoint.sha256}


def of_these_weights(name: str, making: str, checkpoint: Checkpoint) -> pd.DataFrame:
    """Read results, and stop where they are about other weights than those of the checkpoint."""
    results = require(name, making)
    if not is_of_these_weights(name, checkpoint):
        msg = f"benchmarks/results/{name} is about other weights than {checkpoint.name}: run {making}"
        raise SystemExit(msg)
    return results


def pretraining_facts(last: pd.Series) -> dict[str, object]:
    config, steps = PRETRAINING, int(last["step"])
    more = "" if steps == config.steps else f" --steps {steps}"
    return {
        "command": command("train_sct_mini", "sct-mini") + more,
        "steps": steps,
        "sizes": " or ".join(map(str, config.bag_sizes)),
        "rate": config.learning_rate,
        "warmup": config.warmup_steps,
        "cells": int(last["cells"]),
        "hours": last["minutes"] / 60,
        **fractions(config),
    }


def command(script: str, name: str) -> str:
    return f"python scripts/{script}.py --data DATA/train --output src/scanpy_sct/checkpoints/data/{name}"


def fractions(config: PretrainConfig) -> dict[str, str]:
    low, high = config.mask_range
    return {
        "low": percent(low),
        "high": percent(high),
        "genes": percent(config.masked_gene_fraction),
        "panel": percent(config.panel_fraction),
        "thin": percent(config.thin_fraction),
        "near": percent(config.near_fraction),
    }


def percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def labels_sentence(checkpoint: Checkpoint) -> str:
    """Name the labels; semicolons between them, since names of the Cell Ontology hold commas."""
    head = checkpoint.label_head
    if head is None:
        return "It has no label head: `sct.tl.annotate` needs a reference or markers."
    return f"The label head knows {len(head.labels)} cell types, and nothing else: {'; '.join(head.labels)}."


def bins_sentence(checkpoint: Checkpoint) -> str:
    n_bins = checkpoint.config.n_bins - 1
    if checkpoint.tokens.binning != "counts":
        return f"Expression is predicted in {n_bins} bins per cell, beside zero."
    upper = [2**number for number in range(n_bins - 1)]
    lower = [1, *(edge + 1 for edge in upper[:-1])]
    steps = [f"{low}" if low == high else f"{low}-{high}" for low, high in zip(lower, upper, strict=True)]
    bins = ", ".join([*steps, f"more than {upper[-1]}"])
    return f"Expression is predicted in {n_bins} bins of counts ({bins}), beside zero; a bin is not divided further."


def parts_sentence(last: pd.Series) -> str:
    return PARTS.format(
        step=int(last["step"]),
        network=last["auprc_network"],
        ablated=last["auprc_ablated"],
        by_cells=last["auprc_network"] - last["auprc_ablated"],
        alone=last["auprc_alone"],
        by_bag=last["auprc_network"] - last["auprc_alone"],
        constant=last["auprc_gene_constant"],
        mean=last["auprc_bag_mean"],
        knn=last["auprc_knn"],
    )


def bags_table(bags: pd.DataFrame) -> str:
    wide = bags_by_data_set(bags).rename(columns=SHOWN_BAGS)
    shown = wide[[name for name in SHOWN_BAGS.values() if name in wide]]
    return marked(shown.T, "Average precision by cells of a bag", digits=4)


def mixing_sentence(embedding: pd.DataFrame) -> str:
    rows = embedding[(embedding["data_set"] == CHEMISTRIES) & (embedding["metric"] == "ilisi")]
    values = [f"{row.value:.4f} for `{row.method}`" for row in rows.itertuples()]
    return MIXING.format(values=", ".join(values[:-1]) + f" and {values[-1]}") if len(values) > 1 else ""


def embedding_table(results: pd.DataFrame) -> str:
    titles = {"knn_accuracy": "accuracy", "knn_macro_f1": "macro-F1"}
    lines = ["| data set | embedding | " + " | ".join(titles.values()) + " |", "|---|---|---|---|"]
    named = results[results["metric"].isin(titles)]
    for (data_set, method), rows in named.groupby(["data_set", "method"], sort=False):
        rows = rows.set_index("metric").loc[list(titles)]
        cells = [f"{r.value:.3f} ({r.lower:.3f}-{r.upper:.3f})" for r in rows.itertuples()]
        lines.append(f"| {data_set} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def annotation_table(results: pd.DataFrame) -> str:
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


def label_head_table(results: pd.DataFrame) -> str:
    """Write how well a label head and other methods label blood."""
    metrics = {"macro_f1": "macro-F1", "accuracy": "accuracy", "calibration_error": "calibration error"}
    table = results[results["metric"].isin(metrics)].pivot_table(
        index=["data_set", "method"], columns="metric", values="value", sort=False
    )
    lines = [f"| sorted blood to | method | {' | '.join(metrics.values())} |", "|---|---|---|---|---|"]
    for (data_set, method), row in table.iterrows():
        lines.append(f"| {data_set} | {method} | {' | '.join(f'{row[metric]:.3f}' for metric in metrics)} |")
    return "\n".join(lines)


def outside_table(results: pd.DataFrame) -> str:
    """Write which fraction of other data sets a label head for blood does not label."""
    rows = results[results["metric"].isin(["unknown", "new"])]
    table = rows.pivot_table(index="data_set", columns="metric", values="value", sort=False)
    lines = ["| data set | unknown | new |", "|---|---|---|"]
    lines += [f"| {row.Index} | {row.unknown:.2f} | {row.new:.2f} |" for row in table.itertuples()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
