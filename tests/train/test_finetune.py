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
from scanpy_sct.impute.entries import predict_hidden
from scanpy_sct.model import Sct
from scanpy_sct.plan.tokens import TokenRules
from scanpy_sct.read.expression import read_expression
from scanpy_sct.train import FinetuneConfig, finetune
from scanpy_sct.train.data import as_dataset, draw_bag, draw_company_bag
from scanpy_sct.train.direct import DirectPaths, direct_positions

pytest.importorskip("lightning_fabric")

SHORT = FinetuneConfig(
    steps=6, warmup_steps=1, bag_size=16, tower_bag_size=8, validate_every=3, validation_share=0.3, learning_rate=3e-3
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(sct.settings, "progress", False)


@pytest.fixture(scope="module")
def direct(tiny_checkpoint):
    return replace(tiny_checkpoint, path="direct")


@pytest.fixture
def cells(tiny_checkpoint):
    """Counts of 90 cells of three kinds, each with genes of its own; 300 of the 509 genes of the model."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 90)
    rates = np.where(rng.integers(0, 3, 300) == np.arange(3)[:, None], 1.5, 0.1)
    names = tiny_checkpoint.genes[tiny_checkpoint.genes != ""][100:400]
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


def loss_of_hidden(checkpoint, cells, hide):
    """Mean log loss of "is it expressed" at entries that are hidden."""
    seen = read_expression(cells, checkpoint.genes, token_scale="log1p_counts", hide=hide)
    hidden = np.zeros(seen.log_values.shape, dtype=bool)
    hidden[:, seen.genes.positions] = hide.toarray()[:, seen.genes.columns]
    full = read_expression(cells, checkpoint.genes, token_scale="log1p_counts").log_values.toarray()[hidden] > 0
    found = predict_hidden(checkpoint, seen, hidden, calibrate=False, device="cpu")
    detection = found.detection[hidden[:, found.positions]]
    return -np.log(np.where(full, detection, 1 - detection)).mean()


def test_what_was_hidden_is_predicted_better_afterwards(direct, cells, hide):
    config = FinetuneConfig(steps=100, bag_size=20, learning_rate=5e-3, validate_every=25)
    tuned = finetune(direct, cells, config, hide=hide, device="cpu")
    assert loss_of_hidden(tuned, cells, hide) < loss_of_hidden(direct, cells, hide) - 0.03
    assert tuned.name == "tiny-finetuned"
    assert tuned.path == "direct"


def test_the_given_model_and_the_data_stay_as_they_are(direct, cells):
    weights = {name: weight.clone() for name, weight in direct.network.state_dict().items()}
    values = cells.X.copy()
    tuned = finetune(direct, cells, SHORT, device="cpu")
    for name, weight in direct.network.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    assert (cells.X != values).nnz == 0
    assert not torch.equal(tuned.network.cell_path.gene_output, direct.network.cell_path.gene_output)


def test_only_the_cell_path_and_only_measured_genes_are_trained(direct, cells):
    tuned = finetune(direct, cells, SHORT, device="cpu")
    before, after = direct.network.state_dict(), tuned.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("cell_path.") for name in changed)
    measured = np.isin(direct.genes, cells.var_names)
    for table in ("cell_path.gene_table", "cell_path.gene_output"):
        rows = (before[table] != after[table]).any(1).numpy()
        np.testing.assert_array_equal(rows, measured)


def test_the_full_path_trains_the_whole_network(tiny_checkpoint, cells):
    tuned = finetune(tiny_checkpoint, cells, SHORT, device="cpu")
    before, after = tiny_checkpoint.network.state_dict(), tuned.network.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"stem", "down", "head", "cell_path", "profile"} <= changed


def test_same_seed_same_weights(direct, cells):
    one, again, other = (finetune(direct, cells, SHORT, device="cpu", rng=seed) for seed in (0, 0, 1))
    assert_same_weights(one, again)
    assert not torch.equal(one.network.cell_path.gene_output, other.network.cell_path.gene_output)


def test_the_global_random_state_stays(direct, cells):
    state = torch.random.get_rng_state()
    finetune(direct, cells, SHORT, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_hidden_entries_are_masked_and_not_asked_for(direct, cells, hide):
    expression = read_expression(cells, direct.genes, token_scale="log1p_counts", hide=hide)
    always = sparse.csr_matrix(np.random.default_rng(2).random((90, 512)) < 0.3)
    dataset = as_dataset(expression, "cells", np.arange(90) < 30, 0, always)
    rules = TokenRules(direct.genes, mask=5, pad=6)
    for draw in (draw_bag, draw_company_bag):
        bag = draw([dataset], rules, SHORT, np.random.default_rng(0), 12)
        row = [np.flatnonzero((dataset.points == point).all(1))[0] for point in bag.points]
        hidden = always[row].toarray() & dataset.measured
        assert (bag.tokens[hidden] == 5).all()
        assert not hidden.ravel()[bag.places].any()
        assert (bag.tokens[:, dataset.measured] != 5).any()


@pytest.mark.parametrize("path", ["direct", "full"])
def test_hidden_entries_have_no_influence(direct, cells, hide, path):
    model = replace(direct, path=path)
    changed = cells.copy()
    noise = np.random.default_rng(5).poisson(3, cells.shape)
    changed.X = sparse.csr_matrix(np.where(hide.toarray(), noise, cells.X.toarray()).astype(np.float32))
    config = replace(SHORT, steps=2, validate_every=1)
    one, other = (finetune(model, each, config, hide=hide, device="cpu") for each in (cells, changed))
    assert_same_weights(one, other)
    with pytest.raises(AssertionError):
        assert_same_weights(one, finetune(model, changed, config, device="cpu"))


def test_saved_folder_holds_the_same(direct, cells, tmp_path):
    tuned = finetune(direct, cells, SHORT, tmp_path / "mine", device="cpu")
    loaded = sct.load_model(tmp_path / "mine")
    assert_same_weights(tuned, loaded)
    assert loaded.name == "tiny-finetuned"
    assert tuned.sha256 == loaded.sha256 != ""
    sct.tl.impute(cells, model=loaded)
    assert np.isfinite(cells.layers["sct"]).all()


def test_a_label_head_does_not_outlive_its_embedding(direct, cells):
    head = SimpleNamespace(labels=("a",))
    assert finetune(replace(direct, label_head=head), cells, SHORT, device="cpu").label_head is None


def test_files_and_several_objects(direct, cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    files = [tmp_path / "cells.h5ad", str(tmp_path / "cells.h5ad")]
    one = finetune(direct, files, SHORT, device="cpu", library_key="sample")
    other = finetune(direct, [cells, cells[:, ::-1].copy()], SHORT, device="cpu", library_key="sample")
    assert_same_weights(one, other)


@pytest.fixture
def section(cells):
    """The same cells on a grid, in pixels; kinds of cells are neighbors."""
    cells.obsm["spatial"] = 250.0 * np.stack(np.divmod(np.arange(cells.n_obs), 10), axis=1)
    return cells


@pytest.mark.parametrize("kind", ["full", "direct"])
def test_places_are_read_and_their_unit_is_recorded(tiny_checkpoint, direct_checkpoint, section, tmp_path, kind):
    given = tiny_checkpoint if kind == "full" else direct_checkpoint
    before = sct.tl.impute(section, model=given, calibrate=False, copy=True).layers["sct"]
    untrained = finetune(given, section, replace(SHORT, spatial=True, learning_rate=1e-12))
    assert untrained.coordinates == "spacing"
    assert untrained.config.use_spatial_information
    unread = sct.tl.impute(section, model=untrained, calibrate=False, copy=True).layers["sct"]
    np.testing.assert_allclose(unread, before, atol=1e-4)

    name = "spatial_encoding.linear.weight" if kind == "full" else "cell_path.spatial_encoding.linear.weight"
    made = finetune(given, section, replace(SHORT, spatial=True, steps=30, validate_every=1), tmp_path / "made")
    assert made.network.get_parameter(name).abs().max() > 0
    with torch.no_grad():
        made.network.get_parameter(name).add_(1)
    found = sct.tl.impute(section, model=made, calibrate=False, copy=True).layers["sct"]
    assert np.abs(found - before).max() > 1e-3
    # Micrometres or pixels, and where they are counted from, make no difference.
    section.obsm["spatial"] = section.obsm["spatial"] / 40 + 17
    other = sct.tl.impute(section, model=made, calibrate=False, copy=True).layers["sct"]
    np.testing.assert_allclose(other, found, atol=1e-4)
    del section.obsm["spatial"]
    with pytest.raises(ValueError, match=r"reads coordinates from \.obsm\['spatial'\]"):
        sct.tl.impute(section, model=made)
    with pytest.raises(ValueError, match=r"config\.spatial=True needs coordinates in \.obsm\['spatial'\]"):
        finetune(given, section, replace(SHORT, spatial=True))


def test_nothing_better_leaves_the_weights(direct, cells, caplog):
    worse = finetune(direct, cells, replace(SHORT, learning_rate=30.0, gradient_clip=1e6), device="cpu")
    assert_same_weights(worse, direct)
    assert "Nothing better" in caplog.text


def test_training_ends_when_nothing_gets_better_or_time_is_up(direct, cells):
    endless = replace(SHORT, steps=10**9, learning_rate=30.0, patience=2)
    finetune(direct, cells, endless, device="cpu")
    finetune(direct, cells, replace(endless, patience=10**9, minutes=1e-6), device="cpu")


def test_divergence_is_an_error(direct, cells):
    broken = replace(direct, network=Sct(direct.config, 512))
    broken.network.cell_path.detection.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        finetune(broken, cells, SHORT, device="cpu")


@pytest.fixture
def bag_and_rules(direct, cells, hide):
    """A bag of the full vocabulary with a gap: a position before the last gene that has none."""
    vocabulary = direct.genes.copy()
    vocabulary[[3, 450]] = ""
    expression = read_expression(cells, vocabulary, token_scale="log1p_counts")
    dataset = as_dataset(expression, "cells", np.arange(90) < 30, 0)
    return dataset, vocabulary


def with_correction(checkpoint):
    """Let the bag correct the genes, otherwise the same network."""
    config = replace(checkpoint.config, bag_correction=True)
    network = Sct(config, len(checkpoint.genes))
    network.load_state_dict(network.state_dict() | checkpoint.network.state_dict())
    return replace(checkpoint, config=config, network=network.eval())


def test_what_corrects_the_genes_is_not_tuned(direct, cells):
    tuned = finetune(with_correction(direct), cells, replace(SHORT, spatial=False), device="cpu")
    assert tuned.config.bag_correction
    torch.testing.assert_close(tuned.network.correction.log_prior_cells, torch.tensor(2.0))


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("unmeasured", ["mask", "zero"])
def test_the_cut_network_has_the_loss_and_gradients_of_the_whole(direct, bag_and_rules, unmeasured, corrected):
    if corrected:
        direct = with_correction(direct)
    dataset, vocabulary = bag_and_rules
    rules = TokenRules(vocabulary, mask=5, pad=6, unmeasured=unmeasured)
    bag = draw_company_bag([dataset], rules, SHORT, np.random.default_rng(0), 12)
    network = direct.network
    positions = direct_positions(rules, dataset.measured)
    assert len(positions) < 512 if unmeasured == "mask" else set(range(509)) >= set(positions)
    cut = DirectPaths(network, positions)
    background = replace(rules, vocabulary=vocabulary[positions]).background(dataset.measured[positions])
    np.testing.assert_array_equal(background, rules.background(dataset.measured)[positions])
    cell, position = np.divmod(bag.places, 512)
    places = torch.from_numpy(cell * len(positions) + np.searchsorted(positions, position))
    truth = torch.from_numpy(bag.truth).long()
    loss = torch.nn.functional.cross_entropy(cut(torch.from_numpy(bag.tokens[:, positions]), places).T, truth)
    loss.backward()

    network.zero_grad()
    logits = network(torch.from_numpy(bag.tokens).reshape(1, -1), outputs={"direct_logits"})["direct_logits"]
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 2)[torch.from_numpy(bag.places)], truth)
    whole.backward()
    torch.testing.assert_close(loss, whole)
    trained = dict(network.cell_path.named_parameters())
    for name, parameter in cut.cell_path.named_parameters():
        if parameter.requires_grad:
            expected = trained[name].grad
            expected = expected[positions] if len(expected) == 512 else expected
            torch.testing.assert_close(parameter.grad, expected, atol=1e-7, rtol=1e-4, msg=name)
    left_out = np.setdiff1d(np.arange(512), positions)
    assert not trained["gene_table"].grad[left_out].any()
    network.zero_grad()


def test_held_out_cells_are_judged_among_their_neighbours(bag_and_rules):
    dataset, vocabulary = bag_and_rules
    rules = TokenRules(vocabulary, mask=5, pad=6)
    bag = draw_company_bag([dataset], rules, SHORT, np.random.default_rng(0), 12)
    row = np.array([np.flatnonzero((dataset.points == point).all(1))[0] for point in bag.points])
    asked = np.unique(bag.places // 512)
    assert dataset.held_out[row[asked]].all()
    assert 0 < len(asked) < 12
    assert not dataset.held_out[np.delete(row, asked)].any()


def test_errors_come_before_computing(direct, cells, hide, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("scanpy_sct.train.finetune"), "_train", pytest.fail)
    with pytest.raises(ValueError, match="data is empty"):
        finetune(direct, [], SHORT)
    with pytest.raises(ValueError, match="hide names entries of a single object"):
        finetune(direct, [cells, cells], SHORT, hide=hide)
    with pytest.raises(ValueError, match="hide has shape"):
        finetune(direct, cells, SHORT, hide=hide[:, 1:])
    with pytest.raises(ValueError, match="5 cells; at least 10"):
        finetune(direct, cells[:5], SHORT)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        finetune(direct, tmp_path / "nothing.h5ad", SHORT)
    with pytest.raises(KeyError, match="library_key"):
        finetune(direct, cells, SHORT, library_key="nothing")
    with pytest.raises(TypeError, match="must be an AnnData"):
        finetune(direct, [cells.X], SHORT)
    (tmp_path / "other.txt").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="will not be replaced"):
        finetune(direct, cells, SHORT, tmp_path)
    for name in ("thin_share", "gene_effect_share"):
        with pytest.raises(ValueError, match=f"{name}=0.5 needs a model with tokens of counts"):
            finetune(replace(direct, tokens=TokenSettings(scale="log1p_cp10k")), cells, replace(SHORT, **{name: 0.5}))
    no_cell_path = replace(direct.config, cell_dim=0, cell_layers=0)
    plain = replace(direct, config=no_cell_path, network=Sct(no_cell_path, 512), embedding="transformer")
    with pytest.raises(ValueError, match="nothing to train"):
        finetune(plain, cells, SHORT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("minutes", 0.0),
        ("validation_share", 1.0),
        ("mask_fraction", 0.0),
        ("mask_range", (0.5, 0.1)),
        ("bag_size", 1),
        ("learning_rate", -1.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        FinetuneConfig(**{name: value})


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
