"""A walk through the verbs on real cells that come with scanpy, without network, and on a section of tissue."""

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

    from scanpy_sct.checkpoints.checkpoint import Checkpoint

UNMEASURED = ("CD14", "CD19", "CD68", "SELL", "KLRD1")
"""Well-known genes of blood cells that are not among the 765 of the data."""
PICTURED = ("CD3E", "MS4A1")
LABELS = "bulk_labels"
SECTION = "G2"
PICTURED_ON_TISSUE = ("ERBB2", "COL1A1")
QUICK_SHARE = 3

Say = Callable[[str], None]


def run_demo(
    output: str | PathLike[str],
    quick: bool = False,
    *,
    section: bool = False,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    spatial_model: str | PathLike[str] | Checkpoint = "sct-mini-spatial",
    say: Say | None = None,
) -> None:
    """Check, impute, embed and annotate 700 blood cells, tell how well it went, and leave results and pictures.

    Parameters
    ----------
    output
        Folder for `demo.h5ad`, `imputed.png`, `recovery.png` and `labels.png`; made if it is not there.
    quick
        Take every third cell only; a section is taken whole.
    section
        Impute a section of a breast tumour too, which is downloaded once, and leave `section.h5ad` and `section.png`.
    model, spatial_model
        As in :func:`scanpy_sct.load_model`; for the cells, and for the section.
    say
        Called with each line of text; by default it goes to the terminal.
    """
    if say is None:
        import typer

        say = typer.echo
    started = time.monotonic()
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = sct.load_model(model)
    tissue = (sct.datasets.her2st(SECTION), sct.load_model(spatial_model)) if section else None
    adata = sct.datasets.pbmc68k()
    adata = adata[:: QUICK_SHARE if quick else 1].copy()
    say(f"{adata.n_obs} blood cells x {adata.n_vars} genes from scanpy (10x Genomics, Zheng et al. 2017).\n")

    say("sct.pp.check(adata)")
    say(f"{sct.pp.check(adata, model=checkpoint)}\n")
    unmeasured = _impute(adata, checkpoint, say)
    _embed(adata, checkpoint, say)
    query = _annotate(adata, checkpoint, say)

    adata.obs["sct_label"] = query.obs["sct_label"].reindex(adata.obs_names)
    adata.obs["sct_label_score"] = query.obs["sct_label_score"].reindex(adata.obs_names)
    adata.write_h5ad(folder / "demo.h5ad")
    names = _draw(adata, query, [*PICTURED, *unmeasured[:1]], folder)
    names.insert(0, "demo.h5ad")
    if tissue:
        names += _on_tissue(*tissue, folder, say)
    say(f"Wrote {', '.join(names)} to {folder} ({time.monotonic() - started:.0f} s in all).")


def _impute(adata: AnnData, checkpoint: Checkpoint, say: Say) -> list[str]:
    """Impute, and tell how well hidden entries were predicted; returns the unmeasured genes that were asked for."""
    from scanpy_sct.read.genes import match_genes, to_ensembl

    # Asking for genes by name means all that are wanted, so the measured ones are named too.
    measured = adata.var_names[match_genes(adata.var_names, checkpoint.genes).columns].tolist()
    ids = to_ensembl(UNMEASURED).ensembl_ids
    unmeasured = [gene for gene, known in zip(UNMEASURED, np.isin(ids, checkpoint.genes), strict=True) if known]
    say(f"sct.tl.impute(adata, genes=[... the {len(measured)} measured, and {', '.join(unmeasured)}])")
    sct.tl.impute(adata, measured + unmeasured, model=checkpoint)

    _tell_recovery(adata, say)
    return unmeasured


def _tell_recovery(adata: AnnData, say: Say) -> None:
    """Tell how well hidden entries were predicted, and which genes best."""
    say("Every entry was predicted while it was hidden. Is a hidden entry expressed? Area under precision-recall:")
    _list(hidden_entries(adata), say)
    recovery = adata.var["sct_recovery"].dropna().sort_values(ascending=False)
    say(f"Correlation of hidden with imputed values, median of {len(recovery)} genes: {recovery.median():.2f}")
    say(f"Best recovered: {', '.join(f'{gene} {value:.2f}' for gene, value in recovery.head(6).items())}\n")


def hidden_entries(adata: AnnData, key: str = "sct") -> dict[str, float]:
    """Area under the precision-recall curve of 'is this entry expressed?', for imputed values and simpler answers.

    The rate of a gene counts the entry in question too, which is to its advantage.
    """
    from sklearn.metrics import average_precision_score

    imputed = adata.var[f"{key}_imputed"].to_numpy()
    expressed = adata.X[:, imputed].toarray() > 0
    rate = np.broadcast_to(expressed.mean(axis=0), expressed.shape)
    scores = {"imputed values": adata.layers[key][:, imputed], "how often the gene is expressed in these cells": rate}
    result = {name: average_precision_score(expressed.ravel(), score.ravel()) for name, score in scores.items()}
    return {**result, "chance (share of entries that are expressed)": expressed.mean()}


