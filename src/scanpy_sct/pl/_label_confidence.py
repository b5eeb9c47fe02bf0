from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from scanpy_sct.keys import AnnotationKeys
from scanpy_sct.pl._common import check_annotation
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import as_series

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def label_confidence(
    adata: AnnData, *, key: str = "sct_label", ax: Axes | None = None, show: bool = False, **kwargs: Any
) -> Axes:
    """Plot the score of the cells, one box per label.

    Parameters
    ----------
    adata
        Cells x genes, after :func:`scanpy_sct.tl.annotate`.
    key
        The `key_added` of :func:`scanpy_sct.tl.annotate`.
    ax
        Axes to use; by default those of a new figure.
    show
        Show the figure.
    kwargs
        Passed to :meth:`matplotlib.axes.Axes.boxplot`.

    Returns
    -------
    The axes: labels with their numbers of cells, that with the highest median on top. The dotted line is the threshold
    below which cells are `"unknown"`.

    Raises
    ------
    KeyError
        There is no such result.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.annotate(adata, reference=adata, labels_key="bulk_labels")
    >>> ax = sct.pl.label_confidence(adata)
    """
    import matplotlib.pyplot as plt

    check_is_anndata(adata)
    keys = AnnotationKeys.of(key)
    check_annotation(adata, key, keys.labels, keys.score)
    label, score = (as_series(adata.obs[name]) for name in (keys.labels, keys.score))
    table = pd.DataFrame({"label": label.astype(object), "score": score}).dropna()
    scores = table.groupby("label")["score"]
    labels = scores.median().sort_values(kind="stable").index
    groups = [scores.get_group(label).to_numpy() for label in labels]
    names = [f"{label} ({len(group):,})" for label, group in zip(labels, groups, strict=True)]

    if ax is None:
        ax = plt.subplots(figsize=(6.0, 1.2 + 0.32 * len(groups)), layout="constrained")[1]
    style: dict[str, Any] = {
        "patch_artist": True,
        "boxprops": {"facecolor": "lightsteelblue"},
        "medianprops": {"color": "black"},
    }
    style |= {"flierprops": {"marker": ".", "markersize": 3, "alpha": 0.5}, "widths": 0.6}
    ax.boxplot(groups, orientation="horizontal", tick_labels=names, **style | kwargs)
    threshold = adata.uns.get(key, {}).get("params", {}).get("threshold")
    if threshold is not None:
        ax.axvline(threshold, color="grey", linewidth=1, linestyle=":")
    ax.set(xlabel="probability of the label", xlim=(0, 1.02))
    if show:
        plt.show()
    return ax
