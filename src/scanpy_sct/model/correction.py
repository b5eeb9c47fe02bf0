"""The bag correction: what the other cells of a bag show of a gene beyond what was expected of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BagCorrection(nn.Module):
    """Correction of each gene's log odds of detection by the cells of the bag in which it is visible.

    A tissue, a donor or a chemistry raises or lowers single genes against what the training data say of such cells.
    With N other cells in which the gene is visible, O of them in which it is detected, and E expected to by the rest
    of the network::

        log((O + k) / (E + k)) - log((N - O + k) / (N - E + k))

    is added, k being learnt: a difference of log odds, each of its ratios shrunk as by a gamma prior of k expected
    cells (Clayton and Kaldor, Biometrics 1987, for relative risks). A gene that is visible in no other cell stays as
    it is, and nothing of a masked entry enters its own correction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_prior_cells = nn.Parameter(torch.tensor(2.0))

    def forward(self, n_visible: Tensor, n_detected: Tensor, expected: Tensor) -> Tensor:
        """Return the correction, shaped as the arguments, which are N, O and E of the other cells."""
        prior = self.log_prior_cells.exp()
        # Rounding can put the expected number slightly outside of what is possible.
        expected = expected.clamp_min(0)
        not_detected, not_expected = n_visible - n_detected, (n_visible - expected).clamp_min(0)
        odds = (n_detected + prior) * (not_expected + prior)
        return torch.log(odds / ((expected + prior) * (not_detected + prior)))
