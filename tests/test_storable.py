from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scanpy_sct.storable import storable

RECORD = {
    "nothing": None,
    "tuple": ("a", "b"),
    "set": {"b", "a"},
    "index": pd.Index(["x", "y"]),
    "numpy": np.float32(0.5),
    "mixed": [1, "a", None],
    "empty": [],
    "path": Path("a") / "b",
    "deep": {"a/b": {1: (True, False)}},
    "array": np.arange(3),
}
STORABLE = {
    "nothing": "none",
    "tuple": ["a", "b"],
    "set": ["a", "b"],
    "index": ["x", "y"],
    "numpy": 0.5,
    "mixed": ["1", "a", "none"],
    "empty": [],
    "path": str(Path("a") / "b"),
    "deep": {"a|b": {"1": [True, False]}},
}


def test_what_becomes_of_each_kind_of_value():
    found = storable(RECORD)
    np.testing.assert_array_equal(found.pop("array"), np.arange(3))
    assert found == STORABLE
    assert type(found["numpy"]) is float


@pytest.mark.parametrize("extension", ["h5ad", "zarr"])
def test_a_record_survives_a_file(tmp_path, extension):
    adata = ad.AnnData(np.ones((2, 2), dtype=np.float32), uns={"record": storable(RECORD)})
    path = tmp_path / f"record.{extension}"
    getattr(adata, f"write_{extension}")(path)
    again = getattr(ad, f"read_{extension}")(path).uns["record"]
    assert again["nothing"] == "none"
    assert list(again["tuple"]) == ["a", "b"]
    assert list(again["deep"]["a|b"]["1"]) == [True, False]


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": object()}, [[1, 2], [3]], [{"a": 1}]])
def test_what_no_file_can_hold_is_refused(value):
    with pytest.raises(TypeError, match="parameter"):
        storable(value)
