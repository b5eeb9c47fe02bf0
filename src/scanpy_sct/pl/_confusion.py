from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scanpy_sct.annotate.labels import UNKNOWN
from scanpy_sct.pl._common import read_labels
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import read_column

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

CELL_SIZE = 0.5
"""Inches for each label."""


def confusion(
    adata: AnnData,
    known: str,
    *,
    key: str = "sct_label",
    cmap: Any = "Blues",
    ax: Axes | None = None,
    show: bool = False,
    **kwargs: Any,
) -> Axes:
    """Plot a confusion matrix: which labels the cells of each known label have.

    Any two columns can be compared, also known labels with clusters.

    Parameters
    ----------
    adata
        Cells x genes.
    known
        Column of `.obs` with known labels, the rows.
    key
        Column of `.obs` with labels to compare with them, the columns; by default those of
        :func:`scanpy_sct.tl.annotate`.
    cmap
        Colour map of matplotlib.
    ax
        Axes to use; by default those of a new figure.
    show
        Show the figure.
    kwargs
        Passed to :meth:`matplotlib.axes.Axes.imshow`.

    Returns
    -------
    The axes. Colours are fractions of the cells of a row, numbers are cells. Rows have the order of the categories;
    columns have the same order, those that are no known label stand beside the row that most of their cells are from,
    and `"unknown"` is last. Cells that lack one of the two labels are left out. The title gives the accuracy (an
    `"unknown"` cell counts as wrong) and the macro-F1, the mean over known labels; where the columns have no label in
    common, as for clusters, the adjusted Rand index.

    Raises
    ------
    KeyError
        There is no such column.
    ValueError
        No cell has both labels.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> reference, query = adata[::2].copy(), adata[1::2].copy()
    >>> sct.tl.annotate(query, reference=reference, labels_key="bulk_labels")
    >>> ax = sct.pl.confusion(query, "bulk_labels")
    """
    import matplotlib.pyplot as plt

    check_is_anndata(adata)
    truth, rows = read_labels(read_column(adata.obs, known, "known", "adata.obs"))
    found, columns = read_labels(read_column(adata.obs, key, "key", "adata.obs"))
    both = np.array([a is not None and b is not None for a, b in zip(truth, found, strict=True)], dtype=bool)
    if not both.any():
        msg = f"known={known!r} and key={key!r}: no cell has a label in both columns; choose other columns."
        raise ValueError(msg)
    counts = pd.crosstab(truth[both], found[both])
    counts = counts.reindex(index=[name for name in rows if name in counts.index])
    counts = counts[_order_columns(counts, [name for name in columns if name in counts])]
    if ax is None:
        size = (3.2 + CELL_SIZE * counts.shape[1], 2.4 + CELL_SIZE * counts.shape[0])
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    _draw(ax, counts, {"cmap": cmap, **kwargs})
    ax.set(xlabel=key, ylabel=known, title=_title(truth[both], found[both], list(counts.index)))
    if show:
        plt.show()
    return ax


def _order_columns(counts: pd.DataFrame, columns: list[str]) -> list[str]:
    """Order columns so that the diagonal shows; ``counts`` has rows in their order."""
    row_of = {name: float(row) for row, name in enumerate(counts.index)}

    def place(name: str) -> float:
        if name == UNKNOWN:
            return np.inf
        # A label that is not known follows the known one that most of its cells have.
        return row_of.get(name, counts[name].to_numpy().argmax() + 0.5)

    return sorted(columns, key=place)


def _title(truth: np.ndarray, found: np.ndarray, known: list[str]) -> str:
    """Say how well two columns agree."""
    from sklearn.metrics import accuracy_score, adjusted_rand_score, f1_score

    truth, found = truth.astype(str), found.astype(str)
    cells = f"{len(truth):,} cells"
    if not set(known) & set(found) - {UNKNOWN}:
        return f"{cells}, no label in common\nadjusted Rand index {adjusted_rand_score(truth, found):.2f}"
    right = accuracy_score(truth, np.where(found == UNKNOWN, "", found))
    named = [name for name in known if name != UNKNOWN]
    f1 = f1_score(truth, found, labels=named, average="macro", zero_division=0)
    n_unknown = np.mean(found == UNKNOWN)
    unknown = f", {n_unknown:.0%} unknown" if n_unknown else ""
    return f"{cells}{unknown}\naccuracy {right:.2f}, macro-F1 {f1:.2f}"


def _draw(ax: Axes, counts: pd.DataFrame, style: dict[str, Any]) -> None:
    """Draw fractions of rows as colours, and numbers of cells as text that contrasts with them."""
    numbers = counts.to_numpy()
    fractions = numbers / numbers.sum(axis=1, keepdims=True)
    shared: dict[str, Any] = {"vmin": 0, "vmax": 1, "aspect": "equal"}
    image = ax.imshow(fractions, **shared | style)
    ax.figure.colorbar(image, ax=ax, label="fraction of the row", shrink=0.8)
    for (row, column), number in np.ndenumerate(numbers):
        if number:
            red, green, blue, _ = image.to_rgba(fractions[row, column])
            is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            color = "white" if is_dark else "black"
            ax.text(column, row, f"{number:,}", ha="center", va="center", fontsize=8, color=color)
    ax.set_xticks(range(counts.shape[1]), list(counts.columns), rotation=45, ha="right", rotation_mode="anchor")
    totals = [f"{name} ({total:,})" for name, total in zip(counts.index, numbers.sum(axis=1), strict=True)]
    ax.set_yticks(range(counts.shape[0]), totals)
