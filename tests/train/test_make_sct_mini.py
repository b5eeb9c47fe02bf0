from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scanpy_sct as sct

pytest.importorskip("lightning_fabric")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def data(tmp_path, genes):
    """The labelled files, with few cells and genes."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.3, 3, (2, len(genes)))
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("pbmc_facs_zheng", "pbmc_sorted_14k", "pbmc_sorted_mudan", "pbmc_sorted_zheng500"):
        kind = rng.integers(0, 2, 100)
        types = np.array(["CD19+ B", "CD56+ NK"])[kind]
        obs = pd.DataFrame({"cell_type": types}, index=[f"cell{number}" for number in range(100)])
        counts = sparse.csr_matrix(rng.poisson(rates[kind]).astype(np.float32))
        ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(folder / f"{name}.h5ad")
    return folder


def test_one_command_makes_the_checkpoint(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)
    monkeypatch.syspath_prepend(SCRIPTS)
    options = ["--data", data, "--output", tmp_path / "mini", "--work", tmp_path / "work", "--steps", 2]
    monkeypatch.setattr(sys, "argv", ["train_sct_mini.py", *map(str, options)])
    import_module("train_sct_mini").main()
    made, shipped = sct.load_model(tmp_path / "mini"), sct.load_model("sct-mini")
    assert made.name == "sct-mini"
    assert made.config == shipped.config
    assert made.tokens == shipped.tokens
    assert set(made.genes) == set(shipped.genes[shipped.genes != ""])
    assert made.label_head.labels == ("B cell", "natural killer cell")
    assert set(made.label_head.labels) < set(shipped.label_head.labels)
    assert made.label_head.home.sources == shipped.label_head.home.sources
    card = (tmp_path / "mini" / "README.md").read_text(encoding="utf-8")
    for found in ("pbmc_sorted_mudan: 100 cells", "- steps: 2", "CC BY 4.0", "## Limits"):
        assert found in card


def test_a_new_label_head_leaves_the_network_as_it_is(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)
    monkeypatch.syspath_prepend(SCRIPTS)
    options = ["--data", data, "--output", tmp_path / "mini", "--head-of", "sct-mini"]
    monkeypatch.setattr(sys, "argv", ["train_sct_mini.py", *map(str, options)])
    import_module("train_sct_mini").main()
    made, shipped = sct.load_model(tmp_path / "mini"), sct.load_model("sct-mini")
    assert (made.sha256, made.config) == (shipped.sha256, shipped.config)
    assert made.label_head.labels == ("B cell", "natural killer cell")
