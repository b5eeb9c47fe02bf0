"""Types of the values."""

from __future__ import annotations

import numpy as np

from behaviour.plain import Scene
from behaviour.row import Group

ROWS = Group("Types of values")


@ROWS.same("counts as float64", on=("impute", "embed", "check"))
def float64(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.astype(np.float64)


@ROWS.same("counts as 8-, 16-, 32- or 64-bit integers, signed or not")
def integers(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.astype(np.int64)


@ROWS.same("counts as uint16, dense", on=("embed",))
def unsigned(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray().astype(np.uint16)


@ROWS.same("half precision (float16), dense", on=("embed",))
def float16(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray().astype(np.float16)


@ROWS.same("big-endian numbers, as of FITS files or other machines", on=("embed",))
def big_endian(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray().astype(">f4")


@ROWS.same("counts that are integers up to rounding errors", "used as counts", tolerance=1e-3)
def rounding_errors(scene: Scene) -> None:
    scene.adata.X.data *= np.float32(1 + 1e-6)


@ROWS.same("numbers in a matrix of objects", on=("embed",))
def objects(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray().astype(object)


@ROWS.warns(
    "booleans", "counts of 0 and 1; a warning that these are binarised", "as after binarising", "Pass the counts"
)
def booleans(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.astype(bool)


@ROWS.refused(
    "strings in the matrix",
    "convert them to numbers",
    TypeError,
    r"adata\.X must be a matrix of numbers",
    "dtype object",
    "matrix of numbers",
)
def strings(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray().astype(object)
    scene.adata.X[3, 4] = "many"


@ROWS.refused(
    "complex numbers",
    "numpy would drop a part of them",
    TypeError,
    r"adata\.X must be a matrix of numbers",
    "complex",
    "matrix of numbers",
)
def complex_numbers(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray().astype(complex)


@ROWS.refused(
    "integers below zero, as after an overflow or a subtraction",
    "use the object from before its type was changed",
    ValueError,
    r"adata\.X",
    "negative values .*integers below zero, as after an overflow",
    "Use the object from before its type was changed",
)
def overflow(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.astype(np.int8)
    scene.adata.X.data[:2] = -120


@ROWS.refused(
    "the same, stored as floats",
    "not called scaled",
    ValueError,
    r"adata\.X",
    r"negative values .*integers below zero, as after an overflow or a subtraction",
    "Use the object from before its type was changed or values were subtracted",
)
def subtracted(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray() - 1.0
