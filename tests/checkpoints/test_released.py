"""The released layout: outputs equal those of the reference, and all arrays are used."""

from __future__ import annotations

import json
import logging
import re
import shutil

import joblib
import numpy as np
import pytest
import torch

from scanpy_sct.checkpoints import read_released
from scanpy_sct.model import Bags, ReleasedConfig, convolution
from scanpy_sct.model.layers import rotary_angles, rotate

TOLERANCE = 3e-4  # separates the reference's float32 noise from every mistake that was tried on purpose


def outputs_of(network, bags, names):
    """Return all outputs of the reference, from the inputs and outputs of the network's modules."""
    found, head = {}, []

    def keep(name, module, *, of_input=False):
        def hook(module, inputs, output):
            found[name] = inputs[0] if of_input else output

        module.register_forward_hook(hook)

    keep("conv_out", network.layers[0], of_input=True)
    keep("transformer_out", network.layers[-1])
    keep("deconv_out", network.up[-1])
    for number, block in enumerate(network.down):
        keep(f"residual_{number}", block, of_input=True)
    for number, layer in enumerate(network.layers, start=1):
        keep(f"embeddings_{number}", layer)
        keep(f"attention_{number}", layer.attention, of_input=True)
    network.head[-1].register_forward_hook(lambda module, inputs, output: head.append(output))
    network.bin_logits(bags, torch.arange(bags.tokens.numel()))

    found |= {name: x.squeeze(2) for name, x in found.items() if x.ndim == 4}
    found["logits"] = torch.cat(head).unflatten(0, (len(bags.tokens), -1))
    found["embedding"] = found["deconv_out"].transpose(1, 2).unflatten(1, bags.tokens.shape[1:])
    for name in names:
        if match := re.fullmatch(r"attention_map_layer_(\d+)_number_(-?\d+)", name):
            layer, number = map(int, match.groups())
            # The reference's number is off by one, and the last head stands for all beyond it.
            attention = network.layers[layer - 1].attention
            found[name] = attention_map(attention, found[f"attention_{layer}"], min(number + 1, attention.heads - 1))
    return found


def attention_map(attention, x, head):
    size = attention.key_size
    cos, sin = rotary_angles(x.shape[1], size, x.device)
    part = slice(head * size, (head + 1) * size)
    query, key = (rotate(linear(x)[..., part], cos, sin) for linear in (attention.query, attention.key))
    return (query @ key.transpose(1, 2) / size**0.5).softmax(-1)


