from __future__ import annotations

import os
import pickle
import shutil
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


def test_a_network_without_convolutions_is_trained_and_used(files, config, tmp_path, genes, monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)
    network = replace(
        config.network, convolutions=False, level_shift=True, alphabet_size=9, mask_token_id=7, pad_token_id=8
    )
    config = replace(config, network=network, binning="counts")
    checkpoint = sct.load_model(run(files, config, tmp_path / "mine", genes))
    assert (checkpoint.path, checkpoint.embedding) == ("direct", "cell")
    assert (checkpoint.tokens.n_bins, checkpoint.tokens.binning) == (6, "counts")
    assert not any(name.startswith(("stem", "down", "up", "head")) for name in checkpoint.network.state_dict())
    adata = ad.read_h5ad(files[1])
    sct.tl.impute(adata, model=checkpoint)
    sct.tl.embed(adata, model=checkpoint)
    assert np.isfinite(adata.layers["sct"]).all()
    with pytest.raises(ValueError, match="path='full': the model 'sct' has no convolutions"):
        sct.tl.impute(adata, model=checkpoint, path="full")
    with pytest.raises(ValueError, match="source='transformer': the model 'sct' has no convolutions"):
        sct.tl.embed(adata, model=checkpoint, source="transformer")


def test_levels_that_no_cell_shows_stay_possible(files, config, tmp_path, genes):
    network = replace(config.network, alphabet_size=15, mask_token_id=13, pad_token_id=14)
    config = replace(config, network=network, binning="counts", steps=1, report_every=1)
    checkpoint = sct.load_model(run(files, config, tmp_path / "mine", genes))
    assert (ad.read_h5ad(files[0]).X.max()) < 2**10  # the last levels are empty
    assert torch.isfinite(checkpoint.network.profile.log_prior).all()


def test_genes_are_put_in_the_order_asked_for(files, config, tmp_path, genes):
    config = replace(config, steps=1, report_every=1)
    given = genes[::-1]
    order = {
        name: sct.load_model(run(files, replace(config, gene_order=name), tmp_path / name, given)).genes
        for name in ("given", "mean", "coexpression")
    }
    np.testing.assert_array_equal(order["given"], given)
    assert not np.array_equal(order["coexpression"], order["mean"])
    cells = ad.concat([ad.read_h5ad(file) for file in files], join="outer", fill_value=0)
    counts = cells[:, order["mean"]].X.toarray()
    rates = np.log1p(1e4 * counts / counts.sum(1, keepdims=True)).mean(0)
    assert np.corrcoef(np.arange(120), rates)[0, 1] < -0.8


def test_log_has_the_network_beside_the_constant(files, config, tmp_path, genes):
    run(files, config, tmp_path / "mine", genes)
    log = pd.read_csv(tmp_path / "mine.training" / "log.csv")
    assert list(log["step"]) == [2, 4, 6]
    variants = {"full", "direct", "lesion", "cells_lesion", "alone", "gene_constant", "bag_mean", "knn"}
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


def test_average_of_weights_is_what_is_kept(files, config, tmp_path, genes, monkeypatch):
    seen, start, real = [], [], loop.Pretraining._average

    def recorded(self, step):
        if not start:
            start.append(self.average.cell_path.gene_output.detach().clone())
        seen.append(self.network.cell_path.gene_output.detach().clone())
        real(self, step)

    monkeypatch.setattr(loop.Pretraining, "_average", recorded)
    folder = run(files, replace(config, ema_decay=0.3, learning_rate=0.02), tmp_path / "mine", genes)
    mean = start[0]
    for step, now in enumerate(seen):
        decay = min(0.3, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * now
    kept = sct.load_model(folder).network.cell_path.gene_output
    torch.testing.assert_close(kept, mean, atol=1e-4, rtol=1e-3)
    assert (kept - seen[-1]).abs().max() > 1e-3


def test_learns(files, config, tmp_path, genes):
    longer = replace(config, steps=120, learning_rate=5e-3, report_every=60, checkpoint_minutes=60)
    run(files, longer, tmp_path / "mine", genes)
    last = pd.read_csv(tmp_path / "mine.training" / "log.csv").iloc[-1]
    assert last["auprc_full"] > last["auprc_gene_constant"] + 0.05


def test_divergence_stops_and_goes_back_to_the_last_good_report(files, config, tmp_path, genes, monkeypatch):
    real, drawn = loop._loss, []

    def lost(*args, **options):
        drawn.append(real(*args, **options))
        return drawn[-1] * (float("nan") if len(drawn) == 4 else 1)

    monkeypatch.setattr(loop, "_loss", lost)
    with pytest.raises(FloatingPointError, match=r"became nan at step 3.*continues from the last good report"):
        run(files, config, tmp_path / "mine", genes)
    state = torch.load(tmp_path / "mine.training" / STATE_FILE, weights_only=False)
    assert state["progress"]["step"] == 2  # the state of step 3 was saved too, on the way down
    run(files, replace(config, learning_rate=1e-4), tmp_path / "mine", genes)
    assert len(drawn) == 4 + 4


def test_explosion_on_held_out_cells_stops(files, config, tmp_path, genes, monkeypatch):
    losses = [1.0, 0.5, 1.2]
    monkeypatch.setattr(loop, "validate", lambda *args, **options: {"loss_full": losses.pop(0)})
    with pytest.raises(FloatingPointError, match=r"rose from 0\.5 to 1\.2 by step 6"):
        run(files, config, tmp_path / "mine", genes)
    state = torch.load(tmp_path / "mine.training" / STATE_FILE, weights_only=False)
    assert state["progress"]["step"] == 4


def test_a_run_is_not_continued_with_other_data_or_settings(files, config, tmp_path, genes):
    run(files, config, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="seed: 0 -> 1"):
        run(files, replace(config, seed=1), tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="data: "):
        run(files[:1], config, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="vocabulary: "):
        run(files, config, tmp_path / "mine", genes[:100])
    run(files, replace(config, steps=8), tmp_path / "mine", genes)
    assert list(pd.read_csv(tmp_path / "mine.training" / "log.csv")["step"]) == [2, 4, 6, 8]


def test_a_run_is_not_continued_with_genes_in_another_order(files, config, tmp_path, genes):
    config = replace(config, steps=1, report_every=1, gene_order="given")
    run(files, config, tmp_path / "mine", genes)
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(ValueError, match="vocabulary"):
        run(files, config, tmp_path / "mine", genes[::-1])


def test_what_cannot_be_trained_is_refused(files, config, tmp_path, genes):
    spatial = replace(config, network=replace(config.network, use_spatial_information=True))
    with pytest.raises(ValueError, match="use_spatial_information"):
        run(files, spatial, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="precision='16-mixed'"):
        run(files, config, tmp_path / "mine", genes, precision="16-mixed")


def test_no_data_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match="data is empty"):
        pretrain([], config, tmp_path / "mine")
