from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scanpy_sct.get.find import find_imputed
from scanpy_sct.impute.recovery import RIGHT_ON_AVERAGE, TRUSTED
from scanpy_sct.keys import ImputationKeys
from scanpy_sct.pl._common import count_detected
from scanpy_sct.read.columns import as_series

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

MIN_CELLS = 10
"""Genes detected in fewer cells are not labelled by default, since their correlation is mostly noise."""
BANDS = {"trusted": TRUSTED, "right on average": RIGHT_ON_AVERAGE, "not recovered": -np.inf}
"""Lowest recovery of each band."""
SHADES = ("tab:blue", "tab:grey", "lightgrey")
LABELS_AT = 1.06
"""x of the labels, in widths of the axes."""
LINE_HEIGHT = 14
"""Distance between labels in points (1/72 inch)."""


def recovery(
    adata: AnnData,
    *,
    key: str = "sct",
    genes: str | Sequence[str] | None = None,
    n_genes: int = 5,
    ax: Axes | None = None,
    show: bool = False,
    **kwargs: Any,
) -> Axes:
    """Plot the recovery of each gene against its detection rate.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.impute`.
    key
        The `key_added` of :func:`scanpy_sct.tl.impute`.
    genes
        Genes to label; `None`: the `n_genes` with the highest recovery among those detected in 10 cells or more.
    n_genes
        Number of genes to label.
    ax
        Axes to use; by default those of a new figure.
    show
        Show the figure.
    kwargs
        Passed to :meth:`matplotlib.axes.Axes.scatter`.

    Returns
    -------
    The axes. The legend has the number of genes in each band: *trusted* (recovery of 0.3 or more), *right on average*
    (0.1 to 0.3: compare regions or cell types, not single cells), *not recovered* (below). The dashed line is the
    median over genes.

    Raises
    ------
    KeyError
        There is no such result or gene.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.impute(adata)
    >>> ax = sct.pl.recovery(adata)
    """
    import matplotlib.pyplot as plt

    keys = ImputationKeys.of(key)
    requested = find_imputed(adata, [] if genes is None else genes, key)
    values = as_series(adata.var[keys.recovery]).to_numpy(dtype=float)
    n_detected = count_detected(adata, key)
    detection_rate = n_detected / adata.n_obs
    known = np.flatnonzero(np.isfinite(values))
    if genes is None:
        often = known[n_detected[known] >= MIN_CELLS]
        labelled = often[np.argsort(-values[often], kind="stable")[:n_genes]]
        names = adata.var_names[labelled].astype(str).tolist()
    else:
        kept = (requested.columns >= 0) & np.isfinite(values[requested.columns])
        labelled = requested.columns[kept]
        names = [name for name, keep in zip(requested.names, kept, strict=True) if keep]

    ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")[1] if ax is None else ax
    _draw_bands(ax, detection_rate[known], values[known], kwargs)
    ax.set(
        xlabel="fraction of cells in which the gene is detected", ylabel="recovery (correlation)", xlim=(-0.02, 1.02)
    )
    _label_points(ax, names, detection_rate[labelled], values[labelled])
    if show:
        plt.show()
    return ax


def _draw_bands(ax: Axes, detection_rate: np.ndarray, values: np.ndarray, style: dict[str, Any]) -> None:
    """Plot the genes of each band in a colour of its own, with their number in the legend, and the median."""
    if not len(values):
        return
    shared = {"s": 10, "alpha": 0.4, "linewidths": 0, "rasterized": True}
    upper = np.inf
    for (name, lowest), shade in zip(BANDS.items(), SHADES, strict=True):
        inside = (values >= lowest) & (values < upper)
        label = f"{name}: {inside.sum():,} genes"
        ax.scatter(detection_rate[inside], values[inside], label=label, **({"color": shade} | shared | style))
        upper = lowest
    median = np.median(values)
    ax.axhline(median, color="black", linewidth=1, linestyle="--", label=f"median: {median:.2f}")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2, frameon=False, markerscale=2)


def _label_points(ax: Axes, names: list[str], x: np.ndarray, y: np.ndarray) -> None:
    """Write names in a column to the right of the axes, with lines to their points that do not cross."""
    if not names:
        return
    ax.scatter(x, y, s=16, color="tab:red", linewidths=0, zorder=3)
    gap = LINE_HEIGHT / (ax.get_window_extent().height / ax.figure.dpi * 72)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    points = np.stack([(x - left) / (right - left), (y - low) / (high - low)], axis=1)
    heights = _heights(points, gap)
    for number, height in enumerate(heights):
        ax.annotate(
            names[number],
            xy=(x[number], y[number]),
            xytext=(LABELS_AT, height),
            textcoords=ax.transAxes,
            va="center",
            fontsize=9,
            arrowprops={
                "arrowstyle": "-",
                "color": "grey",
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
        )


def _heights(points: np.ndarray, gap: float) -> np.ndarray:
    """Return y of the labels of ``points`` (labels, 2), at least ``gap`` apart; all in units of the axes."""
    from scipy.optimize import linear_sum_assignment

    heights = _spread(np.sort(points[:, 1]), gap)
    # Two crossing lines are longer in total than the two with exchanged ends.
    lengths = np.hypot(LABELS_AT - points[:, :1], heights - points[:, 1:])
    return np.asarray(heights[linear_sum_assignment(lengths)[1]])


def _spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Move increasing heights apart as little as possible, until they are ``gap`` apart."""
    from sklearn.isotonic import isotonic_regression

    steps = np.arange(len(heights)) * gap
    spread = isotonic_regression(heights - steps) + steps
    return np.asarray(spread - max(0.0, spread[-1] - 1.0))
