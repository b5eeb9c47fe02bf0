"""Run the main functions on real cells that come with scanpy, and on a tissue section if requested."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import scanpy_sct as sct
from scanpy_sct.impute.recovery import TRUSTED

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

UNMEASURED = {
    "CD14": "monocytes",
    "CD19": "B cells",
    "CD68": "monocytes and dendritic cells",
    "SELL": "naive T cells",
    "KLRD1": "NK cells",
}
"""Genes of blood cells that the data lack, and the cells that they mark."""
PLOTTED = {"CD3E": "T cells", "MS4A1": "B cells"}
LABELS = "bulk_labels"
SECTION = "G2"
PLOTTED_ON_TISSUE = {"ERBB2": "HER2-positive tumour", "COL1A1": "connective tissue"}
QUICK_STEP = 3

Echo = Callable[[str], None]


def run_demo(
    output: str | PathLike[str],
    quick: bool = False,
    *,
    section: bool = False,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    echo: Echo | None = None,
) -> None:
    """Check, impute, embed and annotate 700 blood cells; report the accuracy, and write results and figures.

    Parameters
    ----------
    output
        Folder for `demo.h5ad`, `imputed.png`, `recovery.png` and `labels.png`; created if it does not exist.
    quick
        Use every third cell of the blood cells only.
    section
        Also impute a section of a breast tumour, which is downloaded once, and write `section.h5ad` and `section.png`.
    model
        Checkpoint, see :func:`scanpy_sct.load_model`.
    echo
        Called with each line of text; `None`: print to the terminal.
    """
    if echo is None:
        import typer

        echo = typer.echo
    started = time.monotonic()
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = sct.load_model(model)
    tissue = (sct.datasets.her2st(SECTION), checkpoint) if section else None
    adata = sct.datasets.pbmc68k()
    adata = adata[:: QUICK_STEP if quick else 1].copy()
    echo(f"{adata.n_obs} blood cells x {adata.n_vars} genes from scanpy (10x Genomics, Zheng et al. 2017).\n")

    echo("sct.pp.check(adata)")
    echo(f"{sct.pp.check(adata, model=checkpoint)}\n")
    unmeasured = _impute(adata, checkpoint, echo)
    _embed(adata, checkpoint, echo)
    query = _annotate(adata, checkpoint, echo)

    for name in ("sct_label", "sct_label_score"):
        adata.obs[name] = query.obs[name].reindex(adata.obs_names)
    adata.write_h5ad(folder / "demo.h5ad")
    names = ["demo.h5ad", *_plot(adata, query, [*PLOTTED, *unmeasured[:1]], folder)]
    if tissue:
        names += _impute_section(*tissue, folder, echo)
    echo(f"Wrote {', '.join(names)} to {folder} ({time.monotonic() - started:.0f} s in all).")


def _impute(adata: AnnData, checkpoint: Checkpoint, echo: Echo) -> list[str]:
    """Impute all measured genes and some that are not; returns the latter."""
    from scanpy_sct.read.genes import match_genes, to_ensembl

    # With genes=, only the requested genes are imputed, so the measured ones are requested as well.
    measured = adata.var_names[match_genes(adata.var_names, checkpoint.genes).columns].tolist()
    ids = to_ensembl(list(UNMEASURED)).ensembl_ids
    unmeasured = [gene for gene, known in zip(UNMEASURED, np.isin(ids, checkpoint.genes), strict=True) if known]
    echo(f"sct.tl.impute(adata, genes=[... the {len(measured)} measured, and {', '.join(unmeasured)}])")
    sct.tl.impute(adata, measured + unmeasured, model=checkpoint)
    _report_recovery(adata, echo)
    return unmeasured


def _report_recovery(adata: AnnData, echo: Echo) -> None:
    """Report how well masked values were predicted."""
    echo("Every value was predicted while it was masked. Average precision of 'is this gene detected in this cell?':")
    _list(detection_scores(adata), echo)
    recovery = adata.var["sct_recovery"].dropna().sort_values(ascending=False)
    median, n_trusted = recovery.median(), (recovery >= TRUSTED).sum()
    echo(f"Correlation of measured with imputed values (recovery), median of {len(recovery)} genes: {median:.2f}")
    echo(f"Genes that can be trusted (recovery of {TRUSTED} or more): {n_trusted}")
    echo(f"Best recovered: {', '.join(f'{gene} {value:.2f}' for gene, value in recovery.head(6).items())}\n")


def detection_scores(adata: AnnData) -> dict[str, float]:
    """Return the average precision of 'is this gene detected in this cell?' for imputed values and two baselines.

    The detection rate of a gene includes the value to predict, which favours this baseline.
    """
    from sklearn.metrics import average_precision_score

    imputed = adata.var["sct_imputed"].to_numpy()
    detected = adata.X[:, imputed].toarray() > 0
    rate = np.broadcast_to(detected.mean(axis=0), detected.shape)
    scores = {"imputed values": adata.layers["sct"][:, imputed], "detection rate of the gene in these cells": rate}
    result = {name: average_precision_score(detected.ravel(), score.ravel()) for name, score in scores.items()}
    return {**result, "random order (fraction of entries that are detected)": float(detected.mean())}


def _embed(adata: AnnData, checkpoint: Checkpoint, echo: Echo) -> None:
    echo("sct.tl.embed(adata)")
    sct.tl.embed(adata, model=checkpoint)
    echo(f"A vector of {adata.obsm['X_sct'].shape[1]} numbers per cell in .obsm['X_sct'].\n")


def _annotate(adata: AnnData, checkpoint: Checkpoint, echo: Echo) -> AnnData:
    """Annotate one half of the cells from the labels of the other half, report the accuracy, and return it."""
    second = is_second_half(adata.obs[LABELS])
    reference, query = adata[~second].copy(), adata[second].copy()
    truth = query.obs[LABELS].astype(str)
    query.obs = query.obs.drop(columns=LABELS)
    echo(f"sct.tl.annotate(query, reference=reference, labels_key={LABELS!r})")
    echo(f"Labels of {query.n_obs} cells from those of the other {reference.n_obs}:")
    sct.tl.annotate(query, reference=reference, labels_key=LABELS, model=checkpoint)
    found = query.obs["sct_label"].astype(str)
    largest = reference.obs[LABELS].value_counts().index[0]
    _list(
        {
            "accuracy": np.mean(found == truth),
            f"accuracy if all were {largest}, the largest class": np.mean(truth == largest),
            "fraction of unknown cells": np.mean(found == "unknown"),
        },
        echo,
    )
    echo("")
    query.obs[LABELS] = adata.obs[LABELS][second]
    return query


def _impute_section(adata: AnnData, checkpoint: Checkpoint, folder: Path, echo: Echo) -> list[str]:
    """Impute a section and plot some genes on it; returns the file names."""
    import matplotlib.pyplot as plt

    echo(f"{adata.n_obs} spots x {adata.n_vars} genes of a breast tumour (Andersson et al. 2021).")
    echo(f"sct.tl.impute(adata, model={checkpoint.name!r})")
    sct.tl.impute(adata, model=checkpoint)
    _report_recovery(adata, echo)
    adata.write_h5ad(folder / "section.h5ad")
    plotted = [gene for gene in PLOTTED_ON_TISSUE if gene in adata.var_names[adata.var["sct_imputed"]]]
    figure = _plot_genes(adata, plotted, PLOTTED_ON_TISSUE, "spatial")
    figure.savefig(folder / "section.png", dpi=120, bbox_inches="tight")
    plt.close(figure)
    return ["section.h5ad", "section.png"]


def _list(numbers: dict[str, float], echo: Echo) -> None:
    for name, value in numbers.items():
        echo(f"  {name:<60} {value:.3f}")


def is_second_half(labels: pd.Series) -> np.ndarray:
    """Select every second cell of each label; (cells,) bool."""
    return (labels.groupby(labels, observed=True).cumcount() % 2 == 1).to_numpy()


def _plot(adata: AnnData, query: AnnData, genes: Sequence[str], folder: Path) -> list[str]:
    """Plot the three figures; returns their file names."""
    import matplotlib.pyplot as plt

    known = [gene for gene in genes if gene not in adata.var_names or adata.var.loc[gene, "sct_imputed"]]
    figures = {
        "imputed.png": _plot_genes(adata, known, {**PLOTTED, **UNMEASURED}, "umap"),
        "recovery.png": _plot_recovery(adata, [gene for gene in known if gene in adata.var_names]),
        "labels.png": _plot_labels(query),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=120, bbox_inches="tight")
        plt.close(figure)
    return list(figures)


def _plot_genes(adata: AnnData, genes: Sequence[str], marked: Mapping[str, str], basis: str) -> Figure:
    """Plot genes observed and imputed on one scale; titles name what each gene marks."""
    axes = sct.pl.imputed(adata, genes, basis=basis, shared_scale=True)
    for gene, ax in zip(genes, axes[:, 0], strict=True):
        ax.set_title(f"{ax.get_title()}\n(marks {marked[gene]})")
    units = "spots" if basis == "spatial" else "cells"
    unmeasured = "" if set(genes) <= set(adata.var_names) else "; not known for genes that were not measured"
    lines = (
        f"Expression in {adata.n_obs:,} {units}, observed and imputed; one scale for each gene",
        "Recovery: correlation of imputed with measured values, each masked when it was predicted",
        f"({TRUSTED} or more: the gene can be trusted{unmeasured})",
    )
    figure = axes[0, 0].figure
    figure.suptitle("\n".join(lines), fontsize=10)
    return figure


def _plot_recovery(adata: AnnData, genes: Sequence[str]) -> Figure:
    """Plot the recovery of all genes, with the names of the plotted ones and of the three best."""
    import matplotlib.pyplot as plt

    recovery = adata.var["sct_recovery"].dropna()
    figure, ax = plt.subplots(figsize=(7.0, 5.0), layout="constrained")
    sct.pl.recovery(adata, genes=list(dict.fromkeys([*genes, *recovery.nlargest(3).index])), ax=ax)
    ax.axhline(TRUSTED, color="tab:blue", linewidth=1, linestyle=":")
    n_trusted = (recovery >= TRUSTED).sum()
    ax.set_title(
        f"{n_trusted} of {len(recovery)} genes can be trusted: imputed values follow measured ones\n"
        f"(their correlation, the recovery, is {TRUSTED} or more: dotted line)",
        fontsize=10,
    )
    return figure


def _plot_labels(query: AnnData) -> Figure:
    """Plot known labels, predicted ones and their probabilities, and which labels are confused."""
    import matplotlib.pyplot as plt
    import scanpy as sc
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Rows are aligned each for itself, since long labels would tear the other apart.
    figure = plt.figure(figsize=(16, 11.5), layout=ConstrainedLayoutEngine(w_pad=0.12))
    parts = np.asarray(figure.subfigures(2, 1, height_ratios=[1, 1.5]))
    axes = parts[0].subplot_mosaic([["known", "found", "probability"]])
    axes |= parts[1].subplot_mosaic([["confusion", "scores"]], width_ratios=[1.4, 1])
    categories = query.obs[LABELS].cat.categories
    palette = dict(zip(categories, query.uns[f"{LABELS}_colors"], strict=True)) | {"unknown": "lightgrey"}
    shared = {"show": False, "size": 60}
    sc.pl.umap(query, color=LABELS, ax=axes["known"], palette=palette, legend_loc="none", **shared)
    sc.pl.umap(query, color="sct_label", ax=axes["found"], palette=palette, legend_loc="none", **shared)
    sc.pl.umap(query, color="sct_label_score", ax=axes["probability"], vmin=0, vmax=1, **shared)
    axes["known"].set_title("published labels")
    axes["found"].set_title("labels by sct.tl.annotate")
    axes["probability"].set_title("probability of the label")
    _add_legend(axes["known"], {label: palette[label] for label in (*categories, "unknown")})
    sct.pl.confusion(query, LABELS, ax=axes["confusion"])
    axes["confusion"].set(xlabel="labels by sct.tl.annotate", ylabel="published labels")
    sct.pl.label_confidence(query, ax=axes["scores"])
    axes["scores"].set_title('probability of each label\n(left of the dotted line: "unknown")')
    return figure


def _add_legend(ax: Axes, colors: Mapping[str, str]) -> None:
    """Write the colours of labels to the left of the axes."""
    from matplotlib.lines import Line2D

    dots = [Line2D([], [], marker="o", linestyle="", color=color, label=label) for label, color in colors.items()]
    ax.legend(handles=dots, loc="center right", bbox_to_anchor=(-0.08, 0.5), frameon=False, fontsize=9)
