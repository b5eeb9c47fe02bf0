from __future__ import annotations

import shutil

import anndata as ad
import numpy as np
import pytest

from scanpy_sct.datasets import _her2st as module
from scanpy_sct.datasets import her2st


@pytest.fixture(scope="module")
def raw(data_dir):
    """The authors' files as a user would keep them."""
    if not (data_dir / "her2st_raw").is_dir():
        pytest.skip(f"her2st_raw not found in {data_dir}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(module.DATA_VARIABLE, str(data_dir))
        yield data_dir / "her2st_raw"


@pytest.fixture(scope="module")
def sections(raw):
    return {section: her2st(section) for section in ("B1", "G2", "H1")}


@pytest.fixture(scope="module")
def heldout(data_dir):
    return ad.read_h5ad(data_dir / "dev" / "her2st_breast_heldout.h5ad")


@pytest.mark.parametrize(("section", "n_spots"), [("G2", 467), ("H1", 613), ("B1", 295)])
def test_fields(sections, section, n_spots):
    adata = sections[section]
    assert adata.n_obs == n_spots
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.float32
    assert (adata.X.data == np.rint(adata.X.data)).all()
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert "ERBB2" in adata.var_names
    assert adata.obs["region"].dtype == "category"
    assert adata.obs["sample"].dtype == "category"
    assert adata.obs["sample"].unique().tolist() == [section]
    assert "unlabelled" not in adata.obs["region"].cat.categories  # every spot of these sections has a label
    assert adata.obsm["spatial"].shape == (n_spots, 2)
    assert not adata.uns


@pytest.mark.parametrize("section", ["G2", "H1"])
def test_agrees_with_the_processed_data(sections, heldout, section):
    adata = sections[section]
    expected = heldout[heldout.obs["sample"] == section]
    expected = expected[[f"her2st_breast_heldout:{section}_{name}" for name in adata.obs_names]]
    assert adata.n_obs == (heldout.obs["sample"] == section).sum()
    assert adata.obs["region"].tolist() == expected.obs["region"].tolist()
    assert adata.obs["array_col"].tolist() == expected.obs["array_x"].tolist()
    assert adata.obs["array_row"].tolist() == expected.obs["array_y"].tolist()
    np.testing.assert_allclose(adata.obsm["spatial"], expected.obsm["spatial"], atol=1e-3)
    np.testing.assert_array_equal(
        adata[:, "ERBB2"].X.toarray().ravel(), expected[:, expected.var["gene_symbol"] == "ERBB2"].X.toarray().ravel()
    )
    # the processed data lack the columns whose name no annotation knows
    ours, theirs = (np.asarray(x.X.sum(axis=1)).ravel() for x in (adata, expected))
    assert (ours >= theirs).all()
    assert (theirs / ours).min() > 0.95


def test_coordinates_and_counts_belong_together(sections):
    adata = sections["G2"]
    # pixels are a linear function of the array coordinates, if rows were not mixed up
    for axis, column in enumerate(("array_col", "array_row")):
        assert np.corrcoef(adata.obs[column], adata.obsm["spatial"][:, axis])[0, 1] > 0.999
    # tumour regions express ERBB2 in this patient more than fat does
    erbb2 = adata[:, "ERBB2"].X.toarray().ravel()
    region = adata.obs["region"]
    assert erbb2[region == "invasive cancer"].mean() > 2 * erbb2[region == "adipose tissue"].mean()


def test_can_be_written(sections, tmp_path):
    adata = sections["B1"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    assert again.obs["region"].tolist() == adata.obs["region"].tolist()


def test_a_label_without_spot_and_a_spot_without_label(tmp_path):
    labels = tmp_path / "labels.tsv"
    labels.write_text("Row.names\tx\ty\tpixel_x\tpixel_y\tlabel\na\t9.96\t11.02\t1\t1\tfat\nb\t\t\t\t\tlost\n")
    assert module._read_regions(labels).to_dict() == {"10x11": "fat"}
    spots = tmp_path / "spots.tsv"
    spots.write_text("x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected\n10\t11\t1\t1\t5\t6\t1\n3\t4\t1\t1\t7\t8\t0\n")
    assert module._read_spots(spots).index.tolist() == ["10x11"]


@pytest.mark.parametrize("section", ["A1", "g2", "../x", 3])
def test_other_sections(section):
    with pytest.raises(ValueError, match="is not available; available: 'B1', 'G2', 'H1'"):
        her2st(section)


def test_a_changed_file_raises_an_error(raw, tmp_path, monkeypatch):
    shutil.copytree(raw, tmp_path / "her2st_raw", copy_function=shutil.copyfile)
    with open(tmp_path / "her2st_raw/data/ST-spotfiles/G2_selection.tsv", "a") as file:
        file.write("1\t1\t1\t1\t1\t1\t1\n")
    monkeypatch.setenv(module.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match="is not the file published by the authors"):
        module._find_file("data/ST-spotfiles/G2_selection.tsv")


def test_downloads_from_the_pinned_commit_once(raw, monkeypatch):
    import pooch

    monkeypatch.delenv(module.DATA_VARIABLE)
    urls = []

    def fetch(url, output_file, *_):
        urls.append(url)
        shutil.copyfile(raw / url.partition(f"/{module._COMMIT}/")[2], output_file)

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_args, **_options: fetch)
    name = "data/ST-pat/lbl/B1_labeled_coordinates.tsv"
    first, second = module._find_file(name), module._find_file(name)
    commit = "85df7411b987a7dec3feff9718b869a7a82091ec"
    assert urls == [f"https://raw.githubusercontent.com/almaan/her2st/{commit}/{name}"]
    assert first == second
    assert first.read_bytes() == (raw / name).read_bytes()


def test_a_changed_download_raises_an_error(monkeypatch):
    import pooch

    def fetch(_url, output_file, *_):
        with open(output_file, "w") as file:
            file.write("something else")

    monkeypatch.delenv(module.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_args, **_options: fetch)
    with pytest.raises(ValueError, match="hash"):
        her2st("B1")


def test_offline(monkeypatch):
    import pooch

    def fail(*_args):
        msg = "no route"
        raise OSError(msg)

    monkeypatch.delenv(module.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_args, **_options: fail)
    with pytest.raises(ConnectionError, match=r"no route.*SCANPY_SCT_DATA_DIR.*pbmc68k\(\) works offline"):
        her2st("H1")


@pytest.mark.slow
def test_plots_with_squidpy(sections):
    import squidpy as sq

    sq.pl.spatial_scatter(sections["B1"], color=["region", "ERBB2"], shape=None)
