"""Labels of a reference."""

from __future__ import annotations

import numpy as np
import pandas as pd

from behaviour.plain import Scene
from behaviour.row import Group

ROWS = Group(
    "Labels",
    notes=(
        "Labels with `/` in them are kept in `.obs`; in the columns of `.obsm` the `/` becomes `|`, since files cannot "
        "hold it.",
    ),
)
HERE = ("annotate",)


def relabel(scene: Scene, first: object, n: int = 4) -> None:
    """Give the first cells of the reference another label."""
    labels = scene.reference.obs["bulk_labels"].astype(object)
    labels.iloc[:n] = first
    scene.reference.obs["bulk_labels"] = labels


@ROWS.same("labels as strings, categories, or categories of which some have no cells", on=HERE)
def unused_categories(scene: Scene) -> None:
    labels = scene.reference.obs["bulk_labels"]
    scene.reference.obs["bulk_labels"] = labels.cat.add_categories(["Plasma"])


@ROWS.refused(
    "cells without a label (NaN, `None`)",
    "says how many",
    ValueError,
    r"reference\.obs\['bulk_labels'\]",
    "4 of 60 cells have no label",
    "remove these cells",
    on=HERE,
)
def missing(scene: Scene) -> None:
    relabel(scene, np.nan)


@ROWS.refused(
    "a label `unknown`",
    "it is reserved for cells that fit no label",
    ValueError,
    r"reference\.obs\['bulk_labels'\]",
    "'Unknown' is reserved",
    "rename it, or remove these cells",
    on=HERE,
)
def reserved(scene: Scene) -> None:
    relabel(scene, "Unknown")


@ROWS.refused(
    "labels that differ in `/` and `|` only",
    "in the columns of `.obsm`, `/` becomes `|`, since files cannot hold it",
    ValueError,
    r"reference\.obs\['bulk_labels'\]",
    r"would become the same in a file: \['T\|NK'\]",
    "rename them",
    on=HERE,
)
def slashes(scene: Scene) -> None:
    labels = scene.reference.obs["bulk_labels"].astype(object)
    labels.iloc[:8] = ["T/NK", "T|NK"] * 4
    scene.reference.obs["bulk_labels"] = labels


@ROWS.refused(
    "fewer than two labels with 3 or more cells",
    "",
    ValueError,
    r"reference\.obs\['bulk_labels'\]",
    r"found B \(60\)",
    "at least two labels with 3 or more cells",
    on=HERE,
)
def one_label(scene: Scene) -> None:
    scene.reference.obs["bulk_labels"] = "B"


@ROWS.refused(
    "`labels_key` is not a column of `reference.obs`",
    "lists the columns",
    KeyError,
    "labels_key='cell_type'",
    r"not a column of reference\.obs",
    "there are: 'bulk_labels'",
    on=HERE,
)
def no_such_column(scene: Scene) -> None:
    scene.arguments["labels_key"] = "cell_type"


@ROWS.warns(
    "labels of fewer than 3 cells",
    "left out",
    "labels with fewer than 3 cells are left out, and no cell gets them: rare",
    on=HERE,
    in_report=False,
)
def rare(scene: Scene) -> None:
    relabel(scene, "rare", 2)


def _codes(scene: Scene, dtype: type) -> None:
    scene.reference.obs["bulk_labels"] = pd.Series(
        scene.reference.obs["bulk_labels"].cat.codes.astype(dtype), scene.reference.obs_names
    )


@ROWS.same("numbers as labels", "they become strings", than=lambda scene: _codes(scene, str), on=HERE)
def numbers(scene: Scene) -> None:
    _codes(scene, np.int64)


@ROWS.refused(
    "texts that mean no label (`nan`, `NA`, `None`, `unassigned`, blanks, ...)",
    "as missing labels: remove these cells, or rename the label if it is a cell type",
    ValueError,
    r"reference\.obs\['bulk_labels'\]",
    r"5 of 60 cells have no label \('nan': 3, ' ': 2\)|5 of 60 cells have no label",
    "remove these cells, or rename the label if it is a cell type",
    on=HERE,
)
def texts_without_label(scene: Scene) -> None:
    relabel(scene, "nan", 5)
    scene.reference.obs.iloc[3:5, 0] = " "


@ROWS.refused(
    "labels that differ in spaces only",
    "give them one name",
    ValueError,
    r"reference\.obs\['bulk_labels'\]",
    "labels differ only in spaces: 'CD19\\+ B' and 'CD19\\+  B'|labels differ only in spaces",
    "give them one name",
    on=HERE,
)
def spaces(scene: Scene) -> None:
    relabel(scene, "CD19+ B ", 6)


@ROWS.warns(
    "labels that differ in capital letters, hyphens or spaces between words only",
    "different labels; the warning names them",
    "differ only in capital letters, spaces or hyphens, and are different labels",
    on=HERE,
    in_report=False,
)
def capitals(scene: Scene) -> None:
    relabel(scene, "cd19+ B", 6)


@ROWS.warns(
    "labels such as `doublet`, `other`, `low quality`",
    "labels like any other; the warning names them",
    "'doublet' is read as a label like any other",
    on=HERE,
    in_report=False,
)
def vague(scene: Scene) -> None:
    relabel(scene, "doublet", 6)
