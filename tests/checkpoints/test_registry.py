"""All ways to name a model, and all errors."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from scanpy_sct.checkpoints import load_model, registry, save_checkpoint


@pytest.fixture
def packaged(tmp_path, monkeypatch, tiny):
    save_checkpoint(tmp_path / "data" / "sct-mini", tiny)
    monkeypatch.setattr(registry, "PACKAGED_FOLDER", tmp_path / "data")


def test_by_name_and_by_default(packaged):
    assert load_model().name == load_model("sct-mini").name == "tiny"


def test_by_folder(tmp_path, tiny, golden_dir, monkeypatch):
    folder = save_checkpoint(tmp_path / "some" / "where", tiny)
    monkeypatch.chdir(tmp_path)
    for path in (folder, str(folder), "some/where"):  # the last one looks like a repository of the hub
        assert load_model(path).name == "tiny"
    assert load_model(golden_dir / "f_spatial_scales").name == "f_spatial_scales"


def test_a_loaded_checkpoint_is_returned(tiny):
    assert load_model(tiny) is tiny


def test_unknown_names_list_the_known(packaged):
    with pytest.raises(ValueError, match=r"'sct-maxi'.*sct-mini, InstaDeepAI/sCellTransformer"):
        load_model("sct-maxi")
    with pytest.raises(ValueError, match="is not known; use the name of a model"):
        load_model("./no/such/folder")


@pytest.mark.parametrize(
    ("typo", "meant"), [("sct_mini", "sct-mini"), ("scellTransformer", "InstaDeepAI/sCellTransformer")]
)
def test_a_known_name_spelt_alike_is_proposed(packaged, typo, meant):
    with pytest.raises(ValueError, match=rf"Did you mean '{meant}'\?$"):
        load_model(typo)
    with pytest.raises(ValueError, match=r"\('owner/name'\)\.$"):
        load_model("nothing like that")


def test_folders_without_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"without a checkpoint.*params\.joblib"):
        load_model(tmp_path)


def test_wrong_types_and_useless_revisions(tiny, packaged, tmp_path):
    with pytest.raises(TypeError, match="model=3"):
        load_model(3)
    for model in (tiny, "sct-mini", tmp_path):
        with pytest.raises(ValueError, match="revision='main'"):
            load_model(model, revision="main")


def test_an_incomplete_packaged_model_is_refused_not_skipped(packaged):
    shutil.move(registry.PACKAGED_FOLDER / "sct-mini" / "genes.tsv", registry.PACKAGED_FOLDER / "genes.tsv")
    with pytest.raises(ValueError, match=r"genes\.tsv is missing"):
        load_model()


def test_importing_checkpoints_does_not_import_torch():
    code = (
        "import sys, scanpy_sct.checkpoints.models as m; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'huggingface_hub', 'joblib', 'safetensors')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
