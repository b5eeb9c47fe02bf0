"""The bag correction: what the other cells of a bag show of a gene beyond what was expected of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanpy_sct.model.profile import Background, Visible


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

    def forward(self, seen: Visible, counts: Background, detection: Tensor, token_index: Tensor) -> Tensor:
        """Return the correction at some tokens, (tokens,).

        Parameters
        ----------
        seen, counts
            The cells of the bags, and what is counted over them.
        detection
            (batch, cells, genes): detection probability by the rest of the network where a gene is visible, else 0.
            Nothing is learnt through it: the rest is to be right by itself.
        token_index
            Index into the flattened tokens.
        """
        _, n_cells, n_genes = detection.shape
        with torch.no_grad():
            gene = token_index // (n_cells * n_genes) * n_genes + token_index % n_genes
            own_visible = seen.visible.flatten()[token_index]
            n_others = counts.visible.flatten()[gene] - own_visible
            not_observed = counts.zero.flatten()[gene] - seen.zero.flatten()[token_index]
            # Rounding can put the expected number slightly outside of what is possible.
            expected = (detection.sum(1).flatten()[gene] - detection.flatten()[token_index]).clamp_min(0)
            not_expected = (n_others - expected).clamp_min(0)
            observed = n_others - not_observed
        prior = self.log_prior_cells.exp()
        odds = (observed + prior) * (not_expected + prior)
        return torch.log(odds / ((expected + prior) * (not_observed + prior)))
