"""Checkpoints from the hub, with a local folder instead of the hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from scanpy_sct.checkpoints import hub, load_model, read_released, save_checkpoint

RELEASED = "InstaDeepAI/sCellTransformer"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Replaces ``hf_hub_download``: files are in `<root>/models--owner--name/snapshots/<commit>/`."""

    def __init__(self, root: Path) -> None:
        self.root, self.online, self.requested = root, True, []

    def add(self, repository: str) -> Path:
        folder = self.root / f"models--{repository.replace('/', '--')}" / "snapshots" / COMMIT
        folder.mkdir(parents=True)
        return folder

    def __call__(self, repository: str, name: str, *, revision: str) -> str:
        self.requested.append((repository, name, revision))
        folder = self.root / f"models--{repository.replace('/', '--')}"
        if not self.online:
            raise errors.LocalEntryNotFoundError(name)
        if not folder.exists():
            raise self._http_error(errors.RepositoryNotFoundError)
        if revision == "no-such-revision":
            raise self._http_error(errors.RevisionNotFoundError)
        path = folder / "snapshots" / COMMIT / name
        if not path.exists():
            raise errors.EntryNotFoundError(name)
        return str(path)

    @staticmethod
    def _http_error(kind: type[Exception]) -> Exception:
        return kind.__new__(kind)  # without the response that its constructor needs


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    stand_in = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stand_in)
    monkeypatch.setenv("SCANPY_SCT_CACHE_DIR", str(tmp_path / "cache"))
    return stand_in


@pytest.fixture
def released(stand_in, golden_dir):
    folder = stand_in.add(RELEASED)
    shutil.copytree(golden_dir / "f_spatial_scales", folder / "jax_params")
    (folder / "config.json").write_text('{"model_type": "sCT"}')  # of the torch files beside it, not ours
    return stand_in


def test_released_weights_are_converted_once_and_then_read_offline(released, golden_dir, monkeypatch, caplog):
    first = load_model(RELEASED)
    assert caplog.text.count("not for commercial use") == caplog.text.count(RELEASED) == 1
    expected = read_released(golden_dir / "f_spatial_scales")
    for name, tensor in expected.network.state_dict().items():
        assert torch.equal(first.network.state_dict()[name], tensor), name
    assert (first.name, first.revision, first.license) == (RELEASED, COMMIT, "CC BY-NC-SA 4.0")
    assert first.tokens == expected.tokens
    assert {revision for _, _, revision in released.requested} == {hub.HUB_MODELS[RELEASED].revision}

    released.online = False
    released.requested.clear()
    monkeypatch.setattr(hub.released, "read_released", None)  # reading the pickle again would fail
    second = load_model(RELEASED)
    assert released.requested == []
    assert (second.sha256, second.revision) == (first.sha256, COMMIT)


def test_own_format_is_kept_as_it_is(stand_in, tiny):
    folder = stand_in.add("someone/their-sct")
    save_checkpoint(folder, tiny, dtype="float16", readme="# Theirs\n")
    found = load_model("someone/their-sct")
    assert (found.name, found.revision, found.label_head.labels) == (
        "someone/their-sct",
        COMMIT,
        tiny.label_head.labels,
    )
    cached = hub.cached_folder("someone/their-sct")
    for name in ("model.safetensors", "genes.tsv", "label_head.safetensors", "README.md"):
        assert (cached / name).read_bytes() == (folder / name).read_bytes()
    stand_in.online = False
    assert load_model("someone/their-sct").sha256 == found.sha256


def test_own_format_without_optional_files(stand_in, tiny):
    folder = stand_in.add("someone/plain")
    save_checkpoint(folder, tiny)
    (folder / "README.md").unlink()
    assert load_model("someone/plain").name == "someone/plain"


def test_revisions_are_kept_apart(released):
    load_model(RELEASED)
    load_model(RELEASED, revision="refs/pr/1")
    assert hub.cached_folder(RELEASED) != hub.cached_folder(RELEASED, "refs/pr/1")
    assert hub.cached_folder(RELEASED, "refs/pr/1").is_dir()


def test_interrupted_download_leaves_nothing_that_looks_complete(released, tmp_path):
    (released.root / f"models--{RELEASED.replace('/', '--')}/snapshots/{COMMIT}/jax_params/params.joblib").write_bytes(
        b"x"
    )
    with pytest.raises(ValueError, match="Cannot read the arrays"):
        load_model(RELEASED)
    assert not list((tmp_path / "cache").rglob("config.json"))


def test_offline_without_cache(stand_in):
    stand_in.online = False
    with pytest.raises(ConnectionError, match=r"models\.download.*pass that folder"):
        load_model(RELEASED)


@pytest.mark.parametrize(
    ("repository", "revision", "message"),
    [
        ("no/such-repository", None, "there is no such repository"),
        (RELEASED, "no-such-revision", "no-such-revision.*full commit hash"),
        ("someone/empty", None, "has no jax_params/config.json"),
    ],
)
def test_what_is_not_there_is_named(released, repository, revision, message):
    released.add("someone/empty")
    with pytest.raises(ValueError, match=message):
        load_model(repository, revision=revision)


@pytest.mark.parametrize("name", ["owner/name", "InstaDeepAI/sCellTransformer", "a-b/c.d_e"])
def test_repository_names(name):
    assert hub.is_repository(name)


@pytest.mark.parametrize(
    "name", ["name", "/absolute/path", "./here/x", "../x", "a/b/c", "~/x", "a/", "", "a b/c", "a/../b"]
)
def test_paths_are_not_repositories(name):
    assert not hub.is_repository(name)
