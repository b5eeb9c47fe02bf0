"""Code as users write it; it is not run, but `mypy` checks it against the signatures of the package.

A line with `type: ignore` shows a wrong call; mypy reports the comment as unused if it no longer sees the error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, assert_type

import pandas as pd
from anndata import AnnData

import scanpy_sct as sct

POLICIES: tuple[Literal["auto", "spatial", "similar", "random"], ...] = ("auto", "spatial", "similar", "random")


def settings() -> None:
    """Settings are typed, and take paths as strings."""
    sct.settings.device = "cuda:1"
    sct.settings.cache_dir = "cache"
    assert_type(sct.settings.cache_dir, Path)
    assert_type(sct.settings.progress, bool)
    assert_type(sct.__version__, str)
    sct.settings.progress = "no"  # type: ignore[assignment]
    sct.settings.precision = "half"  # type: ignore[assignment]


def check(adata: AnnData) -> None:
    """Reports have typed fields."""
    report = sct.pp.check(adata, library_key="sample", bags="spatial", precision="float32")
    assert_type(report, sct.pp.Report)
    assert_type(report.n_bags, int)
    sct.pp.check(adata, bags="nearest")  # type: ignore[arg-type]
    sct.pp.check(adata, precision="double")  # type: ignore[arg-type]


def impute(adata: AnnData) -> None:
    """Options of the imputation."""
    sct.tl.impute(adata)
    sct.tl.impute(adata, ["ERBB2", "CD14"], model="sct-mini", hide="mask", batch_size=4, rng=None)
    for policy in POLICIES:
        sct.tl.impute(adata, bags=policy)
    sct.tl.impute(adata, bags="nearest")  # type: ignore[arg-type]
    sct.tl.impute(adata, precision="double")  # type: ignore[arg-type]
    sct.tl.impute(adata, batch_size="large")  # type: ignore[arg-type]
    sct.tl.impute(adata, path="direct")  # type: ignore[call-arg]
    sct.tl.impute(adata, None, "sct-mini")  # type: ignore[call-arg]


def embed(adata: AnnData) -> None:
    """Options of the embedding."""
    sct.tl.embed(adata, model=Path("folder"), bags="random", copy=True)
    sct.tl.embed(adata, bags="nearest")  # type: ignore[arg-type]
    sct.tl.embed(adata, source="cell")  # type: ignore[call-arg]


def annotate(adata: AnnData, reference: AnnData) -> None:
    """Options of the annotation."""
    sct.tl.annotate(adata, reference=reference, labels_key="cell_type", threshold=0.8)
    sct.tl.annotate(adata, markers={"B": ["CD79A", "MS4A1"]})
    sct.tl.annotate(adata, bags="nearest")  # type: ignore[arg-type]
    sct.tl.annotate(adata, threshold="high")  # type: ignore[arg-type]


def results(adata: AnnData) -> None:
    """Results and figures."""
    sct.get.imputed(adata, ["ERBB2"], key="sct")
    sct.pl.recovery(adata, n_genes=3).set_title("recovery")
    sct.pl.label_confidence(adata).set_title("labels")
    sct.pl.confusion(adata, "cell_type").set_title("labels")
    sct.pl.marker_dots(adata, {"B": ["CD79A"], "T": ["CD3D"]}, vmax=3)[0].set_title("markers")
    sct.pl.imputed(adata, "ERBB2", basis="spatial", vmax=3)
    sct.get.imputed(adata, 3)  # type: ignore[arg-type]


def checkpoints() -> None:
    """Checkpoints by name, and what they are made of."""
    checkpoint = sct.load_model("sct-mini")
    assert_type(checkpoint, sct.checkpoints.Checkpoint)
    assert_type(checkpoint.name, str)
    assert_type(sct.models.describe("sct-mini"), str)
    table: pd.DataFrame = sct.models.list()
    table.sort_values("parameters")
    sct.load_model(3)  # type: ignore[arg-type]


def train(adata: AnnData) -> None:
    """Training."""
    sct.train.finetune("sct-mini", adata, sct.train.FinetuneConfig(steps=10))
    assert_type(sct.train.pretrain(["a.h5ad"], sct.train.PretrainConfig(), "folder"), Path)
    sct.train.FinetuneConfig(steps="ten")  # type: ignore[arg-type]
