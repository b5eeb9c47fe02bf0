"""The bag correction: observed against expected detection of a gene in the other cells of a bag."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BagCorrection(nn.Module):
    """Correct the log odds of detection of each gene by the cells of the bag in which it is visible.

    This corrects for tissues, donors or chemistries in which a gene is detected more or less often than in the training
    data. With N other cells in which the gene is visible, O in which it is detected, and E in which the rest of the
    network expects it::

        log((O + k) / (E + k)) - log((N - O + k) / (N - E + k))

    is added, where k is learnt: a difference of log odds, whose ratios are shrunk by a gamma prior of k expected cells
    (Clayton and Kaldor, Biometrics 1987, for relative risks). A gene that is visible in no other cell is not corrected,
    and a masked entry never informs its own correction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_prior_cells = nn.Parameter(torch.tensor(2.0))

    def forward(self, n_visible: Tensor, n_detected: Tensor, expected: Tensor) -> Tensor:
        """Return the correction from N, O and E of the other cells, all of the same shape."""
        prior = self.log_prior_cells.exp()
        # Rounding can move the expected number slightly out of its range.
        expected = expected.clamp_min(0)
        not_detected, not_expected = n_visible - n_detected, (n_visible - expected).clamp_min(0)
        odds = (n_detected + prior) * (not_expected + prior)
        return torch.log(odds / ((expected + prior) * (not_detected + prior)))
