from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.get import imputed as get_imputed
from scanpy_sct.get.find import find_imputed
from scanpy_sct.pl._common import read_observed
from scanpy_sct.read.coordinates import read_coordinates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_WIDTH = 4.0
"""Inches."""
HIGHEST_SHOWN = 99.5
"""Percentile of the values with the last colour, so that outliers do not compress the colour scale."""


def imputed(
    adata: AnnData,
    genes: str | Sequence[str],
    *,
    key: str = "sct",
    basis: str | None = None,
    shared_scale: bool = False,
    cmap: Any = "viridis",
    size: float | None = None,
    figsize: tuple[float, float] | None = None,
    axes: np.ndarray | None = None,
    show: bool = False,
    **kwargs: Any,
) -> np.ndarray:
    """Plot observed beside imputed expression, on tissue or on an embedding; one row per gene.

    Titles give the recovery of each gene (for an unmeasured one the trust, if it was imputed with a reference). Every
    panel has its own colour scale, since imputed values are expectations, which vary less than observed ones.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.impute`.
    genes
        Genes, measured or not; for an unmeasured gene only the imputed panel has values.
    key
        The `key_added` of :func:`scanpy_sct.tl.impute`.
    basis
        Field of `.obsm` with two coordinates, with or without `X_`. `"spatial"` is plotted by
        :func:`squidpy.pl.spatial_scatter`, all others by :func:`scanpy.pl.embedding`. `None`: `"spatial"` if it exists,
        else `"umap"`.
    shared_scale
        Use one colour scale for both panels of a gene, that of the observed values.
    cmap
        Colour map of matplotlib.
    size
        Area of a point in square points (1/72 inch); by default, neighbours on tissue nearly touch.
    figsize
        Width and height of the figure in inches.
    axes
        Axes to use, (genes, 2); by default those of a new figure.
    show
        Show the figure.
    kwargs
        Passed to the function that plots a panel.

    Returns
    -------
    The axes, (genes, 2): observed, imputed.

    Raises
    ------
    KeyError
        There is no such result, gene or basis.
    ValueError
        `axes` has another shape.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.impute(adata)
    >>> axes = sct.pl.imputed(adata, ["CD3E", "MS4A1"], basis="umap")
    """
    import matplotlib.pyplot as plt

    results = get_imputed(adata, genes, key=key)
    field = _find_basis(adata, basis)
    columns = find_imputed(adata, genes, key).columns
    observed = read_observed(adata, key, np.maximum(columns, 0))
    coordinates = _read_points(adata, field)
    shown = np.isfinite(coordinates).all(axis=1)
    points = AnnData(obs=pd.DataFrame(index=adata.obs_names[shown]), obsm={field: coordinates[shown]})
    axes = _make_axes(axes, points.obsm[field], results.n_vars, figsize)
    style = {"cmap": cmap, "size": size, "unit": _unit(adata, key), **kwargs}
    for number, (gene, column) in enumerate(zip(results.var_names, columns, strict=True)):
        left, right = axes[number]
        values, title = results.X[shown, number], _title(results.var.iloc[number])
        if column < 0:
            _draw(points, field, None, left, title=f"{gene}, not measured", **style)
            _draw(points, field, values, right, title=title, **style)
            continue
        measured = observed[shown, number]
        _draw(points, field, measured, left, title=f"{gene}, observed", **style)
        _draw(points, field, values, right, title=title, of_scale=measured if shared_scale else None, **style)
    if size is None and field == "spatial":
        _fit_points(axes, points.obsm[field])
    if show:
        plt.show()
    return axes


def _title(gene: pd.Series) -> str:
    """Say how well a gene is known to be imputed; ``gene`` is a row of `.var` of :func:`scanpy_sct.get.imputed`."""
    if np.isfinite(gene["recovery"]):
        known = f"recovery {gene['recovery']:.2f}"
    elif np.isfinite(gene["trust"]):
        known = f"trust {gene['trust']:.2f}, estimated"
    else:
        known = "no recovery known"
    return f"{gene.name}, imputed\n({known})"


def _unit(adata: AnnData, key: str) -> str:
    """Name the scale of a result."""
    record = adata.uns.get(key, {})
    values = record.get("params", {}).get("values", "auto")
    if values == "counts":
        return "counts"
    if values == "lognorm":
        return "log(1 + counts per 10,000)"
    return "log(1 + count)" if record.get("scale") == "counts" else "expression, log scale"


