"""What `sct-mini` was meant to reach, beside what was measured."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from page_parts import by_data_set

DIGITS = 4
# Kinds of bags that `bags="auto"` takes, best first.
KINDS = ("spatial", "similar", "random")
CHEMISTRIES = "blood chemistries"
NOTHING = pd.DataFrame()


class Aim(NamedTuple):
    """A difference of two figures that was aimed at, and the figures."""

    what: str
    target: str
    values: pd.DataFrame
    """Figures, data sets by names."""
    first: str
    second: str
    least: float = 0.0
    """The second plus this is what the first is to reach."""
    is_strict: bool = False
    """Reaching it exactly is not enough."""
    needed: int | None = None
    """Data sets on which it is to be reached; None: all."""

    def row(self) -> str:
        """Write the aim as a row of a table: what, target, measured, met."""
        shown, met = [], []
        if {self.first, self.second} <= set(self.values.columns):
            for name, first, second in self.values[[self.first, self.second]].dropna().itertuples():
                # Rounded before it is compared, so that the row shows what was decided.
                difference = round(first - second, DIGITS)
                met.append(difference > self.least if self.is_strict else difference >= self.least)
                shown.append(f"{name} {difference:+.{DIGITS}f} ({first:.{DIGITS}f} - {second:.{DIGITS}f})")
        return f"| {self.what} | {self.target} | {'; '.join(shown) or 'not measured'} | {self._verdict(met)} |"

    def _verdict(self, met: list[bool]) -> str:
        if not met:
            return "-"
        needed = len(met) if self.needed is None else self.needed
        return f"{'yes' if sum(met) >= needed else '**no**'}: met on {sum(met)} of {len(met)}"


def targets_table(hidden: pd.DataFrame, embedding: pd.DataFrame, bags: pd.DataFrame | None) -> str:
    """Write targets and measured figures as a table.

    Parameters
    ----------
    hidden
        What benchmarks/imputation.py measured.
    embedding
        What benchmarks/embedding.py measured.
    bags
        What benchmarks/bags.py measured, if it has.
    """
    aims = [*entry_aims(hidden), *gene_aims(hidden), *bag_aims(bags), *embedding_aims(embedding)]
    return "\n".join(["| difference | target | measured | met |", "|---|---|---|---|", *(aim.row() for aim in aims)])


def entry_aims(hidden: pd.DataFrame) -> list[Aim]:
    precision = by_data_set(hidden, "entries_15", "average_precision").T
    level = by_data_set(hidden, "entries_15", "level_mcc", "non-zero").T
    aims = []
    for method in ("sct", "sct_network"):
        what = f"15 % of the entries hidden, average precision: `{method}` minus "
        aims.append(Aim(f"{what}`svd`", "at least 0 on three of four", precision, method, "svd", needed=3))
        aims.append(Aim(f"{what}`knn_poisson`", "never below 0", precision, method, "knn_poisson"))
    for method in ("sct", "sct_network"):
        what = f"`level_mcc` of expressed entries: `{method}` minus `knn_poisson`"
        aims.append(Aim(what, "at least 0 on each", level, method, "knn_poisson"))
    return aims


def gene_aims(hidden: pd.DataFrame) -> list[Aim]:
    precision = by_data_set(hidden, "genes", "average_precision").T
    # A gene that no cell shows has no low-rank reconstruction: there `sct` is the network.
    method = "sct_network" if "sct_network" in precision else "sct"
    what = f"Whole genes hidden, average precision: `{method}` minus `training_rates`"
    return [Aim(what, "at least +0.10 on each", precision, method, "training_rates", least=0.1)]


def bag_aims(bags: pd.DataFrame | None) -> list[Aim]:
    wide = NOTHING if bags is None else bags_by_data_set(bags)
    end = ", average precision of `sct_network`"
    return [
        Aim(
            f"Bags of 50 minus the same without the transformer over cells{end}",
            "at least +0.02 on each",
            wide,
            "default 50",
            "lesion 50",
            least=0.02,
        ),
        Aim(f"Bags of 50 minus bags of 1{end}", "at least +0.02 on each", wide, "default 50", "default 1", least=0.02),
        Aim(
            f"Bags of 50, spatial minus random, on sections{end}",
            "above 0 on each",
            wide,
            "spatial 50",
            "random 50",
            is_strict=True,
        ),
    ]


def bags_by_data_set(bags: pd.DataFrame, metric: str = "average_precision") -> pd.DataFrame:
    """Lay out data sets by kind and size of the bags ("spatial 50"); "default 50" is what `bags="auto"` would take."""
    rows = bags[bags["metric"] == metric]
    wide = rows.pivot(index="data_set", columns=["bags", "size"], values="value").reindex(rows["data_set"].unique())
    for size in rows["size"].unique():
        same_size = wide.reindex(columns=[(kind, size) for kind in KINDS])
        wide["default", size] = same_size.bfill(axis=1).iloc[:, 0]
    wide.columns = [f"{kind} {size}" for kind, size in wide.columns]
    return wide


def embedding_aims(embedding: pd.DataFrame) -> list[Aim]:
    # Two files of the chemistries were trained on: no test of names.
    untrained = embedding[embedding["data_set"] != CHEMISTRIES]
    nearest = embedding_by_data_set(untrained, "knn_accuracy")
    mixing = embedding_by_data_set(embedding[embedding["data_set"] == CHEMISTRIES], "ilisi")
    aims = []
    for other in ("pca", "pca_unscaled"):
        what = f"Accuracy of the 15 nearest neighbours: embedding `sct` minus `{other}`"
        aims.append(Aim(what, "at least 0 on each", nearest, "sct", other))
    for other in ("pca", "pca_unscaled"):
        what = f"Mixing of the chemistries of blood (iLISI): embedding `sct` minus `{other}`"
        aims.append(Aim(what, "above 0", mixing, "sct", other, is_strict=True))
    return aims


def embedding_by_data_set(embedding: pd.DataFrame, metric: str) -> pd.DataFrame:
    rows = embedding[embedding["metric"] == metric]
    return rows.pivot(index="data_set", columns="method", values="value").reindex(rows["data_set"].unique())
