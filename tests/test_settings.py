from __future__ import annotations

from pathlib import Path

import pytest

import scanpy_sct
from scanpy_sct.settings import Settings


def test_the_package_has_one_settings_object():
    from scanpy_sct.settings import settings

    assert scanpy_sct.settings is settings
    assert isinstance(settings, Settings)


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:1", "xpu:0"])
def test_devices(device):
    assert Settings(device=device).device == device


def test_a_torch_device_is_accepted():
    torch = pytest.importorskip("torch")
    assert Settings(device=torch.device("cuda", 1)).device == "cuda:1"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("device", "gpu", ValueError),
        ("device", "cuda:", ValueError),
        ("device", None, ValueError),
        ("precision", "half", ValueError),
        ("precision", 16, ValueError),
        ("cache_dir", 3, TypeError),
        ("cache_dir", __file__, ValueError),
        ("progress", "no", TypeError),
        ("progress", 1, TypeError),
        ("block_size", 0, ValueError),
        ("block_size", "many", ValueError),
    ],
)
def test_a_wrong_value_raises_an_error_and_the_old_one_is_kept(name, value, error):
    settings = Settings()
    before = getattr(settings, name)
    with pytest.raises(error, match=name):
        setattr(settings, name, value)
    assert getattr(settings, name) == before
    with pytest.raises(error, match=name):
        Settings(**{name: value})


def test_a_misspelt_setting_raises_an_error():
    with pytest.raises(AttributeError):
        Settings().devise = "cpu"


def test_cache_dir(monkeypatch, tmp_path):
    settings = Settings()
    monkeypatch.setenv("SCANPY_SCT_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert settings.cache_dir == tmp_path / "elsewhere"
    monkeypatch.delenv("SCANPY_SCT_CACHE_DIR")
    assert "scanpy_sct" in settings.cache_dir.parts
    settings.cache_dir = "~/weights"
    assert settings.cache_dir == Path.home() / "weights"
    settings.cache_dir = None
    assert "scanpy_sct" in settings.cache_dir.parts


def test_repr_shows_every_setting():
    text = repr(Settings(device="cpu", precision="float32", cache_dir="weights", progress=False, block_size=100))
    assert text == "Settings(device='cpu', precision='float32', cache_dir='weights', progress=False, block_size=100)"