def _find_basis(adata: AnnData, basis: str | None) -> str:
    candidates = ["spatial", "X_umap"] if basis is None else [basis, f"X_{basis}"]
    found = [name for name in candidates if name in adata.obsm]
    if basis is None and len(found) > 1 and read_coordinates(adata)[0] is None:
        found = found[1:]
    if not found:
        msg = f"basis={basis!r} is not in adata.obsm; available: {', '.join(map(repr, adata.obsm)) or 'nothing'}."
        raise KeyError(msg)
    return found[0]


def _read_points(adata: AnnData, field: str) -> np.ndarray:
    """Read the coordinates to plot, (cells, 2)."""
    points = read_coordinates(adata)[0] if field == "spatial" else np.asarray(adata.obsm[field])[:, :2]
    if points is None:
        msg = "adata.obsm['spatial'] has no coordinates (all are NaN or infinite); choose another basis=."
        raise ValueError(msg)
    return points


def _make_axes(
    axes: np.ndarray | None, coordinates: np.ndarray, n_genes: int, figsize: tuple[float, float] | None
) -> np.ndarray:
    import matplotlib.pyplot as plt

    if axes is None:
        # Rows have the aspect ratio of the tissue, so that panels have no empty bands.
        width, height = np.maximum(np.ptp(coordinates, axis=0), 1e-12)
        row = 0.85 * PANEL_WIDTH * float(np.clip(height / width, 0.4, 2.0)) + 0.5
        figsize = figsize or (2 * PANEL_WIDTH, n_genes * row)
        new: np.ndarray = plt.subplots(n_genes, 2, figsize=figsize, squeeze=False, layout="constrained")[1]
        return new
    axes = np.asarray(axes, dtype=object)
    if axes.shape != (n_genes, 2) and not (n_genes == 1 and axes.shape == (2,)):
        msg = f"axes has shape {axes.shape}; expected shape ({n_genes}, 2): observed and imputed of each gene."
        raise ValueError(msg)
    return axes.reshape(n_genes, 2)


def _draw(
    points: AnnData,
    field: str,
    values: np.ndarray | None,
    ax: Axes,
    *,
    title: str,
    cmap: Any,
    size: Any,
    unit: str,
    of_scale: np.ndarray | None = None,
    **kwargs: Any,
) -> None:
    """Plot one panel; grey points if there are no values. The colour scale is that of ``of_scale`` or the values."""
    from matplotlib.colors import Normalize

    before = list(ax.figure.axes)
    if values is not None:
        points.obs["value"] = np.asarray(values, dtype=np.float32)
        shown = values if of_scale is None else of_scale
        low, high = float(np.min(shown)), float(np.percentile(shown, HIGHEST_SHOWN))
        high = high if high > low else float(np.max(shown))
        kwargs = {"norm": Normalize(low, high if high > low else low + 1), "cmap": cmap, **kwargs}
    color = None if values is None else "value"
    if field == "spatial":
        import squidpy as sq

        # The library that squidpy would use for an object without images, with a warning.
        kwargs = {"shape": None, "library_id": [""], "axis_label": ["x", "y"], "na_color": "lightgrey", **kwargs}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No data for colormapping")  # squidpy warns about points without values
            sq.pl.spatial_scatter(points, color=color, ax=ax, size=size, title=title, **kwargs)
    else:
        import scanpy as sc

        size = min(60_000 / points.n_obs, 40) if size is None else size
        basis = field.removeprefix("X_")
        sc.pl.embedding(points, basis, color=color, ax=ax, size=size, show=False, title=title, **kwargs)
        ax.set_title(title)
    for colorbar in ax.figure.axes:
        if colorbar not in before:
            colorbar.set_ylabel(unit)


def _fit_points(axes: np.ndarray, coordinates: np.ndarray) -> None:
    """Set the size of the points so that neighbours on tissue nearly touch."""
    from sklearn.neighbors import NearestNeighbors

    if len(coordinates) < 2:
        return
    distance = np.median(NearestNeighbors(n_neighbors=2).fit(coordinates).kneighbors()[0][:, 0])
    for ax in axes.ravel():
        ax.figure.draw_without_rendering()
        points_per_unit = ax.get_window_extent().width / ax.figure.dpi * 72 / abs(np.diff(ax.get_xlim())[0])
        # The marker "." has half the diameter of its size.
        size = np.clip((2 * 0.9 * distance * points_per_unit) ** 2, 1, 1600)
        for collection in ax.collections:
            collection.set_sizes([size])
