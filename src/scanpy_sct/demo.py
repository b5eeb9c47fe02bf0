"""Run the main functions on real cells that come with scanpy, and on a tissue section if requested."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import scanpy_sct as sct

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

UNMEASURED = ("CD14", "CD19", "CD68", "SELL", "KLRD1")
"""Genes of blood cells that the data lack."""
PLOTTED = ("CD3E", "MS4A1")
LABELS = "bulk_labels"
SECTION = "G2"
PLOTTED_ON_TISSUE = ("ERBB2", "COL1A1")
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
    ids = to_ensembl(UNMEASURED).ensembl_ids
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
    echo(f"Correlation of measured with imputed values, median of {len(recovery)} genes: {recovery.median():.2f}")
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
    figure = sct.pl.imputed(adata, plotted, basis="spatial")[0, 0].figure
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
        "imputed.png": sct.pl.imputed(adata, known, basis="umap")[0, 0].figure,
        "recovery.png": sct.pl.recovery(adata).figure,
        "labels.png": _plot_labels(query),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=120, bbox_inches="tight")
        plt.close(figure)
    return list(figures)


def _plot_labels(query: AnnData) -> Figure:
    """Plot true labels, predicted labels and their probabilities side by side."""
    import matplotlib.pyplot as plt
    import scanpy as sc
    from matplotlib.lines import Line2D

    figure, axes = plt.subplots(1, 3, figsize=(16, 4.2), layout="constrained", width_ratios=[1, 1, 0.7])
    given = query.obs[LABELS]
    palette = dict(zip(given.cat.categories, query.uns[f"{LABELS}_colors"], strict=True)) | {"unknown": "lightgrey"}
    shared = {"palette": palette, "show": False, "size": 40, "legend_loc": "none"}
    sc.pl.umap(query, color=LABELS, ax=axes[0], title="true labels", **shared)
    sc.pl.umap(query, color="sct_label", ax=axes[1], title="predicted labels", **shared)
    shown = [*given.cat.categories, *(["unknown"] if "unknown" in set(query.obs["sct_label"]) else [])]
    dots = [Line2D([], [], marker="o", linestyle="", color=palette[label], label=label) for label in shown]
    axes[1].legend(handles=dots, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    sct.pl.label_confidence(query, ax=axes[2])
    return figure
