"""Killed at random moments, imputations, trainings and downloads go on, and give the same numbers."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults():
    """Load the script that kills many times; its functions must be found by name in other processes."""
    if not SCRIPT.is_file():
        pytest.skip(f"{SCRIPT} is not there")
    spec = importlib.util.spec_from_file_location("faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPT.parent))
    sys.modules["faults"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))
    del sys.modules["faults"]


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("job", ["impute", "train", "download"])
def test_kills_lose_nothing(faults, tmp_path, job):
    reports = faults.kill_many(2, 0, tmp_path, (job,))
    assert sum(report["kills"] for report in reports) >= 2
    assert [report for report in reports if report["corrupt"] or not report["same"]] == []
