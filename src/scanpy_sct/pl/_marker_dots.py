from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.annotate.marker_names import read_marker_names, symbols_of
from scanpy_sct.annotate.marker_table import Markers, marker_table
from scanpy_sct.get import imputed as get_imputed
from scanpy_sct.keys import AnnotationKeys
from scanpy_sct.pl._common import check_annotation, read_labels, read_observed
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import read_column, read_names
from scanpy_sct.read.genes import to_ensembl
from scanpy_sct.storable import NONE

logger = logging.getLogger(__name__)

CHARACTER = 0.085
"""Inches for a letter of a label."""
COUNTS = "log(1 + counts\nper 10,000), mean"
"""Unit of what was counts."""
ABOVE, BELOW = 0.4, 1.4
"""Inches around a panel, for its title and for the names of genes."""


def marker_dots(
    adata: AnnData,
    markers: Markers,
    *,
    key: str = "sct_label",
    groupby: str | None = None,
    imputed: str | None = None,
    cmap: Any = "Blues",
    figsize: tuple[float, float] | None = None,
    axes: np.ndarray | None = None,
    show: bool = False,
    **kwargs: Any,
) -> np.ndarray:
    """Plot observed marker genes by label: a dot for each gene and label, drawn by :class:`scanpy.pl.DotPlot`.

    Labels are credible if their markers were detected in many of their cells and in few others. Imputed values alone do
    not show this, since labels may come from them.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.annotate`.
    markers
        Genes of each type: a dict or a table, as in :func:`scanpy_sct.tl.annotate`; best also others than those that
        the labels come from.
    key
        The `key_added` of :func:`scanpy_sct.tl.annotate`.
    groupby
        Column of `.obs` to use instead of the labels, such as known ones.
    imputed
        The `key_added` of :func:`scanpy_sct.tl.impute`, to plot imputed values below the observed ones, also of
        unmeasured genes. They have no dots, since imputed values are expectations and rarely zero.
    cmap
        Colour map of matplotlib.
    figsize
        Width and height of the figure in inches.
    axes
        Axes to use, one for each panel, in a figure without layout; they are replaced by several smaller ones.
    show
        Show the figure.
    kwargs
        Passed to :class:`scanpy.pl.DotPlot` and :class:`scanpy.pl.MatrixPlot`, such as `standard_scale="var"`, which
        gives each gene its own colour scale.

    Returns
    -------
    The axes with the dots, (panels,): observed, and imputed if `imputed` is given. Sizes are fractions of cells in
    which the gene is detected, colours are means on a log scale, of counts per 10,000 if possible. Labels have the
    order of `markers`, the others follow, `"unknown"` is last. Cells without a label are left out. A warning in the log
    names the markers that are not plotted.

    Raises
    ------
    KeyError
        There is no such result or column, or a marker was not imputed.
    ValueError
        `axes` has another length, the markers cannot be read, or none of them was measured.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> markers = {"B": ["CD79A", "CD20"], "T": ["CD3D", "CD3E"], "NK": ["NKG7", "GNLY"]}
    >>> sct.tl.annotate(adata, markers=markers)
    >>> axes = sct.pl.marker_dots(adata, markers)
    """
    import matplotlib.pyplot as plt

    check_is_anndata(adata)
    keys = AnnotationKeys.of(key)
    check_annotation(adata, key, keys.labels, keys.score)
    column = read_column(adata.obs, keys.labels if groupby is None else groupby, "groupby", "adata.obs")
    labels, names = read_labels(column)
    genes = _find_genes(adata, markers, key, with_unmeasured=imputed is not None)
    first = list(dict.fromkeys(genes["label"]))
    order = sorted(names, key=lambda name: first.index(name) if name in first else len(first))
    cells = np.flatnonzero([label is not None for label in labels])
    obs = pd.DataFrame({column.name: pd.Categorical(labels[cells], order)}, index=adata.obs_names[cells].astype(str))
    each = genes.drop_duplicates("shown")
    panels = [AnnData(_read_observed(adata, key, each["column"].to_numpy())[cells], obs=obs.copy())]
    if imputed is not None:
        panels.append(AnnData(get_imputed(adata, each["gene"].tolist(), key=imputed).X[cells], obs=obs.copy()))
    for panel in panels:
        panel.var_names = each["shown"]
    groups = {label: rows["shown"].tolist() for label, rows in genes.groupby("label", sort=False)}
    unit = "expression, mean\n(log scale)" if adata.uns.get(key, {}).get("scale", "log") == "log" else COUNTS
    style = {
        "unit": unit,
        "var_names": groups,
        "groupby": column.name,
        "categories_order": order,
        "cmap": cmap,
        **kwargs,
    }
    axes = _make_axes(axes, len(panels), len(genes), order, figsize)
    drawn = np.array([_draw(*args, **style) for args in zip(panels, axes, (True, False), strict=False)], dtype=object)
    if show:
        plt.show()
    return drawn


