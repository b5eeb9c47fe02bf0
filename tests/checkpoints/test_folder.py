"""Our folder format: saved checkpoints are read back unchanged; incomplete and foreign folders raise errors."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from scanpy_sct.checkpoints import LabelHead, read_checkpoint, save_checkpoint
from scanpy_sct.checkpoints import folder as folder_module
from scanpy_sct.checkpoints.folder import check_replaceable
from scanpy_sct.checkpoints.label_classifiers import ExpressionClassifier

OF_THREE = {"sources": [], "n_cells": [1, 1, 1]}
"""Home of a label head with three labels."""


def change_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def saved(tiny, tmp_path):
    return save_checkpoint(tmp_path / "saved", tiny)


def test_float32_comes_back_exactly(tiny, saved):
    found = read_checkpoint(saved)
    for name, tensor in tiny.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], tensor), name
    plain = ("name", "config", "tokens", "mask_fraction", "coordinates", "license", "revision")
    assert {name: getattr(found, name) for name in plain} == {name: getattr(tiny, name) for name in plain}
    np.testing.assert_array_equal(found.genes, tiny.genes)
    assert (found.label_head.labels, found.label_head.temperature) == (tiny.label_head.labels, 1.7)
    for name in ("weight", "bias", "feature_mean", "feature_scale"):
        np.testing.assert_array_equal(
            getattr(found.label_head.classifier, name), getattr(tiny.label_head.classifier, name), strict=True
        )
    home, expected = found.label_head.home, tiny.label_head.home
    assert (home.sources, home.n_cells) == (("blood", "Leber"), (30, 20, 10))
    np.testing.assert_array_equal(home.profiles, expected.profiles, strict=True)
    np.testing.assert_array_equal(home.distances, expected.distances, strict=True)
    assert not found.network.training
    assert found.sha256 == read_checkpoint(saved).sha256 != ""


def test_float16_comes_back_rounded(tiny, tmp_path):
    folder = save_checkpoint(tmp_path / "half", tiny, dtype="float16")
    found = read_checkpoint(folder).network.state_dict()
    for name, tensor in tiny.network.state_dict().items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensor.half().float()), name
    size = (folder / "model.safetensors").stat().st_size
    assert size < 0.6 * (save_checkpoint(tmp_path / "full", tiny) / "model.safetensors").stat().st_size


def test_a_head_of_an_earlier_version_is_read(tiny, tmp_path):
    """It has no record of its cells, and was fitted to vectors relative to samples."""
    head = dataclasses.replace(tiny.label_head, home=None, relative_to="training")
    folder = save_checkpoint(tmp_path / "old", dataclasses.replace(tiny, label_head=head))
    assert read_checkpoint(folder).label_head.relative_to == "training"
    settings = json.loads((folder / "config.json").read_text())["label_head"]
    change_config(folder, label_head={name: settings[name] for name in ("labels", "temperature")})
    found = read_checkpoint(folder).label_head
    assert (found.home, found.relative_to) == (None, "sample")
    np.testing.assert_array_equal(found.classifier.weight, head.classifier.weight)


def test_a_head_that_reads_expression_comes_back(tiny, of_expression, tmp_path):
    head = LabelHead(("B", "T"), of_expression, 0.5, relative_to="training")
    folder = save_checkpoint(tmp_path / "saved", dataclasses.replace(tiny, label_head=head), dtype="float16")
    assert json.loads((folder / "config.json").read_text())["label_head"]["reads"] == "expression"
    found = read_checkpoint(folder).label_head.classifier
    assert isinstance(found, ExpressionClassifier)
    for name in ExpressionClassifier.ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(of_expression, name), strict=True)
    # As one that reads the embedding it is refused by its arrays.
    change_config(folder, label_head={"labels": ["B", "T"], "temperature": 0.5})
    with pytest.raises(ValueError, match=r"missing: feature_mean, feature_scale.*unknown: gene_rate"):
        read_checkpoint(folder)


def test_a_compact_network_comes_back(compact_checkpoint, tmp_path):
    found = read_checkpoint(save_checkpoint(tmp_path / "own", compact_checkpoint))
    for name, tensor in compact_checkpoint.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], tensor), name
    assert (found.config, found.label_head) == (compact_checkpoint.config, None)
    assert not (tmp_path / "own" / "label_head.safetensors").exists()


def test_the_configuration_names_what_the_network_has_and_nothing_else(saved, compact_checkpoint, tmp_path):
    released = json.loads((saved / "config.json").read_text())
    assert (released["format_version"], released["architecture"]) == (2, "released")
    compact = json.loads((save_checkpoint(tmp_path / "compact", compact_checkpoint) / "config.json").read_text())
    assert compact["architecture"] == "compact"
    assert compact["network"] == {
        "n_bins": 5,
        "bag_size": 20,
        "cell_dim": 16,
        "cell_layers": 1,
        "bag_correction": True,
        "reads_coordinates": False,
    }
    assert compact["tokens"] == {"binning": "uniform", "scale": "log1p_counts"}
    assert not {"path", "embedding", "temperature"} & set(compact)


def test_genes_are_written_with_their_symbols(saved):
    table = pd.read_csv(saved / "genes.tsv", sep="\t", keep_default_na=False)
    assert table["position"].tolist() == list(range(16))
    assert table.loc[[0, 1, 3, 7], "symbol"].tolist() == ["ACTB", "", "TP53", "GAPDH"]


def test_model_card(tiny, saved, tmp_path):
    assert (saved / "README.md").read_text() == f"# tiny\n\n{tiny.describe()}\n"
    other = save_checkpoint(tmp_path / "other", tiny, readme="# My card\n")
    assert (other / "README.md").read_text() == "# My card\n"


def test_too_large_for_float16(tiny, tmp_path):
    with torch.no_grad():
        tiny.network.stem.bias[0] = 1e6
    with pytest.raises(ValueError, match=r"stem\.bias.*float16"):
        save_checkpoint(tmp_path / "x", tiny, dtype="float16")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="dtype='int8'"):
        save_checkpoint(tmp_path / "x", tiny, dtype="int8")


@pytest.mark.parametrize("step", ["_write_weights", "write_genes", "write_config", "_swap"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_leaves_the_old_folder_and_nothing_else(tiny, saved, monkeypatch, step, error):
    before = files(saved)

    def fail(*_):
        raise error

    monkeypatch.setattr(folder_module, step, fail)
    with pytest.raises(type(error)):
        save_checkpoint(saved, dataclasses.replace(tiny, name="new"))
    assert files(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_failure_of_the_last_renaming_brings_the_old_folder_back(tiny, saved, monkeypatch):
    before = files(saved)
    rename = folder_module.Path.rename

    def fail_for_new(path, target):
        if path.name.endswith(".new"):
            msg = "renaming failed"
            raise OSError(msg)
        return rename(path, target)

    monkeypatch.setattr(folder_module.Path, "rename", fail_for_new)
    with pytest.raises(OSError, match="renaming failed"):
        save_checkpoint(saved, dataclasses.replace(tiny, name="new"))
    assert files(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_an_older_checkpoint_is_replaced_as_a_whole(tiny, saved):
    save_checkpoint(saved, dataclasses.replace(tiny, name="new", label_head=None))
    assert read_checkpoint(saved).name == "new"
    assert sorted(files(saved)) == ["README.md", "config.json", "genes.tsv", "model.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_a_full_disk_is_an_error_of_the_disk(tiny, saved, monkeypatch):
    def full(*_):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"cannot be written.*No space left"):
        save_checkpoint(saved, dataclasses.replace(tiny, name="new"))
    assert read_checkpoint(saved).name == "tiny"


def test_foreign_folders_are_not_replaced(tiny, saved, tmp_path):
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt.*new folder"):
        save_checkpoint(saved, tiny)
    other = tmp_path / "other"
    other.mkdir()
    check_replaceable(other)
    (other / "README.md").write_text("mine")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        save_checkpoint(other, tiny)
    with pytest.raises(ValueError, match="is not a checkpoint"):
        check_replaceable(other / "README.md")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "genes.tsv", "label_head.safetensors"])
def test_missing_files_are_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(ValueError, match=name):
        read_checkpoint(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "label_head.safetensors"])
def test_damaged_files_are_named(saved, name):
    (saved / name).write_bytes((saved / name).read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"{name}.*damaged"):
        read_checkpoint(saved)


def test_missing_unknown_and_misshapen_weights_are_named(saved):
    path = saved / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"adapter.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"unknown: adapter\.weight"):
        read_checkpoint(saved)
    save_file({name: tensor for name, tensor in tensors.items() if name != "stem.bias"}, path)
    with pytest.raises(ValueError, match=r"missing: stem\.bias"):
        read_checkpoint(saved)
    save_file(tensors | {"stem.bias": torch.ones(31)}, path)
    with pytest.raises(ValueError, match=r"stem\.bias \(31,\), expected \(32,\)"):
        read_checkpoint(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, r"version 3.*install a newer version"),
        ({"format": "other"}, "not a checkpoint"),
        ({"surprise": 1}, "surprise"),
        ({"mask_fraction": ...}, r"missing: mask_fraction\."),
        ({"mask_fraction": 1.5}, r"mask_fraction=1\.5"),
        ({"architecture": "recurrent"}, "architecture='recurrent'.*'compact' or 'released'"),
        ({"architecture": "compact"}, r"network in .* missing: n_bins, bag_size"),
        ({"tokens": {"scale": "log1p_counts"}}, r"tokens in .* missing: binning"),
        ({"tokens": {"binning": "log", "scale": "log1p_counts"}}, "binning='log'"),
        ({"coordinates": "metres"}, "coordinates='metres'"),
        ({"n_genes": 20}, "wrong shape"),
        ({"n_genes": 17}, "n_genes=17"),
        ({"label_head": {"labels": ["a"], "temperature": 1.0}}, "unknown: distances, profiles"),
        (
            {"label_head": {"labels": ["a"], "temperature": 1, "home": {"sources": [], "n_cells": [1]}}},
            "of the label",
        ),
        ({"label_head": {"labels": ["a"], "temperature": 1.0, "home": {"sources": []}}}, "home .* missing: n_cells"),
        (
            {"label_head": {"labels": list("abc"), "temperature": 1.0, "home": {"sources": [1], "n_cells": [1, 1, 1]}}},
            "must be strings, and its numbers of cells positive integers",
        ),
        ({"label_head": {"labels": ["a", "b", "c"]}}, "label_head in .* missing: temperature"),
        (
            {
                "label_head": {
                    "labels": list("abc"),
                    "temperature": 1.0,
                    "relative_to": "bag",
                    "home": {"sources": [], "n_cells": [1, 1, 1]},
                }
            },
            "relative_to of the label head must be one of .*; found 'bag'",
        ),
        (
            {"label_head": {"labels": list("abc"), "temperature": 1.0, "reads": "names"}},
            "reads='names' in the label_head in .* must be one of .'embedding', 'expression'",
        ),
    ],
)
def test_inconsistent_configurations_are_refused(saved, changes, message):
    change_config(saved, **changes)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(saved)


def test_gene_tables_must_be_complete_and_in_order(saved):
    path = saved / "genes.tsv"
    lines = path.read_text().splitlines(keepends=True)
    for wrong in (lines[:-1], [lines[0], lines[2], lines[1], *lines[3:]], ["a\tb\tc\n", *lines[1:]]):
        path.write_text("".join(wrong))
        with pytest.raises(ValueError, match=r"genes\.tsv must have"):
            read_checkpoint(saved)


def test_folders_can_be_moved_and_linked(tiny, saved, tmp_path):
    shutil.move(saved, tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert read_checkpoint(tmp_path / "link").name == "tiny"
    save_checkpoint(tmp_path / "link", dataclasses.replace(tiny, name="new"))
    assert (tmp_path / "link").is_symlink()
    assert read_checkpoint(tmp_path / "moved").name == "new"
