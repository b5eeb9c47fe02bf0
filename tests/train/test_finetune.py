from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from typer.testing import CliRunner

import scanpy_sct as sct
from scanpy_sct.checkpoints import TokenSettings
from scanpy_sct.cli.app import app
from scanpy_sct.model import Bags, make_network
from scanpy_sct.plan.tokens import make_tokens
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.run.inputs import genes_to_read, token_rules
from scanpy_sct.train import FinetuneConfig, finetune
from scanpy_sct.train.data import as_dataset, draw_bag, draw_validation_bag
from scanpy_sct.train.finetune import trainable_part
from scanpy_sct.train.optimise import MaskedLoss, as_tensors, cross_entropy
from scanpy_sct.workflow import open_cells

pytest.importorskip("lightning_fabric")

SHORT = FinetuneConfig(
    steps=6, warmup_steps=1, bag_size=16, validate_every=3, validation_fraction=0.3, learning_rate=3e-3
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(params=["compact", "released"])
def each_checkpoint(request, compact_checkpoint, released_checkpoint):
    """One after the other."""
    return compact_checkpoint if request.param == "compact" else released_checkpoint


@pytest.fixture
def part(compact_checkpoint, cells):
    """The part of the network that is trained, its genes, and a bag of all genes."""
    model = compact_checkpoint
    vocabulary = model.genes.copy()
    vocabulary[[3, 450]] = ""  # gaps without a gene before the last gene
    model = replace(model, genes=vocabulary)
    dataset = dataset_of(model, cells)
    gene_index = genes_to_read(model, dataset.measured, np.zeros_like(dataset.measured))
    rules = token_rules(model)
    bag = draw_validation_bag([dataset], rules, SHORT, np.random.default_rng(0), 12)
    return model, trainable_part(model.network, gene_index), gene_index, dataset, bag


def dataset_of(model, cells, hide=None):
    _, reader = open_cells(cells, model, ReadOptions(hide=hide))
    return as_dataset(reader.block(), "cells", np.arange(cells.n_obs) < 30, 0)


@pytest.fixture
def cells(compact_checkpoint):
    """Counts of 90 cells of three kinds, each with genes of its own; 300 of the 509 genes of the model."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 90)
    rates = np.where(rng.integers(0, 3, 300) == np.arange(3)[:, None], 1.5, 0.1)
    names = compact_checkpoint.genes[compact_checkpoint.genes != ""][100:400]
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rates[kind]).astype(np.float32)), var=pd.DataFrame(index=names))
    adata.obs_names = adata.obs_names.astype(str)
    adata.obs["sample"] = rng.choice(["a", "b"], 90)
    return adata


@pytest.fixture
def hide(cells):
    return sparse.csr_matrix(np.random.default_rng(1).random(cells.shape) < 0.2)


def assert_same_weights(one, other):
    for name, weight in one.network.state_dict().items():
        assert torch.equal(weight, other.network.state_dict()[name]), name


def loss_at_hidden(checkpoint, cells, hide):
    """Mean log loss of detection at entries that are hidden."""
    _, reader = open_cells(cells, checkpoint, ReadOptions(hide=hide))
    block, rules = reader.block(), token_rules(checkpoint)
    hidden = block.hidden_rows()
    tokens = make_tokens(block.token_values, block.token_values, hidden, block.measured, rules).tokens
    detected = open_cells(cells, checkpoint)[1].block().log_values.toarray()[hidden] > 0
    with torch.no_grad():
        index = torch.from_numpy(np.flatnonzero(hidden))
        logits = checkpoint.network.bin_logits(Bags(torch.from_numpy(tokens)[None]), index)
    zero = logits.softmax(-1)[:, 0].numpy()
    return -np.log(np.where(detected, 1 - zero, zero)).mean()


def test_what_was_hidden_is_predicted_better_afterwards(compact_checkpoint, cells, hide):
    config = FinetuneConfig(steps=100, bag_size=20, learning_rate=5e-3, validate_every=25)
    tuned = finetune(compact_checkpoint, cells, config, hide=hide, device="cpu")
    assert loss_at_hidden(tuned, cells, hide) < loss_at_hidden(compact_checkpoint, cells, hide) - 0.01
    assert tuned.name == "tiny-finetuned"


def test_the_given_model_and_the_data_are_not_changed(each_checkpoint, cells):
    weights = {name: weight.clone() for name, weight in each_checkpoint.network.state_dict().items()}
    values = cells.X.copy()
    tuned = finetune(each_checkpoint, cells, SHORT, device="cpu")
    for name, weight in each_checkpoint.network.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    assert (cells.X != values).nnz == 0
    assert any(not torch.equal(weight, weights[name]) for name, weight in tuned.network.state_dict().items())


def test_only_what_describes_cells_and_only_measured_genes_are_trained(compact_checkpoint, cells):
    tuned = finetune(compact_checkpoint, cells, SHORT, device="cpu")
    before, after = compact_checkpoint.network.state_dict(), tuned.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in changed} == {"embedder", "cell_transformer", "decoder"}
    assert "embedder.bin_values" not in changed
    measured = np.isin(compact_checkpoint.genes, cells.var_names)
    for table in ("embedder.gene_factors", "decoder.gene_factors"):
        rows = (before[table] != after[table]).any(1).numpy()
        np.testing.assert_array_equal(rows, measured)


def test_all_of_a_released_network_is_trained(released_checkpoint, cells):
    tuned = finetune(released_checkpoint, cells, SHORT, device="cpu")
    before, after = released_checkpoint.network.state_dict(), tuned.network.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"token_embedding", "stem", "down", "layers", "up", "head"} == changed


def test_same_seed_same_weights(compact_checkpoint, cells):
    one, again, other = (finetune(compact_checkpoint, cells, SHORT, device="cpu", rng=seed) for seed in (0, 0, 1))
    assert_same_weights(one, again)
    assert not torch.equal(one.network.decoder.gene_factors, other.network.decoder.gene_factors)


def test_the_global_random_state_is_not_changed(compact_checkpoint, cells):
    state = torch.random.get_rng_state()
    finetune(compact_checkpoint, cells, SHORT, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_hidden_entries_are_masked_and_not_predicted(compact_checkpoint, cells, hide):
    dataset = dataset_of(compact_checkpoint, cells, hide)
    rules = token_rules(compact_checkpoint)
    for draw in (draw_bag, draw_validation_bag):
        bag = draw([dataset], rules, SHORT, np.random.default_rng(0), 12)
        row = [np.flatnonzero((dataset.points == point).all(1))[0] for point in bag.points]
        hidden = dataset.hidden[row].toarray()
        assert hidden.any()
        assert (bag.tokens[hidden] == rules.mask).all()
        assert not hidden.ravel()[bag.token_index].any()
        assert (bag.tokens[:, dataset.measured] != rules.mask).any()


def test_hidden_entries_have_no_influence(each_checkpoint, cells, hide):
    changed = cells.copy()
    noise = np.random.default_rng(5).poisson(3, cells.shape)
    changed.X = sparse.csr_matrix(np.where(hide.toarray(), noise, cells.X.toarray()).astype(np.float32))
    config = replace(SHORT, steps=3, validate_every=1, learning_rate=1e-3, bag_size=8)
    one, other = (finetune(each_checkpoint, each, config, hide=hide, device="cpu") for each in (cells, changed))
    assert_same_weights(one, other)
    with pytest.raises(AssertionError):
        assert_same_weights(one, finetune(each_checkpoint, changed, config, device="cpu"))


def test_saved_folder_holds_the_same(compact_checkpoint, cells, tmp_path):
    tuned = finetune(compact_checkpoint, cells, SHORT, tmp_path / "mine", device="cpu")
    loaded = sct.load_model(tmp_path / "mine")
    assert_same_weights(tuned, loaded)
    assert loaded.name == "tiny-finetuned"
    assert tuned.sha256 == loaded.sha256 != ""


def test_the_label_head_is_removed(compact_checkpoint, cells):
    head = SimpleNamespace(labels=("a",), home=None, check_fits=lambda n_genes: None)
    assert finetune(replace(compact_checkpoint, label_head=head), cells, SHORT, device="cpu").label_head is None


def test_files_and_several_objects(compact_checkpoint, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    files = [tmp_path / "cells.h5ad", str(tmp_path / "cells.h5ad")]
    options = {"device": "cpu", "library_key": "sample"}
    one = finetune(compact_checkpoint, files, SHORT, **options)
    other = finetune(compact_checkpoint, [cells, cells[:, ::-1].copy()], SHORT, **options)
    assert_same_weights(one, other)


@pytest.fixture
def section(cells):
    """Some of these cells on a grid, in pixels."""
    section = cells[:32].copy()
    section.obsm["spatial"] = 250.0 * np.stack(np.divmod(np.arange(section.n_obs), 8), axis=1)
    return section


def spatial_weight(checkpoint):
    """Return the weight of the layer that reads coordinates."""
    return next(
        each for name, each in checkpoint.network.named_parameters() if "spatial_encoding.linear.weight" in name
    )


def imputed(model, adata):
    return sct.tl.impute(adata, model=model, calibrate=False, device="cpu", copy=True).layers["sct"]


def test_coordinates_are_read_and_their_unit_is_recorded(each_checkpoint, section, tmp_path):
    before = imputed(each_checkpoint, section)
    untrained = finetune(each_checkpoint, section, replace(SHORT, spatial=True, learning_rate=1e-12), device="cpu")
    assert untrained.coordinates == "spacing"
    assert untrained.config.reads_coordinates
    np.testing.assert_allclose(imputed(untrained, section), before, atol=1e-4)

    config = replace(SHORT, steps=3, spatial=True, validate_every=1)
    made = finetune(each_checkpoint, section, config, tmp_path / "made", device="cpu")
    assert spatial_weight(made).abs().max() > 0
    with torch.no_grad():
        spatial_weight(made).add_(1)
    found = imputed(made, section)
    assert np.abs(found - before).max() > 1e-3
    # Unit and origin of the coordinates have no effect.
    section.obsm["spatial"] = section.obsm["spatial"] / 40 + 17
    np.testing.assert_allclose(imputed(made, section), found, atol=1e-4)
    del section.obsm["spatial"]
    with pytest.raises(ValueError, match=r"reads coordinates from \.obsm\['spatial'\]"):
        finetune(made, section, SHORT)
    with pytest.raises(ValueError, match=r"config\.spatial=True needs coordinates in \.obsm\['spatial'\]"):
        finetune(each_checkpoint, section, replace(SHORT, spatial=True))


def test_without_improvement_the_weights_do_not_change(compact_checkpoint, cells, caplog):
    worse = finetune(compact_checkpoint, cells, replace(SHORT, learning_rate=30.0, gradient_clip=1e6), device="cpu")
    assert_same_weights(worse, compact_checkpoint)
    assert "did not improve" in caplog.text


@pytest.fixture
def steps_taken(monkeypatch):
    """Record the steps; fail if training does not end."""
    taken = []
    tuning = import_module("scanpy_sct.train.tuning").Tuning
    real = tuning._step

    def counted(self, step):
        taken.append(step)
        assert len(taken) < 50, "the training did not end"
        return real(self, step)

    monkeypatch.setattr(tuning, "_step", counted)
    return taken


def test_training_ends_when_nothing_gets_better(compact_checkpoint, cells, steps_taken):
    endless = replace(SHORT, steps=10**9, learning_rate=30.0, patience=2)
    finetune(compact_checkpoint, cells, endless, device="cpu")
    assert len(steps_taken) == 2 * SHORT.validate_every


def test_training_ends_when_time_is_up(compact_checkpoint, cells, steps_taken):
    endless = replace(SHORT, steps=10**9, patience=10**9, minutes=1e-6)
    finetune(compact_checkpoint, cells, endless, device="cpu")
    assert len(steps_taken) == 1


def test_divergence_is_an_error(compact_checkpoint, cells):
    broken = replace(compact_checkpoint, network=make_network(compact_checkpoint.config, 512))
    broken.network.decoder.detection.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        finetune(broken, cells, SHORT, device="cpu")


def test_the_bag_correction_is_not_trained(compact_checkpoint, cells):
    tuned = finetune(compact_checkpoint, cells, SHORT, device="cpu")
    assert tuned.config.bag_correction
    before, after = (each.network.correction.log_prior_cells for each in (compact_checkpoint, tuned))
    torch.testing.assert_close(after, before)


def test_the_trained_part_has_the_loss_and_gradients_of_the_whole(part):
    model, cut, gene_index, dataset, bag = part
    assert len(gene_index) < 512
    np.testing.assert_array_equal(
        token_rules(model, gene_index).empty_cell(dataset.measured[gene_index]),
        token_rules(model).empty_cell(dataset.measured)[gene_index],
    )
    cell, gene = np.divmod(bag.token_index, 512)
    index = torch.from_numpy(cell * len(gene_index) + np.searchsorted(gene_index, gene))
    bins, tokens = torch.from_numpy(bag.bins).long(), torch.from_numpy(bag.tokens)
    loss = MaskedLoss(cut)(tokens[None, :, gene_index], None, index, bins)
    loss.backward()

    whole = model.network
    whole.zero_grad()
    expected = cross_entropy(whole.bin_logits(*as_tensors(bag, torch.device("cpu"))), bins)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    gradients = {name: each.grad for name, each in whole.named_parameters()}
    for name, parameter in cut.named_parameters():
        if parameter.requires_grad:
            found = gradients[name][gene_index] if len(gradients[name]) == 512 else gradients[name]
            torch.testing.assert_close(parameter.grad, found, atol=1e-7, rtol=1e-4, msg=name)
    left_out = np.setdiff1d(np.arange(512), gene_index)
    assert not gradients["embedder.gene_factors"][left_out].any()
    whole.zero_grad(set_to_none=True)


def test_held_out_cells_are_validated_among_their_neighbours(part):
    *_, dataset, bag = part
    row = np.array([np.flatnonzero((dataset.points == point).all(1))[0] for point in bag.points])
    targets = np.unique(bag.token_index // 512)
    assert dataset.held_out[row[targets]].all()
    assert 0 < len(targets) < 12
    assert not dataset.held_out[np.delete(row, targets)].any()


def test_errors_come_before_computing(compact_checkpoint, cells, hide, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("scanpy_sct.train.finetune"), "_train", pytest.fail)
    model = compact_checkpoint
    with pytest.raises(ValueError, match="data is empty"):
        finetune(model, [], SHORT)
    with pytest.raises(ValueError, match="hide is for a single object"):
        finetune(model, [cells, cells], SHORT, hide=hide)
    with pytest.raises(ValueError, match="hide has shape"):
        finetune(model, cells, SHORT, hide=hide[:, 1:])
    with pytest.raises(ValueError, match="5 cells; at least 10"):
        finetune(model, cells[:5], SHORT)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        finetune(model, tmp_path / "nothing.h5ad", SHORT)
    with pytest.raises(KeyError, match="library_key"):
        finetune(model, cells, SHORT, library_key="nothing")
    with pytest.raises(TypeError, match=r"data must be an AnnData, found csr_matrix"):
        finetune(model, [cells.X], SHORT)
    with pytest.raises(TypeError, match=r"data\[1\] must be an AnnData, found DataFrame"):
        finetune(model, {"a": cells, "b": cells.obs}.values(), SHORT)
    (tmp_path / "other.txt").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="will not be replaced"):
        finetune(model, cells, SHORT, tmp_path)
    normalised = replace(model, tokens=TokenSettings(scale="log1p_cp10k"))
    with pytest.raises(ValueError, match=r"thin_fraction=0\.5 needs a model that bins counts"):
        finetune(normalised, cells, replace(SHORT, thin_fraction=0.5))


def test_command(tmp_path, monkeypatch):
    found = {}

    def finetune(model, data, config, output, **arguments):
        found.update(arguments, model=model, data=data, config=config, output=output)

    monkeypatch.setattr(sct, "train", SimpleNamespace(finetune=finetune, FinetuneConfig=FinetuneConfig))
    settings = tmp_path / "settings.toml"
    settings.write_text("learning_rate = 1e-4\nsteps = 9\n", encoding="utf-8")
    arguments = ["finetune", "a.h5ad", "b.h5ad", "--output", "mine", "--steps", "7", "--minutes", "2", "--rng", "3"]
    result = CliRunner().invoke(app, [*arguments, "--config", str(settings), "--library-key", "sample"])
    assert result.exit_code == 0, result.output
    assert [str(path) for path in found["data"]] == ["a.h5ad", "b.h5ad"]
    assert (found["config"].steps, found["config"].minutes, found["config"].learning_rate) == (7, 2, 1e-4)
    assert (found["model"], str(found["output"]), found["rng"], found["library_key"]) == (
        "sct-mini",
        "mine",
        3,
        "sample",
    )
