from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scanpy_sct.keys import fields_of
from scanpy_sct.write import (
    AnnotationKeys,
    ImputationKeys,
    WriteOptions,
    guard,
    write_annotation,
    write_embedding,
    write_imputation,
)

N_OBS, N_VARS = 6, 4
PARAMS = {
    "model": "sct-mini",
    "layer": None,
    "genes": ("ERBB2", "KRT5"),
    "threshold": np.float32(0.5),
    "bags": {"kind": "auto", "n/bag": np.int64(50)},
    "path": Path("a") / "b",
    "nothing": [],
    "mixed": [1, "a"],
    "calibrate": True,
}


@pytest.fixture
def adata() -> ad.AnnData:
    counts = np.random.default_rng(0).poisson(1.0, (N_OBS, N_VARS)).astype(np.float32)
    names = pd.DataFrame(index=[f"cell{i}" for i in range(N_OBS)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=names, var=pd.DataFrame(index=list("ABCD")))


def imputation(adata: ad.AnnData) -> dict:
    return {
        "layer": np.arange(adata.n_obs * adata.n_vars, dtype=np.float32).reshape(adata.shape),
        "imputed": np.array([True, False, True, True]),
        "recovery": np.array([0.5, np.nan, 0.1, 0.2]),
        "unmeasured": pd.DataFrame({"E": np.ones(adata.n_obs)}, index=adata.obs_names),
        "bins": np.full(adata.shape, 3, dtype=np.int64),
        "confidence": np.full(adata.shape, 0.25),
        "params": PARAMS,
        "details": {"versions": {"scanpy_sct": "0.1.0"}},
    }


def annotation(adata: ad.AnnData) -> dict:
    probabilities = pd.DataFrame(
        np.linspace(0, 1, 2 * adata.n_obs).reshape(-1, 2), index=adata.obs_names, columns=["T", "T/NK"]
    )
    return {
        "labels": pd.Categorical(["T", "T/NK", "unknown"] * (adata.n_obs // 3)),
        "score": np.full(adata.n_obs, 0.75),
        "probabilities": probabilities,
        "params": PARAMS,
    }


def snapshot(adata: ad.AnnData) -> dict[str, set[str]]:
    containers = ("layers", "obs", "var", "obsm", "varm", "obsp", "uns")
    # anndata 0.13 lists X among the layers, as None.
    return {name: set(getattr(adata, name)) - {None} for name in containers}


def test_imputation_writes_these_fields_and_no_others(adata):
    before = adata.X.copy()
    write_imputation(adata, "sct", **imputation(adata))
    assert snapshot(adata) == {
        "layers": {"sct", "sct_bins", "sct_confidence"},
        "obs": set(),
        "var": {"sct_imputed", "sct_recovery"},
        "obsm": {"sct_unmeasured"},
        "varm": set(),
        "obsp": set(),
        "uns": {"sct"},
    }
    assert (adata.X != before).nnz == 0
    assert adata.layers["sct"].dtype == np.float32
    assert adata.layers["sct_bins"].dtype == np.uint8
    assert adata.layers["sct_confidence"].dtype == np.float32
    assert adata.var["sct_imputed"].tolist() == [True, False, True, True]
    assert adata.var["sct_imputed"].dtype == bool
    np.testing.assert_array_equal(adata.var["sct_recovery"], [0.5, np.nan, 0.1, 0.2])
    assert adata.obsm["sct_unmeasured"].dtypes.tolist() == [np.float32]
    assert adata.uns["sct"]["versions"] == {"scanpy_sct": "0.1.0"}
    assert adata.uns["sct"]["params"]["genes"] == ["ERBB2", "KRT5"]
    assert adata.uns["sct"]["params"]["layer"] == "none"
    assert adata.uns["sct"]["params"]["bags"] == {"kind": "auto", "n|bag": 50}


def test_embedding_and_annotation_write_these_fields(adata):
    write_embedding(adata, "X_sct", values=np.ones((N_OBS, 3)), params=PARAMS)
    write_annotation(adata, "sct_label", **annotation(adata))
    found = snapshot(adata)
    assert found["obsm"] == {"X_sct", "sct_label_probs"}
    assert found["varm"] == set()
    assert found["obs"] == {"sct_label", "sct_label_score"}
    assert found["uns"] == {"X_sct", "sct_label"}
    assert adata.obs["sct_label"].tolist() == ["T", "T/NK", "unknown"] * 2
    assert adata.obs["sct_label_score"].dtype == np.float32
    assert adata.obsm["sct_label_probs"].columns.tolist() == ["T", "T|NK"]


def test_novelty_goes_away_with_the_next_result(adata):
    novelty = np.linspace(0, 1, N_OBS)
    write_annotation(adata, "name", **annotation(adata), novelty=novelty)
    np.testing.assert_array_equal(adata.obs["name_novelty"], novelty.astype(np.float32))
    with pytest.raises(ValueError, match="novelty has shape"):
        write_annotation(adata, "name", **annotation(adata), novelty=np.ones(2))
    write_annotation(adata, "name", **annotation(adata))
    assert snapshot(adata)["obs"] == {"name", "name_score"}


def test_optional_fields_of_an_earlier_result_go_away(adata):
    write_imputation(adata, "sct", **imputation(adata))
    write_imputation(adata, "other", **imputation(adata))
    write_imputation(adata, "sct", **{**imputation(adata), "bins": None, "confidence": None, "unmeasured": None})
    assert set(adata.layers) - {None} == {"sct", "other", "other_bins", "other_confidence"}
    assert set(adata.obsm) == {"other_unmeasured"}


@pytest.mark.parametrize("extension", ["h5ad", "zarr"])
def test_results_survive_a_file(adata, tmp_path, extension):
    write_imputation(adata, "sct", **imputation(adata))
    write_embedding(adata, values=np.ones((N_OBS, 3)), params=PARAMS)
    write_annotation(adata, **annotation(adata))
    path = tmp_path / f"result.{extension}"
    with warnings.catch_warnings():
        # Writing with a slash in a name only warns in today's anndata and fails in tomorrow's.
        warnings.filterwarnings("error", message=".*[Ss]lash")
        getattr(adata, f"write_{extension}")(path)
    again = getattr(ad, f"read_{extension}")(path)
    assert snapshot(again) == snapshot(adata)
    np.testing.assert_array_equal(again.layers["sct"], adata.layers["sct"])
    pd.testing.assert_frame_equal(again.obsm["sct_label_probs"], adata.obsm["sct_label_probs"])
    assert again.obs["sct_label"].tolist() == adata.obs["sct_label"].tolist()
    assert again.uns["sct"]["params"]["bags"]["n|bag"] == 50
    assert list(again.uns["sct"]["params"]["mixed"]) == ["1", "a"]


def wrong(values: dict, name: str, value: object) -> dict:
    return {**values, name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer", np.ones((N_OBS, N_VARS + 1), dtype=np.float32)),
        ("imputed", np.ones(N_OBS, dtype=bool)),
        ("recovery", np.ones((N_VARS, 1))),
        ("unmeasured", pd.DataFrame({"E": np.ones(N_OBS)})),
        ("bins", np.ones((N_VARS, N_OBS), dtype=np.uint8)),
        ("confidence", np.ones(N_OBS)),
    ],
)
def test_a_wrong_shape_leaves_the_object_as_it_was(adata, name, value):
    before = snapshot(adata)
    with pytest.raises(ValueError, match=name):
        write_imputation(adata, "sct", **wrong(imputation(adata), name, value))
    assert snapshot(adata) == before


def test_wrong_embeddings_and_annotations_leave_the_object_as_it_was(adata):
    before = snapshot(adata)
    with pytest.raises(ValueError, match="values"):
        write_embedding(adata, values=np.ones((N_OBS + 1, 3)), params={})
    with pytest.raises(ValueError, match="values"):
        write_embedding(adata, values=np.ones(N_OBS), params={})
    shuffled = pd.Series(["T"] * N_OBS, index=adata.obs_names[::-1])
    with pytest.raises(ValueError, match="labels"):
        write_annotation(adata, **wrong(annotation(adata), "labels", shuffled))
    with pytest.raises(ValueError, match="score"):
        write_annotation(adata, **wrong(annotation(adata), "score", np.ones(2)))
    alike = annotation(adata)["probabilities"].set_axis(["T|NK", "T/NK"], axis=1)
    with pytest.raises(ValueError, match="same name"):
        write_annotation(adata, **wrong(annotation(adata), "probabilities", alike))
    with pytest.raises(TypeError, match="object"):
        write_annotation(adata, **wrong(annotation(adata), "params", {"odd": object()}))
    assert snapshot(adata) == before


@pytest.mark.parametrize(("key", "error"), [("", ValueError), ("a/b", ValueError), (3, TypeError)])
def test_keys_that_no_file_can_hold_are_refused(adata, key, error):
    with pytest.raises(error, match="key_added"):
        write_embedding(adata, key, values=np.ones((N_OBS, 3)), params={})
    with pytest.raises(error, match="key_added"):
        ImputationKeys.of(key)
    with pytest.raises(error, match="key_added"):
        AnnotationKeys.of(key)


def test_a_view_becomes_an_object_of_its_own(adata):
    view = adata[:, ["A", "B", "C", "D"]][:4]
    with pytest.warns(ad.ImplicitModificationWarning):
        write_embedding(view, values=np.ones((4, 2)), params={})
    assert not view.is_view
    assert view.obsm["X_sct"].shape == (4, 2)
    assert "X_sct" not in adata.obsm


def test_writes_to_a_backed_object(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    write_imputation(backed, "sct", **imputation(adata))
    assert backed.layers["sct"].shape == adata.shape


def test_sparse_layers_and_numbered_labels_are_kept(adata):
    layer = sparse.csr_matrix(np.eye(N_OBS, N_VARS))
    write_imputation(adata, "sct", **wrong(imputation(adata), "layer", layer))
    assert sparse.issparse(adata.layers["sct"]) and adata.layers["sct"].dtype == np.float32
    write_annotation(adata, **wrong(annotation(adata), "labels", np.array([0, 1, 2, 0, 1, 2])))
    assert adata.obs["sct_label"].cat.categories.tolist() == ["0", "1", "2"]


def with_field(container, name):
    adata = ad.AnnData(np.ones((3, 2), dtype=np.float32))
    values = np.ones((3, 2)) if container in ("layers", "obsm") else [1, 2, 3][: 2 if container == "var" else 3]
    getattr(adata, container)[name] = values
    return adata


IMPUTED = {
    "obs": ["similarity"],
    "obsm": ["unmeasured"],
    "var": ["imputed", "recovery", "network_fraction", "source"],
    "layers": ["bins", "confidence"],
}
ANNOTATED = {"obs": ["score", "novelty"], "obsm": ["probs"]}


@pytest.mark.parametrize(
    ("container", "name", "kind"),
    [
        *((container, "mine", "embedding") for container in ("uns", "layers", "obs", "obsm")),
        *((where, f"mine_{name}", "imputation") for where, names in IMPUTED.items() for name in names),
        *((where, f"mine_{name}", "annotation") for where, names in ANNOTATED.items() for name in names),
    ],
)
def test_fields_that_were_not_written_by_the_package_are_never_overwritten(container, name, kind):
    adata = with_field(container, name)
    with pytest.raises(ValueError, match=rf"key_added='mine': adata.{container}\['{name}'\] already exists"):
        guard(adata, WriteOptions("mine", kind=kind))
    adata.uns["mine"] = {"versions": {"scanpy_sct": "1"}}
    guard(adata, WriteOptions("mine", kind=kind))


def test_fields_that_a_result_does_not_have_are_no_obstacle():
    for container, name, kind in [("obs", "mine_score", "imputation"), ("obs", "mine_source", "imputation")]:
        guard(with_field(container, name), WriteOptions("mine", kind=kind))
    guard(with_field("obs", "mine_score"), WriteOptions("mine"))


def test_the_fields_of_an_imputation_and_an_annotation_are_guarded(adata):
    """What the writers add is what `guard` knows."""
    names = ("layers", "obs", "obsm", "var", "uns")
    for kind, write, values in [
        ("imputation", write_imputation, imputation(adata)),
        ("annotation", write_annotation, annotation(adata)),
    ]:
        result = adata.copy()
        before = {(name, key) for name in names for key in getattr(result, name)}
        write(result, "mine", **values)
        added = {(name, key) for name in names for key in getattr(result, name)} - before
        assert added <= set(fields_of("mine", kind))
        assert len(added) > 3
