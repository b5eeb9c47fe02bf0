"""The notebooks of `tutorials/` run, and are kept with the outputs of a run."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import pytest

import scanpy_sct as sct

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))


def code_cells(file: Path) -> list[dict]:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_outputs_are_kept_without_warnings_and_paths(file):
    cells = code_cells(file)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert not any(output.get("name") == "stderr" or output["output_type"] == "error" for output in outputs)
    texts = [
        text for output in outputs for text in (output.get("text", []), output.get("data", {}).get("text/plain", []))
    ]
    assert re.findall(r"/(?:tmp|home|root|work|Users)/\S*", "".join(map("".join, texts))) == []
    assert file.stat().st_size < 1_200_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_runs(file, request, monkeypatch, tmp_path):
    cells = ["".join(cell["source"]) for cell in code_cells(file)]
    if any("her2st" in cell for cell in cells):
        monkeypatch.setenv("SCANPY_SCT_DATA_DIR", os.fspath(request.getfixturevalue("data_dir")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sct.settings, "progress", True)  # set back after the test; notebooks switch it off
    names: dict = {}
    loggers = [logging.getLogger(name) for name in ("scanpy_sct", "spatialdata._logging")]
    levels = [logger.level for logger in loggers]
    try:
        for number, cell in enumerate(cells, start=1):
            exec(compile(cell, f"{file.name}, cell {number}", "exec"), names)
    finally:  # notebooks set levels
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
