"""Checkpoints that are damaged or made to harm: no code runs, no memory is filled, nothing is half loaded."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import threading
import time
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scanpy_sct.checkpoints import hub, read_checkpoint, read_released, save_checkpoint
from scanpy_sct.checkpoints.unpickle import read_arrays
from scanpy_sct.impute.storage import load_fit

N_MUTATIONS = 25
HOSTILE = (
    None,
    True,
    -1,
    2**31,
    2**63,
    1e308,
    float("nan"),
    "",
    "../../etc/passwd",
    [],
    [[[]]],
    {"a": 1},
    "a" * 10_000,
)


@pytest.fixture
def saved(tiny, tmp_path):
    return save_checkpoint(tmp_path / "saved", tiny)


@pytest.fixture
def released(golden_dir, tmp_path):
    return shutil.copytree(golden_dir / "f_spatial_scales", tmp_path / "released")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Change, cut, repeat or insert some bytes, mostly near the start, where the structure of a file is described."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(min(len(found), 3000) or 1))
        match rng.integers(5):
            case 0:
                found[place : place + 1] = rng.bytes(1)
            case 1:
                del found[place : place + int(rng.integers(1, 50))]
            case 2:
                found[place:place] = rng.bytes(9)
            case 3:
                del found[len(found) - place :]
            case 4:
                found[place : place + 8] = b"\xff" * 8
    return bytes(found)


def read_or_refuse(read, path) -> None:
    try:
        checkpoint = read(path)
    except ValueError:
        return
    assert all(torch.isfinite(weight).all() for weight in checkpoint.network.parameters())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "genes.tsv", "label_head.safetensors"])
def test_damaged_files_are_read_or_refused(saved, name):
    content, rng = (saved / name).read_bytes(), np.random.default_rng(0)
    for _ in range(N_MUTATIONS):
        (saved / name).write_bytes(mutated(content, rng))
        read_or_refuse(read_checkpoint, saved)


@pytest.mark.parametrize("name", ["config.json", "params.joblib"])
def test_damaged_released_files_are_read_or_refused(released, name):
    content, rng = (released / name).read_bytes(), np.random.default_rng(0)
    for _ in range(N_MUTATIONS):
        (released / name).write_bytes(mutated(content, rng))
        read_or_refuse(read_released, released)


def places(values: dict, above: tuple = ()):
    for name, value in values.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from places(value, (*above, name))


def test_no_value_of_the_configuration_does_harm(saved):
    path, started = saved / "config.json", time.monotonic()
    text = path.read_text()
    for number, place in enumerate(places(json.loads(text))):
        for value in [HOSTILE[(number + step) % len(HOSTILE)] for step in range(0, len(HOSTILE), 4)]:
            config = inner = json.loads(text)
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = value
            path.write_text(json.dumps(config))
            read_or_refuse(read_checkpoint, saved)
    assert time.monotonic() - started < 60  # none of them makes a large network


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 2**31},
        {"num_downsamples": 10**6},
        {"embed_dim": 2**40},
        {"embed_dim": 960_000},
        {"num_cells": "many"},
        {"layer_norm_eps": []},
        {"use_skip_connection": "yes"},
    ],
)
def test_values_of_released_configurations_are_checked(released, changes):
    path = released / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=rf"{next(iter(changes))}|wrong shape"):
        read_released(released)


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[]", "1", '"x"', "{", "\0"])
def test_a_configuration_that_is_no_object(saved, released, text):
    for folder, read in ((saved, read_checkpoint), (released, read_released)):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json|not a checkpoint|Expecting|property name"):
            read(folder)


def test_huge_files_are_not_read(saved):
    for name in ("genes.tsv", "config.json"):
        content = (saved / name).read_bytes()
        with (saved / name).open("ab") as file:
            file.truncate(2**34)  # takes no space on the disk
        with pytest.raises(ValueError, match=r"too large|not a checkpoint"):
            read_checkpoint(saved)
        (saved / name).write_bytes(content)
    assert read_checkpoint(saved).name == "tiny"


def test_weights_of_other_types_are_refused(saved):
    tensors = load_file(saved / "model.safetensors")
    for dtype in (torch.int32, torch.complex64, torch.bool):
        save_file(tensors | {"stem.bias": tensors["stem.bias"].to(dtype)}, saved / "model.safetensors")
        with pytest.raises(ValueError, match=r"not real numbers: stem\.bias"):
            read_checkpoint(saved)


def test_a_safetensors_header_that_claims_too_much(saved):
    content = (saved / "model.safetensors").read_bytes()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    for changed in (len(header).to_bytes(8, "little") + header, (2**60).to_bytes(8, "little") + content[8:], b""):
        (saved / "model.safetensors").write_bytes(changed)
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            read_checkpoint(saved)


def test_keys_that_take_for_ever_to_hash_are_refused(tmp_path):
    """Tuples that hold the one before twice: 200 bytes, and two to the power of 60 steps."""
    nested = b"".join(b"h%c" % number * 2 + b"\x86q%c" % (number + 1) for number in range(60))
    (tmp_path / "x").write_bytes(b"\x80\x02}(" + b")q\0" + b"0" + nested + b"K\x01u.")
    started = time.monotonic()
    with pytest.raises(ValueError, match="Cannot read the arrays"):
        read_arrays(tmp_path / "x")
    assert time.monotonic() - started < 5


def test_a_pickle_nested_deeply_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"\x80\x02" + b")" + b"\x85" * 100_000 + b".")
    with pytest.raises(ValueError, match="Cannot read the arrays"):
        read_arrays(tmp_path / "x")


class Calls:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_fit_runs_no_code_and_fills_no_memory(tmp_path):
    path, marker = tmp_path / "fit.npz", tmp_path / "marker"
    np.savez(path, facts=np.array([Calls(marker)], dtype=object))
    path.with_suffix(".pickle").write_bytes(pickle.dumps(Calls(marker)))
    np.savez_compressed(tmp_path / "bomb.npz", facts=np.zeros(10**6))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("facts.npy", b"nothing")
    for name in ("fit.npz", "fit.pickle", "bomb.npz", "other.npz"):
        with pytest.raises(ValueError, match=rf"{name}' (is|must be)"):
            load_fit(tmp_path / name)
    assert not marker.exists()


# The cache of downloaded checkpoints; the hub is a function that copies from a folder.


@pytest.fixture
def on_hub(tiny, tmp_path, monkeypatch):
    """Checkpoint folder on a stand-in of the hub, the names of the files that were requested, and a cache."""
    source, requested = save_checkpoint(tmp_path / "snapshots" / ("0" * 40), tiny), []

    def hf_hub_download(repository, name, *, revision):
        requested.append(name)
        time.sleep(0.01)
        return str(source / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    monkeypatch.setenv("SCANPY_SCT_CACHE_DIR", str(tmp_path / "cache"))
    return source, requested


@pytest.mark.parametrize("name", ["model.safetensors", "genes.tsv", "label_head.safetensors"])
def test_a_damaged_download_does_not_get_into_the_cache(on_hub, tmp_path, name):
    source, _ = on_hub
    content = (source / name).read_bytes()
    (source / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"(?s){name}.*delete '.*snapshots.*and load the model again"):
        hub.fetch("someone/theirs")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    (source / name).write_bytes(content)
    assert read_checkpoint(hub.fetch("someone/theirs")).name == "someone/theirs"


def test_large_files_have_the_hash_that_the_hub_says(on_hub, tmp_path):
    source, _ = on_hub
    weights = source / "model.safetensors"
    content = weights.read_bytes()
    stored = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    stored.parent.mkdir()
    weights.rename(stored)
    weights.symlink_to(stored)
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # a weight that is a little different can be read
    with pytest.raises(ValueError, match=rf"model\.safetensors was damaged.*Delete '.*{stored.name}'"):
        hub.fetch("someone/theirs")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    stored.write_bytes(content)
    assert read_checkpoint(hub.fetch("someone/theirs")).name == "someone/theirs"


def test_two_downloads_at_once(on_hub, tmp_path):
    found, (_, requested) = [], on_hub
    threads = [threading.Thread(target=lambda: found.append(hub.fetch("someone/theirs"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(requested) == len(set(requested)) + 1  # once: config.json is looked at twice
    assert read_checkpoint(found[0]).name == "someone/theirs"
    visible = [path.name for path in found[0].parent.iterdir() if not path.name.endswith(".lock")]
    assert visible == ["main"]


def test_a_cache_that_cannot_be_written(on_hub, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    with pytest.raises(OSError, match=r"cannot be written.*SCANPY_SCT_CACHE_DIR"):
        hub.fetch("someone/theirs")


def test_a_cache_that_can_only_be_read_is_read(on_hub, monkeypatch):
    folder = hub.fetch("someone/theirs")
    monkeypatch.setattr(hub, "FileLock", lambda _: pytest.fail("wrote"))
    assert hub.fetch("someone/theirs") == folder


@pytest.mark.parametrize("revision", ["..", ".", "../other", "/etc", "a\\b", "-x", " "])
def test_revisions_stay_in_the_cache(revision):
    with pytest.raises(ValueError, match="revision"):
        hub.cached_folder("someone/theirs", revision)
