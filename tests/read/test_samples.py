from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scanpy_sct.read.samples import missed_samples, read_samples


@pytest.fixture
def adata():
    obs = pd.DataFrame(
        {
            "text": ["b", "a", "b"],
            "number": [2, 1, 2],
            "category": pd.Categorical(["y", "x", "y"], categories=["z", "y", "x"]),
            "gaps": ["a", None, np.nan],
        },
        index=["1", "2", "3"],
    )
    return ad.AnnData(np.ones((3, 2), dtype=np.float32), obs=obs)


@pytest.mark.parametrize(
    ("key", "codes", "names"),
    [
        (None, [0, 0, 0], ("all",)),
        ("text", [1, 0, 1], ("a", "b")),
        ("number", [1, 0, 1], ("1", "2")),
        ("category", [0, 1, 0], ("y", "x")),
    ],
)
def test_samples(adata, key, codes, names):
    found, found_names = read_samples(adata, key)
    assert found.tolist() == codes
    assert found_names == names


def test_bad_samples(adata):
    with pytest.raises(KeyError, match=r"library_key='sample' is not a column of adata.obs; .*'text', 'number'"):
        read_samples(adata, "sample")
    with pytest.raises(ValueError, match="missing for 2 of 3 cells"):
        read_samples(adata, "gaps")
    with pytest.raises(TypeError, match=r"library_key=\['text'\] must be a string"):
        read_samples(adata, ["text"])


@pytest.mark.parametrize("name", ["sample", "Batch", "library_id", "sections", "donor.id", "patientID", "slide"])
def test_columns_that_name_samples_are_noticed(adata, name):
    adata.obs[name] = ["a", "b", "b"]
    assert missed_samples(adata, None).endswith(f"library_key={name!r}.")
    adata.obs[name] = "a"  # one sample
    assert missed_samples(adata, None) == ""


@pytest.mark.parametrize("name", ["text", "sample_quality", "batch_effect_score"])
def test_other_columns_are_not(adata, name):
    adata.obs[name] = ["a", "b", "b"]
    assert missed_samples(adata, None) == ""


def test_cells_at_one_place_are_noticed(adata):
    assert missed_samples(adata, np.array([[0.0, 1], [1, 0], [1, 1]])) == ""
    found = missed_samples(adata, np.zeros((3, 2)))
    assert "3 cells lie exactly where another does" in found
    assert missed_samples(adata, np.array([[0.0, 1], [np.nan, np.nan], [np.nan, np.nan]])) == ""
    assert "library_key='<" in found
    adata.obs["section"] = ["a", "b", "b"]
    assert "library_key='section'" in missed_samples(adata, np.zeros((3, 2)))
