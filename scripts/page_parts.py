"""Shared by the scripts that write pages from measured results: results, and tables of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "benchmarks"))
# Kinds of bags that `bags="auto"` takes, best first.
KINDS = ("spatial", "similar", "random")


class Table(NamedTuple):
    """One table of methods by data sets."""

    task: str
    metric: str
    title: str
    best: str
    """Which value is best, "max" or "min"."""
    stratum: str = "all"


ENTRIES = (
    Table("entries_15", "average_precision", "Average precision of 'is this entry detected?'", "max"),
    Table("entries_15", "gene_pearson", "Correlation of log values within a gene, mean over genes", "max"),
    Table("entries_15", "cell_pearson", "Correlation of log values within a cell, mean over cells", "max"),
    Table("entries_15", "bin_mcc", "Matthews correlation of the bins", "max"),
    Table("entries_15", "level_mcc", "Matthews correlation of the bins of detected entries", "max", "non-zero"),
    Table("entries_15", "rmse", "Root mean squared error of log values", "min"),
    Table("entries_15", "calibration_error", "Expected calibration error", "min"),
    Table("entries_50", "average_precision", "Average precision, half of the entries masked", "max"),
    Table("entries_90", "average_precision", "Average precision, nine in ten entries masked", "max"),
)
GENES = (
    Table("genes", "average_precision", "Whole genes masked: average precision", "max"),
    Table("genes", "gene_pearson", "Whole genes masked: correlation within a gene", "max"),
    Table("genes", "ssim", "Whole genes masked: structural similarity", "max"),
    Table("genes", "js_divergence", "Whole genes masked: Jensen-Shannon divergence", "min"),
    Table("panel_300", "average_precision", "Panel of 300 genes: average precision", "max"),
    Table("panel_1000", "average_precision", "Panel of 1,000 genes: average precision", "max"),
    Table("panel_5000", "average_precision", "Panel of 5,000 genes: average precision", "max"),
)
THINNED = (Table("thinning", "mse", "Mean squared error", "min"), Table("thinning", "poisson", "Poisson loss", "min"))


def measured(name: str) -> pd.DataFrame | None:
    """Read a table of benchmarks/results, None where it was not measured."""
    file = RESULTS / name
    return pd.read_csv(file) if file.exists() else None


def require(name: str, command: str) -> pd.DataFrame:
    """Read a table of benchmarks/results; where it is missing, raise an error that names the script."""
    found = measured(name)
    if found is None:
        msg = f"benchmarks/results/{name} does not exist: run {command}"
        raise SystemExit(msg)
    return found


def by_data_set(results: pd.DataFrame, task: str, metric: str, stratum: str = "all") -> pd.DataFrame:
    """Methods by data sets, both in the order of the rows; empty where nothing was measured."""
    is_chosen = (results["task"] == task) & (results["metric"] == metric)
    if "stratum" in results:
        is_chosen &= results["stratum"] == stratum
    return in_order(results[is_chosen], "method", "data_set")


def bags_by_data_set(bags: pd.DataFrame, metric: str = "average_precision") -> pd.DataFrame:
    """Lay out data sets by kind and size of the bags ("spatial 50"); "default 50" is what `bags="auto"` takes."""
    rows = bags[bags["metric"] == metric]
    wide = rows.pivot(index="data_set", columns=["bags", "size"], values="value").reindex(rows["data_set"].unique())
    for size in rows["size"].unique():
        same_size = wide.reindex(columns=[(kind, size) for kind in KINDS])
        wide["default", size] = same_size.bfill(axis=1).iloc[:, 0]
    wide.columns = [f"{kind} {size}" for kind, size in wide.columns]
    return wide


def in_order(rows: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """Pivot the column `value`, with labels in the order of the rows."""
    wide = rows.pivot(index=index, columns=columns, values="value")
    return wide.reindex(index=rows[index].unique(), columns=rows[columns].unique())


def tables(results: pd.DataFrame, chosen: tuple[Table, ...], digits: int = 3) -> str:
    """Write those tables of which anything was measured."""
    parts = [
        marked(by_data_set(results, table.task, table.metric, table.stratum), table.title, table.best, digits)
        for table in chosen
    ]
    return "\n\n".join(filter(None, parts))


def marked(wide: pd.DataFrame, title: str, best: str = "max", digits: int = 3) -> str:
    """Write a table with the best of each column in bold; an empty string for an empty table."""
    from common import as_markdown

    better = "higher is better" if best == "max" else "lower is better"
    return as_markdown(wide, f"{title} ({better})", best, digits) if len(wide) else ""


def folded(text: str) -> str:
    """Fold each table of a page until a reader opens it; its first heading stays to be seen."""

    def wrap(table: re.Match[str]) -> str:
        title = (
            table.group().split("|")[1].strip().removesuffix(" (higher is better)").removesuffix(" (lower is better)")
        )
        return f":::{{dropdown}} {title}\n{table.group()}:::\n"

    return re.sub(r"(?:^\|.*\n)+", wrap, text, flags=re.MULTILINE)


def plain(wide: pd.DataFrame, title: str, form: str = ".3f") -> str:
    """Write a table whose columns hold different kinds of figures, so that none is best."""
    lines = [f"| {title} | " + " | ".join(map(str, wide.columns)) + " |", "|---" * (wide.shape[1] + 1) + "|"]
    for name, *values in wide.itertuples():
        shown = ["-" if pd.isna(value) else f"{value:{form}}" for value in values]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def when(results: pd.DataFrame) -> str:
    """Say when and where results were measured."""
    return f"{results['date'].max()}, {results['machine'].iloc[0]}"