def _find_genes(adata: AnnData, markers: Markers, key: str, *, with_unmeasured: bool) -> pd.DataFrame:
    """Find the genes of markers, one row for each label and gene.

    Columns: `label`; `gene`, the name to look an imputed one up with; `column` in the matrix, -1 for unmeasured genes;
    and `shown`, the name in the plot.
    """
    record = adata.uns.get(key, {}).get("params", {}).get("gene_names", NONE)
    names = read_names(adata, record if record in adata.var else None).astype(str).tolist()
    ids = to_ensembl(names).ensembl_ids
    # Of several columns with one name or gene, the first.
    column_of = {gene: number for number, gene in reversed([*enumerate(ids), *enumerate(names)]) if gene}
    table = marker_table(markers, {name: gene for name, gene in zip(names, ids, strict=True) if gene})
    read = read_marker_names(table["gene"][table["gene"] != ""])
    rows, lost = [], []
    for label, name in zip(table["label"], table["gene"], strict=True):
        if name in column_of:
            found = [name]  # the name of a column is that gene, also where it is no known one
        else:
            found = list(read[name].ensembl_ids) if name in read and read[name].is_found else []
        for gene in found:
            number = column_of.get(gene, -1)
            if number >= 0:
                rows.append((label, str(adata.var_names[number]), number, str(adata.var_names[number])))
            elif with_unmeasured:
                rows.append((label, gene, -1, f"{symbols_of([gene])[0] or gene} (not measured)"))
        if not any(gene in column_of or with_unmeasured for gene in found):
            lost.append(name)
    if lost:
        advice = "" if with_unmeasured else " imputed= plots unmeasured genes that were imputed."
        logger.warning("markers: not plotted, as they were not measured or not known: %s.%s", _listed(lost), advice)
    if not any(number >= 0 for _, _, number, _ in rows):
        msg = f"markers: none of {_listed(table['gene'])} was measured in adata; give markers that were measured."
        raise ValueError(msg)
    return pd.DataFrame(rows, columns=["label", "gene", "column", "shown"]).drop_duplicates(["label", "shown"])


def _listed(names: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, names)))


def _read_observed(adata: AnnData, key: str, columns: np.ndarray) -> np.ndarray:
    """Read normalised values, (cells, columns); zeros, which have no dots, for unmeasured genes."""
    values = read_observed(adata, key, np.maximum(columns, 0), values="lognorm")
    return np.asarray(np.where(columns < 0, 0, values))


def _make_axes(
    axes: np.ndarray | None, n_panels: int, n_genes: int, labels: list[str], figsize: tuple[float, float] | None
) -> np.ndarray:
    """Return axes for panels of genes x labels."""
    import matplotlib.pyplot as plt

    if axes is None:
        # Inches; names of genes stand below each panel.
        left = 0.5 + CHARACTER * max(map(len, labels))
        width, height = figsize or (left + 3 + 0.4 * n_genes, n_panels * (ABOVE + 1.0 + 0.32 * len(labels) + BELOW))
        figure, new = plt.subplots(n_panels, 1, figsize=(width, height), squeeze=False)
        inner = (height - n_panels * (ABOVE + BELOW)) / n_panels
        figure.subplots_adjust(
            left=min(left / width, 0.4),
            right=1 - 0.2 / width,
            bottom=min(BELOW / height, 0.4),
            top=1 - min(ABOVE / height, 0.4),
            hspace=(ABOVE + BELOW) / max(inner, 0.5),
        )
        return np.asarray(new.ravel())
    axes = np.asarray(axes, dtype=object).ravel()
    if len(axes) != n_panels:
        msg = f"axes has {len(axes)} axes; expected {n_panels}, one for each panel."
        raise ValueError(msg)
    return axes


def _draw(panel: AnnData, ax: Any, is_observed: bool, *, cmap: Any, unit: str, **style: Any) -> Any:
    """Draw one panel, and return the axes with the dots or squares."""
    import scanpy as sc

    style = {"ax": ax, "use_raw": False, "title": "observed" if is_observed else "imputed", **style}
    if is_observed:
        # One scale of sizes for all data, on which a gene that is not detected has no dot.
        plot = sc.pl.DotPlot(panel, **style).style(cmap=cmap, smallest_dot=0, dot_max=1)
        plot = plot.legend(size_title="fraction of cells\nwith the gene (%)", colorbar_title=unit)
    else:
        plot = sc.pl.MatrixPlot(panel, **style).style(cmap=cmap).legend(title="imputed\nexpression, mean")
    return plot.get_axes()["mainplot_ax"]
