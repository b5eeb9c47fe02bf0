from __future__ import annotations

import pytest

from scanpy_sct.train import FinetuneConfig, PretrainConfig


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"tower_bag_size": 0}, "tower_bag_size=0 must be at least 1"),
        ({"bag_sizes": ()}, r"bag_sizes=\(\) must be sizes of at least 1"),
        ({"bag_sizes": (8, 0)}, "bag_sizes="),
        ({"tower_every": -1}, "tower_every=-1 must be not negative"),
        ({"gradient_clip": 0.0}, "gradient_clip=0.0 must be positive"),
        ({"balance": 1.5}, "balance=1.5 must be between 0 and 1"),
        ({"ema_decay": 1.0}, "ema_decay=1.0 must be at least 0 and below 1"),
        ({"validation_share": 0.0}, "validation_share=0.0 must be above 0 and below 1"),
        ({"binning": "even"}, "binning='even' must be 'uniform', 'quantile' or 'counts'"),
        ({"gene_order": "size"}, "gene_order='size' must be 'coexpression', 'mean' or 'given'"),
        ({"mask_range": (0.5, 0.1)}, "mask_range=.* must be two rising shares"),
    ],
)
def test_settings_of_pretraining_that_cannot_be_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        PretrainConfig(**settings)


def test_settings_of_finetuning_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="bag_size=1 must be at least 2"):
        FinetuneConfig(bag_size=1)


def test_defaults_are_possible():
    assert PretrainConfig().steps > 0
    assert FinetuneConfig().steps > 0
