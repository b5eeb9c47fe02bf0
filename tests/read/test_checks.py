from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.read.checks import ScaleCheck, check_is_anndata, check_not_empty


def matrix(*rows):
    return sparse.csr_matrix(np.array(rows, dtype=np.float32))


@pytest.mark.parametrize(
    ("scale", "bad", "message"),
    [
        ("counts", 1.5, r"values that are not integers \(such as 1\.5\) in row 7, .* first hold counts"),
        ("log", 30, r"values above 20 \(such as 30\) in row 7, .* first hold logarithms"),
    ],
)
def test_values_of_another_scale_are_named(scale, bad, message):
    cells = matrix([1, 2], [bad, 3])
    with pytest.raises(ValueError, match=message):
        ScaleCheck("adata.X", scale).check(cells, np.array([4, 7]))
    assert ScaleCheck("adata.X", scale, given="counts").check(cells, None) is cells
    assert ScaleCheck("adata.X", "linear").check(cells, None) is cells
    possible = matrix([20, 1])
    assert ScaleCheck("adata.X", scale).check(possible, None) is possible
    not_genes = np.array([True, False])
    assert ScaleCheck("adata.X", scale, not_genes=not_genes).check(cells, None) is cells


class MuData:
    __module__ = "mudata._core.mudata"
    mod: ClassVar = {"prot": None, "rna": None}


class SpatialData:
    __module__ = "spatialdata._core.spatialdata"
    tables: ClassVar = {}


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (MuData(), "found MuData. Pass one of its modalities: `mdata.mod['prot']` or `mdata.mod['rna']`."),
        (SpatialData(), "found SpatialData. Pass one of its tables: sdata.tables has none."),
        ("x.h5ad", "found str. Read the file first: `scanpy.read_h5ad('x.h5ad')`."),
        (np.ones((2, 2)), "Convert cells x genes with `anndata.AnnData(matrix)`, and set its `.var_names`"),
        (pd.DataFrame(), "Convert cells x genes with `anndata.AnnData(df)`."),
        ({}, "found dict. Read your data with scanpy first"),
    ],
)
def test_other_objects_are_refused_with_what_to_pass_instead(found, advice):
    with pytest.raises(TypeError, match="reference must be an AnnData, .*" + re.escape(advice)):
        check_is_anndata(found, "reference")


def test_empty_cells_are_counted():
    check_not_empty(matrix([0, 1]), "adata.X", 1)
    with pytest.raises(ValueError, match=r"all 2 x 3 are zero\. Pass the layer"):
        check_not_empty(matrix([0, 0, 0], [0, 0, 0]), "adata.X", 2)
    with pytest.raises(
        ValueError, match=r"all 2 x 3 are zero, in cells drawn from 5,000\. Pass the layer .* `reference_layer=`"
    ):
        check_not_empty(matrix([0, 0, 0], [0, 0, 0]), "reference.X", 5000, "reference_layer")
