from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scanpy_sct.get._find import find_imputed
from scanpy_sct.pl._common import read_observed
from scanpy_sct.write import ImputationKeys

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

MIN_CELLS = 10
"""Genes expressed in fewer cells are not named on their own account: their correlation is mostly chance."""
NAMES_AT = 1.06
"""Where names begin, in widths of the axes."""
LINE_HEIGHT = 14
"""Distance of two names in points (1/72 inch)."""


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
    """Plot how well hidden values of each gene were predicted, against how often the gene is expressed.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.impute`.
    key
        Name of the result, the `key_added` of :func:`scanpy_sct.tl.impute`.
    genes
        Genes to name in the plot; by default the `n_genes` best recovered of those expressed in 10 cells or more.
    n_genes
        How many to name.
    ax
        Where to draw; by default a new figure.
    show
        Show the figure at once.
    kwargs
        For :meth:`matplotlib.axes.Axes.scatter`.

    Returns
    -------
    The axes. The dashed line is the median over genes.

    Raises
    ------
    KeyError
        If there is no such result or gene.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.impute(adata)
    >>> ax = sct.pl.recovery(adata)
    """
    import matplotlib.pyplot as plt

    keys = ImputationKeys.of(key)
    wanted = find_imputed(adata, [] if genes is None else genes, key)
    values = adata.var[keys.recovery].to_numpy(dtype=float)
    n_expressed = read_observed(adata, key).getnnz(axis=0)
    share = n_expressed / adata.n_obs
    known = np.flatnonzero(np.isfinite(values))
    if genes is None:
        often = known[n_expressed[known] >= MIN_CELLS]
        named = often[np.argsort(-values[often], kind="stable")[:n_genes]]
        names = adata.var_names[named].astype(str).tolist()
    else:
        kept = (wanted.columns >= 0) & np.isfinite(values[wanted.columns])
        named, names = wanted.columns[kept], [name for name, keep in zip(wanted.names, kept, strict=True) if keep]

    ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")[1] if ax is None else ax
    style = {"s": 10, "color": "tab:blue", "alpha": 0.3, "linewidths": 0, "rasterized": True} | kwargs
    ax.scatter(share[known], values[known], **style)
    if len(known):
        median = np.median(values[known])
        ax.axhline(
            median, color="black", linewidth=1, linestyle="--", label=f"median of {len(known):,} genes: {median:.2f}"
        )
        ax.legend(loc="lower right", frameon=False)
    ax.set(xlabel="share of cells that express the gene", ylabel="recovery (correlation)", xlim=(-0.02, 1.02))
    _name_points(ax, names, share[named], values[named])
    if show:
        plt.show()
    return ax


def _name_points(ax: Axes, names: list[str], x: np.ndarray, y: np.ndarray) -> None:
    """Write names in a column at the right of the axes, by height, each with a line to its point; no lines cross."""
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
            xytext=(NAMES_AT, height),
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
    """Height of the name of each point, at least ``gap`` apart; (names,), in shares of the axes like ``points``."""
    from scipy.optimize import linear_sum_assignment

    places = _spread(np.sort(points[:, 1]), gap)
    # Two lines that cross are longer together than the same two with their ends exchanged.
    lengths = np.hypot(NAMES_AT - points[:, :1], places - points[:, 1:])
    return places[linear_sum_assignment(lengths)[1]]


def _spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Move increasing heights apart as little as possible, until they are ``gap`` from one another."""
    from sklearn.isotonic import isotonic_regression

    steps = np.arange(len(heights)) * gap
    spread = isotonic_regression(heights - steps) + steps
    return spread - max(0.0, spread[-1] - 1.0)
