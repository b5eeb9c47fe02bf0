from __future__ import annotations

import pytest
import torch

from scanpy_sct.run.device import choose_device, choose_precision
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
