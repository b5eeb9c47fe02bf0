from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.run.options import ComputeOptions, as_seed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be a positive integer or 'auto'"),
        ({"batch_size": 1.5}, r"batch_size=1\.5"),
        ({"batch_size": True}, "batch_size=True"),
        ({"batch_size": "all"}, "batch_size='all'"),
    ],
)
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(ValueError, match=message):
        ComputeOptions(**options)


def test_integers_of_numpy_pass():
    assert ComputeOptions(batch_size=np.int64(3)).batch_size == 3


@pytest.mark.parametrize(("rng", "error"), [(-1, ValueError), (2**32, ValueError), (True, TypeError), (0.5, TypeError)])
def test_seeds_that_cannot_be_used(rng, error):
    with pytest.raises(error, match="rng="):
        as_seed(rng)


def test_a_generator_gives_a_new_seed_each_time():
    generator = np.random.default_rng(0)
    assert as_seed(generator) != as_seed(generator)
    assert as_seed(np.random.default_rng(0)) == as_seed(np.random.default_rng(0))
    assert as_seed(np.int64(5)) == 5
