"""The sentences with which pages of results begin; every figure is computed from results."""

from __future__ import annotations

import textwrap

import pandas as pd
from page_parts import by_data_set

from scanpy_sct.impute.recovery import TRUSTED

# `sct_finetuned` is `sct` after more training, `cell_type_mean` is told the labels: neither is another method.
OURS = ("sct", "sct_network", "sct_finetuned")
WITH_LABELS = ("cell_type_mean",)
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def best_others(wide: pd.DataFrame, best: str = "max") -> pd.DataFrame:
    """Return, for each data set, what `sct` and the best other method reached, and which that is."""
    others = wide.drop([name for name in (*OURS, *WITH_LABELS) if name in wide.index])
    chosen = others.idxmin() if best == "min" else others.idxmax()
    values = others.min() if best == "min" else others.max()
    return pd.DataFrame({"sct": wide.loc["sct"], "other": values, "method": chosen}).dropna()


def span(values: pd.Series, digits: int = 3) -> str:
    """Write the range of some values."""
    low, high = f"{values.min():.{digits}f}", f"{values.max():.{digits}f}"
    return low if low == high else f"{low} to {high}"


def of_data_sets(chosen: pd.Series) -> str:
    """Write on how many data sets something holds."""
    return f"all {NUMBERS[len(chosen)]}" if chosen.all() else f"{NUMBERS[int(chosen.sum())]} of {NUMBERS[len(chosen)]}"


def of_imputation(results: pd.DataFrame) -> str:
    """Say when imputation helps, by how much, and when it does not."""
    entries = best_others(by_data_set(results, "entries_15", "average_precision"))
    genes = best_others(by_data_set(results, "genes", "average_precision"))
    gains, gene_gains = entries["sct"] - entries["other"], genes["sct"] - genes["other"]
    return wrapped(
        f"**`tl.impute` predicted masked entries better than every other method on {of_data_sets(gains > 0)} data",
        f"sets: its average precision was {span(entries['sct'])}, a gain of {span(gains)} over the best other method",
        f"({methods(entries)}). Of genes masked in every cell, it reached {span(genes['sct'])}, {span(gene_gains)}",
        "more than the detection rates of the training data.**",
    )


def of_losses(results: pd.DataFrame) -> str:
    """Say where other methods are better."""
    entries = best_others(by_data_set(results, "entries_15", "average_precision"))
    gains = (entries["sct"] - entries["other"]).sort_values()
    detected = best_others(by_data_set(results, "entries_15", "level_mcc", "non-zero"))
    thinned = best_others(by_data_set(results, "thinning", "poisson"), "min")
    lost, lost_thinned = detected[detected["sct"] < detected["other"]], thinned[thinned["sct"] > thinned["other"]]
    name, gain = gains.index[-1], gains.iloc[-1]
    sentences = [f"The gain was largest on {name} ({gain:.3f}) and at most {gains.iloc[-2]:.3f} on the others."]
    if len(lost):
        sentences.append(
            f"The values of detected entries were predicted better by {methods(lost)} on {NUMBERS[len(lost)]} of "
            f"{NUMBERS[len(detected)]} data sets."
        )
    if len(lost_thinned):
        sentences.append(f"The Poisson loss of thinned counts was lower with {methods(lost_thinned)}.")
    return wrapped(*sentences)


def methods(rows: pd.DataFrame) -> str:
    """Name the methods of some rows."""
    return " or ".join(f"`{name}`" for name in sorted(set(rows["method"])))


def of_recovery(recovery: pd.DataFrame) -> str:
    """Say which recovery can be trusted, and how far."""
    trusted = recovery[recovery["recovery"].str.startswith(f"{TRUSTED} to")]
    ranks = recovery.loc[recovery["recovery"] == "all", "rank_correlation"]
    return wrapped(
        f"**Those whose recovery is above {TRUSTED}. Even of the genes just above it, nine in ten predicted held-out",
        f"values with a correlation of {trusted['tenth'].min():.2f} or more, on each of {NUMBERS[len(ranks)]} data",
        f"sets; and the recovery orders genes much as held-out values do (rank correlation {span(ranks, 2)}).**",
    )


def of_annotation(annotation: pd.DataFrame) -> str:
    """Say in how many comparisons annotation from a reference was most accurate."""
    whole = (annotation["metric"] == "accuracy") & annotation["split"].isin(["reference", "halves", "held-out donors"])
    accuracy = annotation[whole].pivot_table(index="task", columns="method", values="value").dropna(axis="columns")
    first = accuracy.idxmax(axis="columns") == "sct"
    return (
        f"With a reference, `sct.tl.annotate` had the highest accuracy of {NUMBERS[accuracy.shape[1]]} methods in "
        f"{NUMBERS[int(first.sum())]} of {NUMBERS[len(first)]} comparisons."
    )


def wrapped(*parts: str) -> str:
    """Join parts of a paragraph, in lines of the usual length."""
    return textwrap.fill(" ".join(parts), 120, break_long_words=False, break_on_hyphens=False)