def _embed(adata: AnnData, checkpoint: Checkpoint, say: Say) -> None:
    say("sct.tl.embed(adata)")
    sct.tl.embed(adata, model=checkpoint)
    say(f"{adata.obsm['X_sct'].shape[1]} numbers for each cell in .obsm['X_sct'].\n")


def _annotate(adata: AnnData, checkpoint: Checkpoint, say: Say) -> AnnData:
    """Name one half of the cells by the labels of the other half, and tell how often that is right."""
    second = is_second_half(adata.obs[LABELS])
    reference, query = adata[~second].copy(), adata[second].copy()
    truth = query.obs[LABELS].astype(str)
    query.obs = query.obs.drop(columns=LABELS)
    say(f"sct.tl.annotate(query, reference=reference, labels_key={LABELS!r})")
    say(f"The labels of {reference.n_obs} cells name the other {query.n_obs}.")
    sct.tl.annotate(query, reference=reference, labels_key=LABELS, model=checkpoint)
    named = query.obs["sct_label"].astype(str)
    largest = reference.obs[LABELS].value_counts().index[0]
    _list(
        {
            "right names": np.mean(named == truth),
            f"right if all were called {largest}, the largest class": np.mean(truth == largest),
            "called unknown": np.mean(named == "unknown"),
        },
        say,
    )
    say("")
    query.obs[LABELS] = adata.obs[LABELS][second]
    return query


def _on_tissue(adata: AnnData, checkpoint: Checkpoint, folder: Path, say: Say) -> list[str]:
    """Impute a section and draw some genes on it; returns the names of the files."""
    import matplotlib.pyplot as plt

    say(f"{adata.n_obs} spots x {adata.n_vars} genes of a breast tumour (Andersson et al. 2021).")
    say(f"sct.tl.impute(adata, model={checkpoint.name!r})")
    sct.tl.impute(adata, model=checkpoint)
    _tell_recovery(adata, say)
    adata.write_h5ad(folder / "section.h5ad")
    drawn = [gene for gene in PICTURED_ON_TISSUE if gene in adata.var_names[adata.var["sct_imputed"]]]
    figure = sct.pl.imputed(adata, drawn, basis="spatial")[0, 0].figure
    figure.savefig(folder / "section.png", dpi=120, bbox_inches="tight")
    plt.close(figure)
    return ["section.h5ad", "section.png"]


def _list(numbers: dict[str, float], say: Say) -> None:
    for name, value in numbers.items():
        say(f"  {name:<60} {value:.3f}")


def is_second_half(labels: pd.Series) -> np.ndarray:
    """Take every second cell of each label; (cells,) bool."""
    return (labels.groupby(labels, observed=True).cumcount() % 2 == 1).to_numpy()


def _draw(adata: AnnData, query: AnnData, genes: Sequence[str], folder: Path) -> list[str]:
    """Draw the three pictures; returns their file names."""
    import matplotlib.pyplot as plt

    known = [gene for gene in genes if gene not in adata.var_names or adata.var.loc[gene, "sct_imputed"]]
    figures = {
        "imputed.png": sct.pl.imputed(adata, known, basis="umap")[0, 0].figure,
        "recovery.png": sct.pl.recovery(adata).figure,
        "labels.png": _draw_labels(query),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=120, bbox_inches="tight")
        plt.close(figure)
    return list(figures)


def _draw_labels(query: AnnData):
    """Given labels, names found and how sure these are, side by side; one colour means one label in both maps."""
    import matplotlib.pyplot as plt
    import scanpy as sc

    figure, axes = plt.subplots(1, 3, figsize=(16, 4.2), layout="constrained", width_ratios=[1, 1, 0.7])
    given = query.obs[LABELS]
    palette = dict(zip(given.cat.categories, query.uns[f"{LABELS}_colors"], strict=True)) | {"unknown": "lightgrey"}
    shared = {"palette": palette, "show": False, "size": 40, "legend_loc": "none"}
    sc.pl.umap(query, color=LABELS, ax=axes[0], title="labels given", **shared)
    sc.pl.umap(query, color="sct_label", ax=axes[1], title="names found", **shared)
    shown = [*given.cat.categories, *(["unknown"] if "unknown" in set(query.obs["sct_label"]) else [])]
    dots = [plt.Line2D([], [], marker="o", linestyle="", color=palette[label], label=label) for label in shown]
    axes[1].legend(handles=dots, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    sct.pl.label_confidence(query, ax=axes[2])
    return figure
