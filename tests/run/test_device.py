from __future__ import annotations

import pytest
import torch

from scanpy_sct.run import device as device_module
from scanpy_sct.run.device import bfloat16_pays, choose_device, choose_precision
from scanpy_sct.settings import settings


def test_settings_decide_what_auto_means(monkeypatch):
    monkeypatch.setattr(settings, "device", "cpu")
    monkeypatch.setattr(settings, "precision", "bfloat16")
    assert choose_device("auto") == torch.device("cpu")
    assert choose_precision("auto", torch.device("cpu")) == torch.bfloat16
    assert choose_precision("float32", torch.device("cpu")) == torch.float32


def test_missing_device_is_refused():
    with pytest.raises(ValueError, match="device='cuda:99'"):
        choose_device("cuda:99")


def test_an_unknown_device_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"device='gpu' is not a device; use 'auto', 'cpu'") as error:
        choose_device("gpu")
    assert len(str(error.value)) < 150


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision='float8'"):
        choose_precision("float8", torch.device("cpu"))


@pytest.fixture
def measured(monkeypatch):
    """Let "auto" measure again, which the other tests must not."""
    bfloat16_pays.cache_clear()
    monkeypatch.setattr(device_module, "bfloat16_pays", bfloat16_pays)
    yield
    bfloat16_pays.cache_clear()


@pytest.mark.parametrize(("bfloat16", "chosen"), [(0.4, torch.bfloat16), (0.9, torch.float32), (30.0, torch.float32)])
def test_auto_takes_bfloat16_where_it_is_clearly_faster(monkeypatch, measured, bfloat16, chosen):
    runs = []
    times = {torch.float32: 1.0, torch.bfloat16: bfloat16}
    monkeypatch.setattr(device_module, "_probe", lambda dtype: runs.append(dtype) or times[dtype])
    assert choose_precision("auto", torch.device("cpu")) == chosen
    n_runs = len(runs)
    assert choose_precision("auto", torch.device("cpu")) == chosen
    assert len(runs) == n_runs > 0  # measured once


def test_the_probe_measures(measured):
    assert isinstance(bfloat16_pays(), bool)
    assert all(0 < device_module._probe(dtype) < 5 for dtype in (torch.float32, torch.bfloat16))


def test_only_auto_on_a_processor_is_measured(monkeypatch):
    monkeypatch.setattr(device_module, "bfloat16_pays", lambda: pytest.fail("measured"))
    assert choose_precision("float32", torch.device("cpu")) == torch.float32
    assert choose_precision("auto", torch.device("mps")) == torch.float32
