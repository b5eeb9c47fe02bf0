from __future__ import annotations

import errno
import signal
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scanpy_sct as sct
from scanpy_sct.model import CompactConfig
from scanpy_sct.train import loop, optimise, pretrain
from scanpy_sct.train.pretrain import check_divisible
from scanpy_sct.train.start import find_start
from scanpy_sct.train.state import STATE_FILE

pytest.importorskip("lightning_fabric")


@pytest.fixture
def run_in_processes(monkeypatch):
    """Function of `in_process.py`, imported by name so that processes can find it."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return import_module("in_process").run_in_processes


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


def run(files, config, folder, genes, **options):
    return pretrain(files, config, folder, vocabulary=genes, device="cpu", **options)


def log_of(folder):
    return pd.read_csv(folder.with_name(folder.name + ".training") / "log.csv")


def assert_same_weights(one, other, **tolerance):
    expected, found = (sct.load_model(folder).network.state_dict() for folder in (one, other))
    for name, weight in expected.items():
        # Attention does not depend on the bias of its keys: their gradient is rounding noise, which Adam magnifies.
        if tolerance == {"atol": 0, "rtol": 0} and name.endswith("key.bias"):
            continue
        torch.testing.assert_close(found[name], weight, msg=name, **tolerance)


@pytest.fixture(scope="module")
def trained_before():
    """Folders of checkpoints, by architecture."""
    return {}


@pytest.fixture
def trained(files, each_config, genes, trained_before, tmp_path_factory):
    """Folder of a checkpoint of `each_config`; tests only read it."""
    kind = type(each_config.network)
    if kind not in trained_before:
        folder = tmp_path_factory.mktemp("trained") / "mine"
        trained_before[kind] = run(files, each_config, folder, genes, license="CC0")
    return trained_before[kind]


def test_makes_a_checkpoint_that_can_be_used(files, each_config, trained, genes):
    checkpoint = sct.load_model(trained)
    expected = each_config.network
    if isinstance(expected, CompactConfig):
        expected = replace(expected, bag_correction=True)
    assert checkpoint.config == expected
    assert checkpoint.license == "CC0"
    assert checkpoint.tokens.binning == "counts"
    assert sorted(checkpoint.genes[checkpoint.genes != ""]) == sorted(genes)
    adata = ad.read_h5ad(files[1])
    sct.tl.impute(adata, model=checkpoint, device="cpu")
    sct.tl.embed(adata, model=checkpoint, device="cpu")
    assert np.isfinite(adata.layers["sct"]).all()
    assert np.isfinite(adata.obsm["X_sct"]).all()


def test_the_card_has_data_and_settings(trained):
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert "160 cells or spots of 2 data sets" in card
    assert "- file1: 80 cells, 100 genes" in card
    assert "- learning_rate: 0.002" in card
    assert "The weights: CC0" in card
    last = log_of(trained).iloc[-1]
    assert f"the average precision on held-out cells was {last['auprc_network']:.4f}" in card


def test_bins_without_cells_have_a_frequency(files, config, genes):
    config = replace(config, network=replace(config.network, n_bins=13))
    assert ad.read_h5ad(files[0]).X.max() < 2**10  # the last bins are empty
    assert (find_start(files, config, genes).frequencies > 0).all()


def test_genes_of_the_released_architecture_are_ordered_and_padded(files, config, released_config, genes):
    start = find_start(files, released_config, genes[:117])
    assert list(start.genes[117:]) == [""] * 3
    np.testing.assert_array_equal(np.sort(start.genes[:117]), np.sort(genes[:117]))

    cells = ad.concat([ad.read_h5ad(file) for file in files], join="outer", fill_value=0, index_unique="-")

    def similarity(genes):
        counts = cells[:, genes].X.toarray()
        values = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
        values = values[:, values.std(0) > 0]
        return np.mean([np.corrcoef(*pair)[0, 1] for pair in pairwise(values.T)])

    given = find_start(files, config, genes[:117])
    np.testing.assert_array_equal(given.genes, np.sort(genes[:117]))
    assert similarity(start.genes[:117]) > similarity(given.genes) + 0.1


def test_log_has_the_network_beside_baselines(trained):
    log = log_of(trained)
    assert list(log["step"]) == [2, 4, 6]
    variants = {"network", "ablated", "alone", "gene_constant", "bag_mean", "knn"}
    assert {f"auprc_{name}" for name in variants} <= set(log)
    assert log.filter(like="auprc").notna().all(axis=None)
    assert (trained.with_name("mine.training") / "log.csv").read_text().count("step") == 1


def test_interrupted_and_resumed_equals_uninterrupted(files, released_config, tmp_path, genes, monkeypatch):
    config = replace(released_config, ema_decay=0.5, steps=4)
    run(files, config, tmp_path / "whole", genes)
    real = loop.Pretraining._step

    def interrupted(self, bags, progress):
        if progress.step == 3:
            raise KeyboardInterrupt
        real(self, bags, progress)

    monkeypatch.setattr(loop.Pretraining, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(files, config, tmp_path / "parts", genes)
    monkeypatch.setattr(loop.Pretraining, "_step", real)
    assert not (tmp_path / "parts").exists()
    run(files, config, tmp_path / "parts", genes)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", atol=0, rtol=0)
    assert_same_log(tmp_path / "whole", tmp_path / "parts")


def assert_same_log(one, other):
    clocks = ["minutes", "cells_per_s"]
    pd.testing.assert_frame_equal(log_of(one).drop(columns=clocks), log_of(other).drop(columns=clocks))


def test_killed_and_resumed_equals_uninterrupted(files, config, tmp_path, genes, run_in_processes):
    """The process is killed by the operating system while it trains, and started again; a compact network this time."""
    config = replace(config, ema_decay=0.5, report_every=2)
    run(files, config, tmp_path / "whole", genes)
    call = {"data": files, "config": config, "output": tmp_path / "parts", "vocabulary": genes, "device": "cpu"}
    assert run_in_processes([call], killed_at=5) == [-signal.SIGKILL]
    assert list(log_of(tmp_path / "parts")["step"]) == [2, 4]
    assert not (tmp_path / "parts").exists()
    run(files, config, tmp_path / "parts", genes)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", atol=0, rtol=0)
    assert_same_log(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), RuntimeError("failed writing file")])
def test_a_full_disk_is_named_and_training_continues(files, config, tmp_path, genes, monkeypatch, error):
    import lightning_fabric

    saved, calls = lightning_fabric.Fabric.save, []

    def full(self, path, state):
        calls.append(path)
        if len(calls) == 4:
            raise error
        saved(self, path, state)

    with monkeypatch.context() as patched, pytest.raises(OSError, match=r"cannot be saved.*repeat the call") as found:
        patched.setattr(lightning_fabric.Fabric, "save", full)
        run(files, config, tmp_path / "mine", genes)
    assert found.value.errno == getattr(error, "errno", None)
    assert not list(tmp_path.rglob("*.partial"))
    run(files, config, tmp_path / "mine", genes)
    assert list(log_of(tmp_path / "mine")["step"]) == [2, 4, 6]


def test_two_processes_do_what_one_does(files, config, released_config, tmp_path, genes, run_in_processes):
    both = {"compact": config, "released": released_config}
    configs = {name: replace(each, bags_per_step=2, steps=3, report_every=3) for name, each in both.items()}
    calls = []
    for name, each in configs.items():
        run(files, each, tmp_path / f"{name}-one", genes)
        call = {"data": files, "config": each, "output": tmp_path / f"{name}-two", "vocabulary": genes}
        calls.append(call | {"device": "cpu", "devices": 2, "strategy": "ddp"})
    assert run_in_processes(calls, n_processes=2) == [0, 0]
    for name in configs:
        one, two = (log_of(tmp_path / f"{name}-{number}") for number in ("one", "two"))
        np.testing.assert_array_equal(one["cells"], two["cells"])
        np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-4)
        assert_same_weights(tmp_path / f"{name}-one", tmp_path / f"{name}-two", atol=2e-3, rtol=2e-3)


def test_bags_that_cannot_be_divided_among_processes_are_refused():
    check_divisible(4, 2)
    with pytest.raises(ValueError, match="bags_per_step=3 cannot be divided among 2 processes"):
        check_divisible(3, 2)


def test_the_average_of_the_weights_is_saved(files, config, tmp_path, genes, monkeypatch):
    weights, start, real = [], [], loop.Pretraining._average

    def recorded(self, step):
        if not start:
            start.append(self.average.decoder.gene_factors.detach().clone())
        weights.append(self.network.decoder.gene_factors.detach().clone())
        real(self, step)

    monkeypatch.setattr(loop.Pretraining, "_average", recorded)
    folder = run(files, replace(config, ema_decay=0.3, learning_rate=0.02), tmp_path / "mine", genes)
    mean = start[0]
    for step, now in enumerate(weights):
        decay = min(0.3, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * now
    kept = sct.load_model(folder).network.decoder.gene_factors
    torch.testing.assert_close(kept, mean, atol=1e-4, rtol=1e-3)
    assert (kept - weights[-1]).abs().max() > 1e-3


def test_learns(files, config, tmp_path, genes):
    longer = replace(config, steps=120, learning_rate=5e-3, report_every=60, checkpoint_minutes=60)
    run(files, longer, tmp_path / "mine", genes)
    last = log_of(tmp_path / "mine").iloc[-1]
    assert last["auprc_network"] > last["auprc_gene_constant"] + 0.05


def test_divergence_stops_and_goes_back_to_the_last_good_report(files, config, tmp_path, genes, monkeypatch):
    real, drawn = optimise.Optimisation.loss, []

    def lost(self, bag):
        drawn.append(real(self, bag))
        return drawn[-1] * (float("nan") if len(drawn) == 4 else 1)

    monkeypatch.setattr(optimise.Optimisation, "loss", lost)
    with pytest.raises(FloatingPointError, match=r"became nan at step 3.*continues from the last good report"):
        run(files, config, tmp_path / "mine", genes)
    state = torch.load(tmp_path / "mine.training" / STATE_FILE, weights_only=False)
    assert state["progress"]["step"] == 2  # the state of step 3 was saved too, on the way down
    run(files, replace(config, learning_rate=1e-4), tmp_path / "mine", genes)
    assert len(drawn) == 4 + 4


def test_explosion_on_held_out_cells_stops(files, config, tmp_path, genes, monkeypatch):
    losses = [1.0, 0.5, 1.2]
    monkeypatch.setattr(loop, "validate", lambda *args, **options: {"loss_network": losses.pop(0)})
    with pytest.raises(FloatingPointError, match=r"rose from 0\.5 to 1\.2 by step 6"):
        run(files, config, tmp_path / "mine", genes)
    state = torch.load(tmp_path / "mine.training" / STATE_FILE, weights_only=False)
    assert state["progress"]["step"] == 4


def test_a_run_is_not_continued_with_other_data_or_settings(files, config, released_config, tmp_path, genes):
    run(files, config, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="seed: 0 -> 1"):
        run(files, replace(config, seed=1), tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="architecture: 'compact' -> 'released'"):
        run(files, released_config, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="data: "):
        run(files[:1], config, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="vocabulary: "):
        run(files, config, tmp_path / "mine", genes[:100])
    run(files, replace(config, steps=8, whitening=0.0), tmp_path / "mine", genes[::-1])
    assert list(log_of(tmp_path / "mine")["step"]) == [2, 4, 6, 8]


def test_what_cannot_be_trained_is_refused(files, config, tmp_path, genes):
    spatial = replace(config, network=replace(config.network, reads_coordinates=True))
    with pytest.raises(ValueError, match="reads coordinates"):
        run(files, spatial, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="precision='16-mixed'"):
        run(files, config, tmp_path / "mine", genes, precision="16-mixed")
    wide = replace(config, network=replace(config.network, cell_dim=96))
    with pytest.raises(ValueError, match="data has 160 cells to whiten an embedding of 96 dimensions"):
        run(files, wide, tmp_path / "mine", genes)
    with pytest.raises(ValueError, match="data is empty"):
        pretrain([], config, tmp_path / "mine")
