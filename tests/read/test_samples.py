from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scanpy_sct.read.samples import dividing_columns, missed_samples, read_samples, sample_columns


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


@pytest.mark.parametrize(
    "name",
    """sample Batch library_id sections donor.id patientID slide fov orig.ident image_id roi core puck
    tissue_section Tissue_Section dataset run lane slice region_of_interest replicate capture_area captureArea
    experiment array orig_ident sampleid SampleName libraries batches slide_ID brain_section_label tma_core
    10x_batch Run_Tissue_name library_preparation_batch PatientNumber GEM_group donor_no sequencing.run
    field_of_view biological_replicate sample_name_id""".split(),
)
def test_columns_that_name_samples_are_noticed(adata, name):
    adata.obs[name] = ["a", "b", "b"]
    assert missed_samples(adata, None).endswith(f"library_key={name!r}.")
    adata.obs[name] = "a"  # one sample
    assert missed_samples(adata, None) == ""


@pytest.mark.parametrize(
    "name",
    """text sample_quality batch_effect_score n_samples core_score array_row array_col cell_type leiden cluster louvain
    region acronym tissue tumor_core is_core condition disease sex phase bulk_labels nuclei in_tissue in_sample
    pct_image clusters_by_run annotation_source runtime cores_used sampled""".split(),
)
def test_other_columns_are_not(adata, name):
    adata.obs[name] = ["a", "b", "b"]
    assert missed_samples(adata, None) == ""


def test_the_likeliest_column_is_named(adata):
    for name in ("fov", "donor", "sample_id", "slide"):
        adata.obs[name] = ["a", "b", "b"]
    assert sample_columns(adata) == ["sample_id", "slide", "donor", "fov"]
    assert missed_samples(adata, None, "reference") == (
        "All cells of the reference are read as one sample, but reference.obs['sample_id'] has 2 values: for several "
        "samples pass library_key='sample_id'."
    )


def test_only_columns_of_one_name_that_is_a_string_divide_the_cells():
    table = pd.DataFrame([["a", "a", "a", "a"], ["b", "b", "b", "b"], ["b", "b", "b", "b"]])
    table.columns = ["twice", "twice", 0, "once"]
    table["lists"] = [[1], [2], [2]]
    assert list(dividing_columns(table, table)) == ["once"]


def test_decimal_numbers_and_names_of_cells_are_no_samples(adata):
    adata.obs["run"] = [0.5, 1.0, 1.0]
    adata.obs["image"] = ["a", "b", "c"]
    assert missed_samples(adata, None) == ""
    adata.obs["run"] = [np.nan, 1.0, 2.0]  # integers, some missing
    assert "library_key='run'" in missed_samples(adata, None)


def test_few_cells_at_one_place_are_no_sign_of_samples():
    cells = ad.AnnData(np.ones((20, 2), dtype=np.float32))
    places = np.arange(40.0).reshape(20, 2)
    places[:2] = 7  # a tenth
    assert missed_samples(cells, places) == ""
    places[:3] = 7
    assert "3 cells lie exactly where another does" in missed_samples(cells, places)
    places[[0, 1]], places[[2, 3]] = 7, 8
    assert "4 cells lie exactly where another does" in missed_samples(cells, places)


def test_cells_at_one_place_are_noticed(adata):
    assert missed_samples(adata, np.array([[0.0, 1], [1, 0], [1, 1]])) == ""
    found = missed_samples(adata, np.zeros((3, 2)))
    assert "3 cells lie exactly where another does" in found
    assert missed_samples(adata, np.array([[0.0, 1], [np.nan, np.nan], [np.nan, np.nan]])) == ""
    assert "library_key='<" in found
    adata.obs["section"] = ["a", "b", "b"]
    assert "library_key='section'" in missed_samples(adata, np.zeros((3, 2)))
