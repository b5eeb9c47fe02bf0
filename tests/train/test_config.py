from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scanpy_sct.checkpoints import load_model
from scanpy_sct.train import FinetuneConfig, PretrainConfig


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"max_masked_tokens": 0}, "max_masked_tokens=0 must be at least 1"),
        ({"bag_sizes": ()}, r"bag_sizes=\(\) must be sizes of at least 1"),
        ({"bag_sizes": (8, 0)}, "bag_sizes="),
        ({"warmup_steps": -1}, "warmup_steps=-1 must be not negative"),
        ({"gradient_clip": 0.0}, "gradient_clip=0.0 must be positive"),
        ({"balance": 1.5}, "balance=1.5 must be between 0 and 1"),
        ({"whitening": 1.5}, "whitening=1.5 must be between 0 and 1"),
        ({"prior_cells": 0.0}, "prior_cells=0.0 must be positive or None"),
        ({"ema_decay": 1.0}, "ema_decay=1.0 must be at least 0 and below 1"),
        ({"validation_fraction": 0.0}, "validation_fraction=0.0 must be above 0 and below 1"),
        ({"binning": "quantile"}, "binning='quantile' must be 'uniform' or 'counts'"),
        ({"mask_range": (0.5, 0.1)}, "mask_range=.* must be two increasing fractions"),
    ],
)
def test_settings_of_pretraining_that_cannot_be_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        PretrainConfig(**settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("minutes", 0.0),
        ("validation_fraction", 1.0),
        ("mask_fraction", 0.0),
        ("mask_range", (0.5, 0.1)),
        ("bag_size", 1),
        ("learning_rate", -1.0),
    ],
)
def test_settings_of_finetuning_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}=.* must be"):
        FinetuneConfig(**{name: value})


def test_defaults_are_the_recipe_of_sct_mini():
    config, made = PretrainConfig(), load_model("sct-mini")
    assert replace(config.network, bag_correction=True) == made.config
    assert config.binning == made.tokens.binning
    assert config.mask_fraction == made.mask_fraction
    torch.testing.assert_close(
        made.network.correction.log_prior_cells.exp().item(), config.prior_cells, rtol=1e-3, atol=0.0
    )
