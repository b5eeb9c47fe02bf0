from __future__ import annotations

import logging

import pytest

import scanpy_sct as sct
from scanpy_sct.impute import timing
from scanpy_sct.impute.timing import time_range
from scanpy_sct.run import device


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "a few seconds"),
        (6, "roughly 4-9 s"),
        (30, "roughly 20-45 s"),
        (600, "roughly 8-15 min"),
        (9000, "roughly 2-4 h"),
    ],
)
def test_durations_are_rough_and_easy_to_read(seconds, text):
    assert time_range(seconds) == text


@pytest.fixture
def cells(pbmc):
    device._mention.cache_clear()
    return pbmc[:40].copy()


def test_the_first_messages_name_model_licence_device_and_time(cells, tiny_checkpoint, caplog, monkeypatch):
    monkeypatch.setattr(timing, "seconds_to_impute", lambda imputer: 600.0)
    caplog.set_level(logging.INFO, logger="scanpy_sct")
    sct.tl.impute(cells, model=tiny_checkpoint, device="cpu")
    sct.tl.impute(cells, model=tiny_checkpoint, device="cpu", key_added="again")
    first, second, *_, last = [each.getMessage() for each in caplog.records if each.levelno == logging.INFO]
    license = tiny_checkpoint.license or "not known"
    assert first == f"Model tiny (licence of its weights: {license}), on the device cpu in float32."
    n_genes = cells.var["sct_imputed"].sum()
    assert second == last == f"Imputing 40 cells x {n_genes} genes; expected time: roughly 8-15 min."
    assert caplog.text.count("licence of its weights") == 1


def test_no_time_is_measured_where_the_log_is_not_shown(cells, tiny_checkpoint, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, logger="scanpy_sct")
    monkeypatch.setattr(timing, "seconds_to_impute", lambda imputer: pytest.fail("measured"))
    sct.tl.impute(cells, model=tiny_checkpoint, device="cpu")
    assert not caplog.records
    caplog.set_level(logging.INFO, logger="scanpy_sct")  # the model was not mentioned yet
    sct.tl.embed(cells, model=tiny_checkpoint, device="cpu")
    assert "Model tiny" in caplog.text
