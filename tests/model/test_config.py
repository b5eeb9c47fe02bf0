from __future__ import annotations

import pytest

from scanpy_sct.model import SctConfig


def test_released_channels():
    assert SctConfig().channels == [64, 192, 320, 448, 544, 672, 800, 928, 1024]


def test_exact_multiples_are_not_rounded_up():
    assert SctConfig(token_embed_dim=32, embed_dim=96, num_downsamples=2).channels == [32, 64, 96]


def test_unknown_option_is_refused():
    with pytest.raises(ValueError, match="colour"):
        SctConfig.from_dict({"colour": "red"})


def test_round_trip():
    config = SctConfig(embeddings_layers_to_save=(1, 2), attention_maps_to_save=((1, 0),), context=True, cell_dim=8)
    assert SctConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"embed_dim": 50}, "embed_dim"),
        ({"token_embed_dim": 16}, "token_embed_dim"),
        ({"cell_dim": 8}, "cell_dim"),
        ({"convolutions": False, "context": True}, "convolutions=False needs cell_dim"),
        (
            {"cell_layers": 2, "context": True},
            "cell_layers=2, .* need cell_dim",
        ),
        ({"alphabet_size": 10, "mask_token_id": 8}, "mask_token_id=8, pad_token_id=6"),
        ({"bag_correction": True, "context": True}, "bag_correction=True need cell_dim"),
        ({"center_tokens": True}, "center_tokens=True needs context"),
    ],
)
def test_impossible_shapes_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        SctConfig(**options)
