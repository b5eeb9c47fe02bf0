from __future__ import annotations

import math

import pytest
import torch

from scanpy_sct.model.correction import BagCorrection


def test_correction_is_the_shrunk_difference_of_log_odds():
    correction = BagCorrection()
    prior = correction.log_prior_cells.exp().item()
    found = correction(torch.tensor([9.0]), torch.tensor([4.0]), torch.tensor([2.5]))
    expected = math.log((4 + prior) / (2.5 + prior)) - math.log((5 + prior) / (6.5 + prior))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_what_no_other_cell_shows_is_not_corrected():
    assert BagCorrection()(*torch.zeros(3, 1)).item() == 0


def test_rounding_beyond_what_is_possible_stays_finite():
    found = BagCorrection()(torch.tensor([3.0, 3.0]), torch.tensor([3.0, 0.0]), torch.tensor([3.00001, -0.00001]))
    assert torch.isfinite(found).all()


def test_large_bags_bring_a_wrong_probability_to_the_observed_frequency():
    correction = BagCorrection()(torch.tensor(2000.0), torch.tensor(500.0), torch.tensor(1200.0))
    corrected = (torch.logit(torch.tensor(0.6)) + correction).sigmoid()
    torch.testing.assert_close(corrected, torch.tensor(0.25), atol=0.005, rtol=0)
