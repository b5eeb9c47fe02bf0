"""Draw the picture of README: one gene observed and imputed, and the annotated tissue, on a section of a breast tumour.

    python scripts/readme_picture.py

The data are section H1 of Andersson et al., Nature Communications 12, 6012 (2021), CC BY 4.0; they are downloaded from
the authors when the script is run for the first time.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

import scanpy_sct as sct

FILE = Path(__file__).resolve().parents[1] / "docs" / "images" / "readme.png"
MODEL = "sct-mini"
GENES = ("KRT8", "CD3E")
MARKERS = {
    "tumour": ["ERBB2", "KRT8", "KRT18", "EPCAM"],
    "connective tissue": ["COL1A1", "COL3A1", "DCN", "LUM"],
    "immune": ["CD3E", "CD3D", "MS4A1", "CD79A", "PTPRC"],
    "adipose": ["ADIPOQ", "PLIN1", "FABP4", "PLIN4"],
}
# Colours of Okabe and Ito, which people with any kind of colour vision can tell apart; the same tissue has one colour.
COLORS = {
    "invasive cancer": "#D55E00",
    "tumour": "#D55E00",
    "cancer in situ": "#CC79A7",
    "connective tissue": "#0072B2",
    "immune infiltrate": "#E8C500",
    "immune": "#E8C500",
    "adipose tissue": "#009E73",
    "adipose": "#009E73",
    "breast glands": "#56B4E9",
}
OTHERS = ("undetermined", "unknown")
GREY = "#C8C8C8"


def main() -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    adata = sct.datasets.her2st("H1")
    sct.settings.progress = False
    sct.tl.impute(adata, model=MODEL)
    sct.tl.annotate(adata, markers=MARKERS, model=MODEL)
    plt.rcParams["font.size"] = 8
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 4.8), layout="constrained")
    for row, gene in zip(axes, GENES, strict=True):
        draw_gene(figure, row, adata, gene)
    draw_categories(axes[0, 2], adata, "region", "regions named by a pathologist")
    draw_categories(axes[1, 2], adata, "sct_label", "labels from marker genes")
    figure.savefig(FILE, dpi=110)
    # 256 colours are enough, and need half of the space.
    Image.open(FILE).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE).save(FILE, optimize=True)


def draw_gene(figure, axes, adata, gene: str) -> None:
    measured = adata[:, gene]
    observed = np.log1p(measured.X.toarray().ravel())
    imputed = np.asarray(measured.layers["sct"]).ravel()
    recovery = adata.var.loc[gene, "sct_recovery"]
    for axis, values, title in (
        (axes[0], observed, f"{gene}, observed"),
        (axes[1], imputed, f"{gene}, imputed (recovery {recovery:.2f})"),
    ):
        dots = points(axis, adata, c=values, cmap="viridis", vmin=0, vmax=np.quantile(values, 0.99))
        axis.set_title(title, fontsize=10)
        bar = figure.colorbar(dots, ax=axis, shrink=0.75)
        bar.ax.set_title("log1p\n(counts)", fontsize=7)


def draw_categories(axis, adata, key: str, title: str) -> None:
    labels = adata.obs[key]
    for name in filter(set(labels).__contains__, [*COLORS, *OTHERS]):
        points(axis, adata, (labels == name).to_numpy(), color=COLORS.get(name, GREY), label=name)
    axis.set_title(title, fontsize=10)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8, markerscale=1.2)


def points(axis, adata, chosen=slice(None), **how):
    x, y = adata.obsm["spatial"][chosen].T
    axis.set_aspect("equal")
    axis.set_axis_off()
    dots = axis.scatter(x, y, s=17, linewidths=0, **how)
    low, high = adata.obsm["spatial"].min(axis=0), adata.obsm["spatial"].max(axis=0)
    axis.set_xlim(low[0] - 300, high[0] + 300)
    axis.set_ylim(high[1] + 300, low[1] - 300)
    return dots


if __name__ == "__main__":
    main()
