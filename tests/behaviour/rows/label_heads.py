"""The label head of a checkpoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from behaviour.plain import Scene
from behaviour.row import Group
from behaviour.rows.faults import command
from scanpy_sct.checkpoints import LabelHead, load_model
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier
from scanpy_sct.read.genes import to_ensembl

ROWS = Group(
    "Label heads",
    notes=(
        "Cells that are farther from all labels than the cells that the head was fitted to get a high novelty and are "
        "`unknown`; where many are, a warning lists what the head knows ([training](training.md#fit-a-label-head)).",
    ),
)
HERE = ("label head",)


@ROWS.refused(
    "neither reference nor markers, and a checkpoint without a label head",
    "pass a reference or markers, or fit a label head",
    ValueError,
    "The model 'tiny'",
    "has no label head",
    r"pass reference= and labels_key= .* or markers= .*sct\.train\.fit_label_head",
    on=HERE,
)
def no_label_head(scene: Scene) -> None:
    scene.reference = None


@ROWS.warns(
    "a label head of an earlier version, without a record of the cells that it was fitted to",
    "it is applied; the warning lists its labels and the alternatives",
    "no record of the cells",
    "It knows: a; b. For other cells, pass reference=",
    on=HERE,
    in_report=False,
)
def no_home(scene: Scene) -> None:
    width = 16  # of the small network
    zeros, ones = np.zeros((2, width), dtype=np.float32), np.ones(width, dtype=np.float32)
    head = LabelHead(("a", "b"), EmbeddingClassifier(zeros, zeros[:, 0], zeros[0], ones))
    scene.model = replace(scene.model, label_head=head)


@ROWS.refused(
    "a label head that reads genes which the object lacks",
    "at least ten of its markers are needed; a warning says so where it lacks half of them",
    ValueError,
    "adata has 0 of the 84 marker genes",
    "the label head of 'sct-mini' reads; at least 10 are needed",
    r"Check the gene names, or pass reference= .* or markers=",
    on=HERE,
)
def no_markers_of_the_head(scene: Scene) -> None:
    scene.model = load_model("sct-mini")
    markers = scene.model.genes[scene.model.label_head.classifier.marker_index]
    scene.adata = scene.adata[:, ~np.isin(to_ensembl(scene.adata.var_names).ensembl_ids, markers)].copy()


@ROWS.refused(
    "`sct annotate` without `--reference`, `--markers` or `--label-head`",
    "a label head is never used unasked",
    ValueError,
    "--label-head",
    "Labels come from one source, found none",
    "give --reference and --labels-key .* or --markers",
    on=("command",),
)
def command_without_source(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    command(scene, "annotate")
