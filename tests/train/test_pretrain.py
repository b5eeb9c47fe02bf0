from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scanpy_sct as sct
from scanpy_sct.train import loop, pretrain

pytest.importorskip("lightning_fabric")


def run(files, config, folder, genes, **options):
    return pretrain(files, config, folder, vocabulary=genes, device="cpu", **options)


def test_makes_a_checkpoint_that_the_verbs_take(files, config, tmp_path, genes, monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)
    checkpoint = sct.load_model(run(files, config, tmp_path / "mine", genes, license="CC0"))
    assert checkpoint.license == "CC0"
    assert sorted(checkpoint.genes[checkpoint.genes != ""]) == sorted(genes)
    assert len(checkpoint.genes) == 120
    adata = ad.read_h5ad(files[1])
    sct.tl.impute(adata, model=checkpoint)
    assert np.isfinite(adata.layers["sct"]).all()


def test_log_has_the_network_beside_the_constant(files, config, tmp_path, genes):
    run(files, config, tmp_path / "mine", genes)
    log = pd.read_csv(tmp_path / "mine.training" / "log.csv")
    assert list(log["step"]) == [2, 4, 6]
    assert {"auprc_full", "auprc_direct", "auprc_gene_constant"} <= set(log)


def test_stopped_and_resumed_equals_uninterrupted(files, config, tmp_path, genes, monkeypatch):
    whole = sct.load_model(run(files, config, tmp_path / "whole", genes))
    step = loop._train_step
    monkeypatch.setattr(
        loop, "_train_step", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt) if args[-1] == 3 else step(*args)
    )
    with pytest.raises(KeyboardInterrupt):
        run(files, config, tmp_path / "parts", genes)
    monkeypatch.setattr(loop, "_train_step", step)
    parts = sct.load_model(run(files, config, tmp_path / "parts", genes))
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], weight, msg=name)


def test_learns(files, config, tmp_path, genes):
    longer = replace(config, steps=120, learning_rate=5e-3, report_every=60, checkpoint_minutes=60)
    run(files, longer, tmp_path / "mine", genes)
    last = pd.read_csv(tmp_path / "mine.training" / "log.csv").iloc[-1]
    assert last["auprc_full"] > last["auprc_gene_constant"] + 0.05


def test_divergence_stops_and_keeps_the_last_state(files, config, tmp_path, genes, monkeypatch):
    monkeypatch.setattr(loop, "_train_step", lambda *args: float("nan") if args[-1] == 2 else 1.0)
    with pytest.raises(FloatingPointError, match="step 2"):
        run(files, config, tmp_path / "mine", genes)
    assert (tmp_path / "mine.training" / loop.STATE_FILE).exists()


def test_no_data_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match="data is empty"):
        pretrain([], config, tmp_path / "mine")