def compare_outputs(folder, *, grad=False):
    checkpoint = read_released(folder)
    expected = dict(np.load(folder / "golden.npz"))
    tokens = torch.from_numpy(expected.pop("tokens")).unflatten(1, (-1, checkpoint.network.n_genes))
    coordinates = torch.from_numpy(expected.pop("coordinates")) if "coordinates" in expected else None
    with torch.inference_mode(not grad):
        logits = checkpoint.network.bin_logits(Bags(tokens, coordinates), torch.arange(tokens.numel())).detach()
        found = outputs_of(checkpoint.network, Bags(tokens, coordinates), expected)
    assert set(expected) <= set(found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].detach().numpy(), values, rtol=0, atol=TOLERANCE, err_msg=name)
    bins = expected["logits"].reshape(-1, checkpoint.config.alphabet_size)[:, : checkpoint.config.n_bins]
    np.testing.assert_allclose(logits.numpy(), bins, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", ["a_basic", "c_noskip_head2", "f_spatial_scales"])
def test_outputs_are_those_of_the_reference(golden_dir, case):
    compare_outputs(golden_dir / case)


@pytest.mark.parametrize("case", ["a_basic", "c_noskip_head2", "f_spatial_scales"])
def test_outputs_with_gradients_are_those_of_the_reference(golden_dir, case):
    """Training runs other operations than prediction."""
    compare_outputs(golden_dir / case, grad=True)


@pytest.mark.parametrize("options", [{"WIDE": 1}, {"has_fused_gelu": lambda dtype: False}], ids=["wide", "public"])
@pytest.mark.parametrize("case", ["a_basic", "b_spatial", "c_noskip_head2", "d_mid8"])
def test_outputs_of_other_operations_are_those_of_the_reference(reference_dir, case, options, monkeypatch):
    for name, value in options.items():
        monkeypatch.setattr(convolution, name, value)
    compare_outputs(reference_dir / "golden" / case)


@pytest.mark.parametrize("case", ["b_spatial", "d_mid8", "e_longseq"])
def test_outputs_of_larger_networks_are_those_of_the_reference(reference_dir, case):
    compare_outputs(reference_dir / "golden" / case)


@pytest.fixture
def parts(golden_dir, tmp_path):
    """Return the released files of a small network, and a function that writes them changed to a folder."""
    source = golden_dir / "f_spatial_scales"
    arrays, config = joblib.load(source / "params.joblib"), json.loads((source / "config.json").read_text())

    def write(arrays=arrays, config=config, folder=tmp_path / "changed"):
        folder.mkdir()
        joblib.dump(arrays, folder / "params.joblib")
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return arrays, config, write


def test_facts(golden_dir, caplog):
    with caplog.at_level(logging.WARNING):
        checkpoint = read_released(golden_dir / "f_spatial_scales")
        read_released(golden_dir / "f_spatial_scales")
    assert caplog.text.count("CC BY-NC-SA 4.0") == 1
    assert (checkpoint.name, checkpoint.license) == ("f_spatial_scales", "CC BY-NC-SA 4.0")
    assert (checkpoint.tokens.scale, checkpoint.tokens.binning) == ("log1p_cp10k", "uniform")
    assert checkpoint.mask_fraction == 0.15
    assert checkpoint.n_parameters == 48_559
    assert checkpoint.genes.tolist() == [""] * 16
    assert checkpoint.sha256 == "72bdbb70c3a00d82e8c60f372649f9ca82c48970d15839456c812facf5284898"
    assert not checkpoint.network.training


def test_weights_may_stand_in_a_subfolder(golden_dir, tmp_path):
    shutil.copytree(golden_dir / "f_spatial_scales", tmp_path / "clone" / "jax_params")
    (tmp_path / "clone" / "config.json").write_text('{"model_type": "other"}')  # as in the released repository
    assert read_released(tmp_path / "clone").name == "clone"


def test_other_prefix(parts, golden_dir):
    arrays, _, write = parts
    folder = write({path.replace("long_range_nt/", "s_ct/"): module for path, module in arrays.items()})
    weights = read_released(folder).network.state_dict()
    expected = read_released(golden_dir / "f_spatial_scales").network.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_the_random_state_is_not_changed(golden_dir):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    read_released(golden_dir / "f_spatial_scales")
    assert torch.equal(torch.rand(3), expected)


def test_missing_and_unknown_arrays_are_named(parts):
    arrays, _, write = parts
    del arrays["long_range_nt/stem/conv1_d"]["b"]
    arrays["long_range_nt/adapter"] = {"w": np.ones(3, dtype=np.float32)}
    with pytest.raises(ValueError, match=r"missing: stem/conv1_d b; unknown: adapter w"):
        read_released(write())


@pytest.mark.parametrize(
    ("module", "name", "change", "message"),
    [
        ("stem/conv1_d", "w", lambda w: w[:-1], r"stem\.weight \(32, 32, 1, 14\)"),
        ("stem/conv1_d", "b", lambda b: np.tile(b, 2), r"stem/conv1_d b \(32, 2\)"),
        ("stem/conv1_d", "b", lambda b: b.T, r"stem/conv1_d b \(1, 32\)"),
        ("linear", "w", lambda w: w.T, r"head\.0\.weight"),
        ("linear", "w", lambda w: w[None], r"head\.0\.weight"),
        (
            "deconv_block_0/residual_de_conv_block/de_conv_block/conv1_d_transpose",
            "w",
            lambda w: w[0],
            "conv1_d_transpo",
        ),
        ("linear", "b", lambda b: b * np.nan, r"NaN.*head\.0\.bias"),
    ],
)
def test_misshapen_arrays_are_named(parts, module, name, change, message):
    arrays, _, write = parts
    stored = arrays[f"long_range_nt/{module}"]
    stored[name] = change(stored[name])
    with pytest.raises(ValueError, match=message):
        read_released(write())


def test_configuration_and_weights_must_agree(parts):
    arrays, config, write = parts
    with pytest.raises(ValueError, match=r"missing: attention_layer_1"):
        read_released(write(arrays, config | {"num_layers": 2}))


def test_unknown_options_are_refused(parts):
    arrays, config, write = parts
    with pytest.raises(ValueError, match="new_option"):
        read_released(write(arrays, config | {"new_option": 1}))


def test_options_without_effect_are_left_out(parts):
    arrays, config, write = parts
    extra = {"embeddings_layers_to_save": [1], "attention_maps_to_save": [[1, 0]], "max_positions": 7}
    assert read_released(write(arrays, config | extra)).config == ReleasedConfig(
        **{name: value for name, value in config.items() if name in vars(ReleasedConfig())}
    )


def test_options_of_the_compact_network_have_no_place_in_the_released_layout(parts):
    arrays, config, write = parts
    with pytest.raises(ValueError, match=r"unknown options \['cell_dim'\]"):
        read_released(write(arrays, config | {"cell_dim": 8}))


def test_other_content_is_refused(tmp_path, parts):
    with pytest.raises(ValueError, match=r"params\.joblib"):
        read_released(tmp_path)
    with pytest.raises(ValueError, match="not an sCT network; use another"):
        read_released(parts[2]({"some/module": {"w": np.ones(3)}}))


@pytest.mark.slow
def test_full_released_size(reference_dir, tmp_path):
    tree = json.loads((reference_dir / "golden" / "full_param_tree.json").read_text())
    rng = np.random.default_rng(0)
    arrays = {
        module: {name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}
        for module, shapes in tree["params"].items()
    }
    query = arrays["long_range_nt/attention_layer_3/~/self_attention/query"]["w"].copy()
    weights = tmp_path / "params.joblib"
    joblib.dump(arrays, weights)
    del arrays
    (tmp_path / "config.json").write_text(json.dumps(tree["config"]))
    try:
        checkpoint = read_released(tmp_path)
    finally:
        weights.unlink()  # 317 MB that pytest would keep
    assert checkpoint.n_parameters == 79_204_163
    assert checkpoint.network.n_genes == len(checkpoint.genes) == 19_968
    assert (checkpoint.genes != "").sum() == 19_937
    assert checkpoint.genes[732] == "ENSG00000075624"
    np.testing.assert_array_equal(checkpoint.network.layers[3].attention.query.weight.detach().numpy(), query.T)
