"""The same call gives the same bits: again, with more threads, and in another process.

`benchmarks/reproducible.py` compares more results, also of other versions of Python.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import scanpy_sct as sct
from scanpy_sct.checkpoints import save_checkpoint

IN_ANOTHER_PROCESS = """
import sys
import numpy as np
import torch
import scanpy_sct as sct

torch.set_num_threads(2)
cells = sct.datasets.pbmc68k()[:60].copy()
sct.settings.progress = False
sct.tl.impute(cells, model=sys.argv[1])
sct.tl.embed(cells, model=sys.argv[1])
np.savez(sys.argv[2], imputed=cells.layers["sct"], embedding=cells.obsm["X_sct"])
"""


@pytest.fixture
def imputed(pbmc, compact_checkpoint, monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)

    def computed(n_threads=1):
        torch.set_num_threads(n_threads)
        cells = pbmc[:60].copy()
        sct.tl.impute(cells, model=compact_checkpoint)
        sct.tl.embed(cells, model=compact_checkpoint)
        return {"imputed": cells.layers["sct"], "embedding": cells.obsm["X_sct"]}

    return computed


def test_again_and_with_more_threads(imputed):
    known = imputed()
    for again in (imputed(), imputed(n_threads=2)):
        for name, values in known.items():
            np.testing.assert_array_equal(again[name], values, err_msg=name)


def test_in_another_process_with_other_hashes(imputed, compact_checkpoint, tmp_path):
    known = imputed()
    save_checkpoint(tmp_path / "model", compact_checkpoint)
    arguments = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "model"), str(tmp_path / "found.npz")]
    subprocess.run(arguments, check=True, env=os.environ | {"PYTHONHASHSEED": "7"}, timeout=100)
    found = np.load(tmp_path / "found.npz")
    for name, values in known.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
