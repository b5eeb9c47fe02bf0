"""Figures of the documentation that are drawn from tables of results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from page_parts import by_data_set

# Colours of Okabe and Ito, which people with any kind of colour vision can tell apart; markers repeat them.
KINDS = {"spatial": ("#D55E00", "o"), "similar": ("#0072B2", "s"), "random": ("#009E73", "^")}
METHODS = {
    "sct": ("#D55E00", "o"),
    "sct_network": ("#0072B2", "s"),
    "training_rates": ("#009E73", "^"),
    "svd": ("#CC79A7", "D"),
    "knn_poisson": ("#000000", "v"),
}
WITHOUT = {"ablated": ("without attention among cells", "x"), "uncorrected": ("without bag correction", "+")}
SCALED = {
    "impute": ("impute 12,333 genes", ("#D55E00", "o")),
    "impute_panel": ("impute a panel of 500", ("#0072B2", "s")),
    "embed": ("embed", ("#009E73", "^")),
}
COMPARED = ("gene_mean", "poisson_bag", "alra", "scvi", "knn_poisson", "magic", "svd", "sct_network", "sct")
"""Methods of the figure of masked entries, from the bottom."""
PANELS = {300: "panel_300", 1000: "panel_1000", 5000: "panel_5000"}


def draw_bags(bags: pd.DataFrame, file: Path) -> None:
    """Draw average precision against the size of the bag, one line a kind of bag."""
    rows = bags[bags["metric"] == "average_precision"]

    def draw(axis, name: str) -> None:
        part = rows[rows["data_set"] == name]
        for kind, style in KINDS.items():
            line(axis, part[part["bags"] == kind].set_index("size")["value"], kind, style)
        for kind, (label, marker) in WITHOUT.items():
            without = part[part["bags"] == kind]
            axis.plot(without["size"], without["value"], marker, color="0.3", label=label)

    save(draw, rows["data_set"].unique(), sorted(rows["size"].unique()), "cells in a bag", file)


def draw_panels(imputation: pd.DataFrame, file: Path) -> None:
    """Draw average precision against the number of genes in a panel, one line a method."""
    by_size = {size: by_data_set(imputation, task, "average_precision") for size, task in PANELS.items()}
    by_size = {size: wide for size, wide in by_size.items() if len(wide)}

    def draw(axis, name: str) -> None:
        for method, style in METHODS.items():
            values = {size: wide.loc[method, name] for size, wide in by_size.items() if method in wide.index}
            line(axis, pd.Series(values, dtype=float), method, style)

    names = next(iter(by_size.values())).columns
    save(draw, names, list(by_size), "measured genes in the panel", file)


def draw_entries(imputation: pd.DataFrame, file: Path) -> None:
    """Draw the average precision of each method on masked entries, with its interval, one panel a data set."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = (imputation["task"] == "entries_15") & (imputation["metric"] == "average_precision")
    rows = imputation[shown & (imputation["stratum"] == "all") & imputation["method"].isin(COMPARED)]
    names = rows["data_set"].unique()
    rows_of_panels = -(-len(names) // 2)
    figure, axes = plt.subplots(
        rows_of_panels, 2, figsize=(7, 2.9 * rows_of_panels), sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        part = rows[rows["data_set"] == name].set_index("method").reindex(COMPARED)
        for height, (method, row) in enumerate(part.iterrows()):
            color = "#D55E00" if method == "sct" else "#0072B2" if method == "sct_network" else "0.35"
            axis.plot([row["lower"], row["upper"]], [height, height], color=color, linewidth=1.5)
            axis.plot(row["value"], height, "o", color=color, markersize=5)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("average precision")
        axis.grid(axis="x", color="0.9")
        axis.set_yticks(range(len(COMPARED)), COMPARED)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_scale(rows: list[dict], file: Path) -> None:
    """Draw time per cell and peak memory against the number of cells, one line a function."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    table = pd.DataFrame(rows)
    table = table[~table["on_cluster"]].sort_values("cells")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharex=True)
    for axis, column, label in zip(
        axes, ("ms_per_cell", "peak_mib"), ("milliseconds a cell", "peak memory, MiB"), strict=True
    ):
        for what, (name, style) in SCALED.items():
            line(axis, table[table["what"] == what].set_index("cells")[column], name, style)
        axis.set(xscale="log", xlabel="cells", ylabel=label, ylim=(0, None))
    axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def line(axis, values: pd.Series, label: str, style: tuple[str, str]) -> None:
    """Draw one line; nothing where there are no values."""
    values = values.dropna().sort_index()
    if len(values):
        color, marker = style
        # Lines may lie on each other: hollow markers let the lower one show.
        axis.plot(values.index, values, color=color, marker=marker, markerfacecolor="none", linewidth=1.2, label=label)


def save(draw: Callable, names: list[str], sizes: list[int], label: str, file: Path) -> None:
    """Draw one panel a data set, with sizes on a log scale and one legend below, and write the figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    # Two panels in a row, so that their text can be read on a phone.
    n_rows = -(-len(names) // 2)
    figure, axes = plt.subplots(n_rows, 2, figsize=(7, 3 * n_rows + 0.4), squeeze=False, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        draw(axis, name)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        axis.minorticks_off()
        axis.set_title(name)
        axis.set_xlabel(label)
        axis.set_ylabel("average precision")
    shown = {}
    for axis in axes.flat:
        shown |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if len(names) % 2:  # the last panel is free
        axes.flat[-1].legend(shown.values(), shown.keys(), loc="center", frameon=False)
    else:
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
