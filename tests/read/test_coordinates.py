from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scanpy_sct.read.coordinates import read_coordinates


@pytest.fixture
def adata():
    return ad.AnnData(np.ones((3, 2), dtype=np.float32), obs=pd.DataFrame(index=["1", "2", "3"]))


def with_table(adata, *columns):
    """Put a table into `.obsm["spatial"]`, of which column n has the values n, n + 10 and n + 20."""
    values = {name: np.arange(3) * 10 + n for n, name in enumerate(columns)}
    adata.obsm["spatial"] = pd.DataFrame(values, index=adata.obs_names)
    return adata


def test_arrays(adata):
    assert read_coordinates(adata) == (None, [])
    adata.obsm["spatial"] = np.arange(9).reshape(3, 3)
    found, findings = read_coordinates(adata)
    assert found.dtype == np.float64
    assert findings == []
    np.testing.assert_array_equal(found, [[0, 1], [3, 4], [6, 7]])


@pytest.mark.parametrize(
    ("columns", "x", "y"),
    [
        (["x", "y"], 0, 1),
        (["cell_id", "x", "y"], 1, 2),
        (["CellID", "Y", "X", "Z"], 2, 1),
        (["cell_id", "x_centroid", "y_centroid", "transcript_counts"], 1, 2),
        (["fov", "volume", "center_x", "center_y"], 2, 3),
        (["id", "n_px", "imagerow", "imagecol"], 3, 2),
        (["barcode_number", "array_row", "array_col"], 2, 1),
        (["spatial1", "spatial2"], 0, 1),
        (["a", "spatial_0", "spatial_1", "spatial_2"], 1, 2),
        ([0, 1, 2], 0, 1),
        (["x_um", "y_um", "x", "y"], 2, 3),
        (["lon", "lat"], 0, 1),
    ],
)
def test_columns_of_a_table(adata, columns, x, y):
    found, findings = read_coordinates(with_table(adata, *columns))
    np.testing.assert_array_equal(found[0], [x, y])
    assert findings == []


@pytest.mark.parametrize(
    ("columns", "x", "y"),
    [
        (["in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"], 4, 3),
        (["CenterX_local_px", "CenterY_local_px", "CenterX_global_px", "CenterY_global_px"], 2, 3),
        (["min_x", "max_x", "center_x", "min_y", "max_y", "center_y"], 2, 5),
    ],
)
def test_the_preferred_of_several_pairs_is_named(adata, columns, x, y):
    found, findings = read_coordinates(with_table(adata, *columns), "reference")
    np.testing.assert_array_equal(found[0], [x, y])
    assert f"'{columns[x]}' and '{columns[y]}' are read as x and y" in findings[0]
    assert "reference.obsm['spatial'] = reference.obsm['spatial'][['x', 'y']]" in findings[0]


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (["x_a", "y_a", "x_b", "y_b"], "several columns that may be x and y: 'x_a', 'y_a', 'x_b', 'y_b'. Keep"),
        (["cell_id", "x"], "none of which are clearly x and y"),
        (["cell_id", "a", "b"], "none of which are clearly x and y"),
        (["x"], "none of which are clearly x and y"),
        ([], "columns none, none of which"),
    ],
)
def test_tables_that_can_be_read_in_several_ways(adata, columns, match):
    with pytest.raises(ValueError, match=match):
        read_coordinates(with_table(adata, *columns))


def test_other_columns_of_a_table_may_be_text(adata):
    adata = with_table(adata, "x", "y")
    adata.obsm["spatial"].insert(0, "cell", ["a", "b", "c"])
    assert read_coordinates(adata)[0].shape == (3, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cells_without_coordinates(adata, bad):
    adata.obsm["spatial"] = np.array([[0, 1], [bad, 2], [3, 4]])
    found, findings = read_coordinates(adata)
    np.testing.assert_array_equal(found, adata.obsm["spatial"])
    assert "NaN or infinite for 1 of 3 cells" in findings[0]
    adata.obsm["spatial"][:, 0] = bad
    found, findings = read_coordinates(adata)
    assert found is None
    assert "for all cells; the cells are read as having no coordinates" in findings[0]


def test_what_are_no_coordinates(adata):
    adata.obsm["spatial"] = np.ones((3, 1))
    with pytest.raises(ValueError, match=r"columns x and y, found shape \(3, 1\)"):
        read_coordinates(adata)
    adata.obsm["spatial"] = np.array([["a", "b"]] * 3, dtype=object)
    with pytest.raises(ValueError, match=r"adata.obsm\['spatial'\] must hold numbers"):
        read_coordinates(adata)
