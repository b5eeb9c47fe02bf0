from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scanpy_sct as sct
from scanpy_sct.train import loop, pretrain
from scanpy_sct.train.pretrain import check_shareable
from scanpy_sct.train.state import STATE_FILE

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
    variants = {"full", "direct", "lesion", "alone", "gene_constant", "bag_mean", "knn"}
    assert {f"auprc_{name}" for name in variants} <= set(log)
    assert log.filter(like="auprc").notna().all(axis=None)
    assert (tmp_path / "mine.training" / "log.csv").read_text().count("step") == 1


def assert_same_weights(one, other, **tolerance):
    for name, weight in sct.load_model(one).network.state_dict().items():
        torch.testing.assert_close(sct.load_model(other).network.state_dict()[name], weight, msg=name, **tolerance)


def test_killed_and_resumed_equals_uninterrupted(files, config, tmp_path, genes):
    """The process is killed by the operating system while it trains, and started again."""
    config = replace(config, ema_decay=0.5, steps=24, report_every=3)
    run(files, config, tmp_path / "whole", genes)
    process = spawn(files, config, tmp_path / "parts", genes)
    log = tmp_path / "parts.training" / "log.csv"
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.kill()
    process.wait()
    n_reports = len(pd.read_csv(log))
    assert n_reports < 8
    assert not (tmp_path / "parts").exists()
    run(files, config, tmp_path / "parts", genes)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", atol=0, rtol=0)
    one, other = (pd.read_csv(tmp_path / f"{name}.training" / "log.csv") for name in ("whole", "parts"))
    clocks = ["minutes", "cells_per_s"]
    pd.testing.assert_frame_equal(one.drop(columns=clocks), other.drop(columns=clocks))


def spawn(files, config, output, genes, **options):
    """Train in a process of its own, on one thread as the tests do."""
    call = {"files": files, "config": config, "output": output, "genes": genes, "options": options}
    description = output.with_name(output.name + ".call.pickle")
    description.write_bytes(pickle.dumps(call))
    environment = os.environ | {"SCANPY_SCT_TEST_CALL": str(description)}
    script = Path(__file__).with_name("train_in_process.py")
    return subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.PIPE, text=True)


def test_two_processes_do_what_one_does(files, config, tmp_path, genes):
    config = replace(config, bags_per_step=2, steps=8)
    run(files, config, tmp_path / "one", genes)
    process = spawn(files, config, tmp_path / "two", genes, devices=2, strategy="ddp")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    one, two = (pd.read_csv(tmp_path / f"{name}.training" / "log.csv") for name in ("one", "two"))
    np.testing.assert_array_equal(one["cells"], two["cells"])
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=2e-3, rtol=2e-3)


def test_bags_that_processes_cannot_share_are_refused():
    check_shareable(4, 2)
    with pytest.raises(ValueError, match="bags_per_step=3 cannot be divided among 2 processes"):
        check_shareable(3, 2)


def test_average_of_weights_is_what_is_kept(files, config, tmp_path, genes):
    """With steps that change nothing the average is the network; with a slow average it stays near the start."""
    slow = run(files, replace(config, ema_decay=0.9999), tmp_path / "slow", genes)
    start = run(files, replace(config, steps=1, learning_rate=1e-12), tmp_path / "start", genes)
    plain = run(files, config, tmp_path / "plain", genes)
    weights = [sct.load_model(path).network.cell_path.gene_output for path in (slow, start, plain)]
    assert (weights[0] - weights[1]).abs().max() < 0.01 * (weights[2] - weights[1]).abs().max() + 1e-3


def test_learns(files, config, tmp_path, genes):
    longer = replace(config, steps=120, learning_rate=5e-3, report_every=60, checkpoint_minutes=60)
    run(files, longer, tmp_path / "mine", genes)
    last = pd.read_csv(tmp_path / "mine.training" / "log.csv").iloc[-1]
    assert last["auprc_full"] > last["auprc_gene_constant"] + 0.05


def test_divergence_stops_and_keeps_the_last_state(files, config, tmp_path, genes, monkeypatch):
    drawn = []

    def lost(*args, **options):
        drawn.append(real(*args, **options))
        return drawn[-1] * (float("nan") if len(drawn) == 3 else 1)

    real = loop._loss
    monkeypatch.setattr(loop, "_loss", lost)
    with pytest.raises(FloatingPointError, match="became nan at step 2"):
        run(files, config, tmp_path / "mine", genes)
    assert (tmp_path / "mine.training" / STATE_FILE).exists()


def test_explosion_stops(files, config, tmp_path, genes, monkeypatch):
    real, drawn = loop._loss, []

    def growing(*args, **options):
        drawn.append(None)
        return real(*args, **options) * 1.5 ** len(drawn)

    monkeypatch.setattr(loop, "_loss", growing)
    with pytest.raises(FloatingPointError, match="rose from"):
        run(files, replace(config, steps=60), tmp_path / "mine", genes)


def test_no_data_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match="data is empty"):
        pretrain([], config, tmp_path / "mine")
