"""`scanpy_sct.models` lists, describes and downloads checkpoints."""

from __future__ import annotations

import pytest

from scanpy_sct.checkpoints import hub, models, registry, save_checkpoint

RELEASED = "InstaDeepAI/sCellTransformer"


@pytest.fixture(autouse=True)
def packaged(tmp_path, monkeypatch, tiny):
    save_checkpoint(tmp_path / "data" / "sct-mini", tiny, readme="# The card\n")
    monkeypatch.setattr(registry, "PACKAGED_FOLDER", tmp_path / "data")
    monkeypatch.setenv("SCANPY_SCT_CACHE_DIR", str(tmp_path / "cache"))


def test_list(tiny):
    table = models.list()
    assert table.index.tolist() == ["sct-mini", RELEASED]
    assert table.loc["sct-mini"].tolist() == [48_559, 3, "BSD-3-Clause", "package", True]
    assert table.loc[RELEASED].tolist() == [79_204_163, 19_937, "CC BY-NC-SA 4.0", "hub", False]
    save_checkpoint(hub.cached_folder(RELEASED), tiny)
    assert models.list().loc[RELEASED, "downloaded"]


def test_describe(tiny, tmp_path, golden_dir):
    assert models.describe("sct-mini") == "# The card\n"
    assert "79,204,163" in models.describe(RELEASED)
    assert "non-commercial" in models.describe(RELEASED) or "NC" in models.describe(RELEASED)
    assert "48,559" in models.describe(str(golden_dir / "f_spatial_scales"))  # no card of its own
    save_checkpoint(hub.cached_folder(RELEASED), tiny, readme="# Converted\n")
    assert models.describe(RELEASED) == "# Converted\n"


def test_describe_downloads_nothing(monkeypatch):
    monkeypatch.setattr(hub, "fetch", None)
    with pytest.raises(ValueError, match=r"has not been downloaded.*models\.download"):
        models.describe("someone/else")
    with pytest.raises(ValueError, match="is not known; use the name of a model"):
        models.describe("sct-maxi")


def test_download_returns_a_folder(tmp_path, monkeypatch):
    assert models.download("sct-mini") == tmp_path / "data" / "sct-mini"
    monkeypatch.setattr(hub, "fetch", lambda repository, revision: (repository, revision))
    assert models.download("someone/else", revision="v1") == ("someone/else", "v1")
