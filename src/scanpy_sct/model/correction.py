"""What the other cells of a bag show of a gene beyond what their own embeddings led one to expect."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanpy_sct.model.profile import Profile


class BagCorrection(nn.Module):
    """Correction of each gene's log odds of expression by the cells of the bag that show it.

    A tissue, a donor or a chemistry raises or lowers single genes against what the training data say of such cells.
    With N other cells that show the gene, O of them expressing it, and E expected to by the rest of the network::

        log((O + k) / (E + k)) - log((N - O + k) / (N - E + k))

    is added, k being learnt: a difference of log odds, each of its ratios shrunk as by a gamma prior of k expected
    cells (Clayton and Kaldor, Biometrics 1987, for relative risks). A gene that no other cell shows stays as it is, and
    nothing of a hidden entry enters its own correction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_prior_cells = nn.Parameter(torch.tensor(2.0))

    def forward(self, profile: Profile, chance: Tensor, places: Tensor | None = None) -> Tensor:
        """Return the correction (batch, cells, genes), or what stands at ``places`` of it when flattened.

        Parameters
        ----------
        profile
            That of the bag: it knows what is visible and what is expressed.
        chance
            Chance of expression (batch, cells, genes) by the rest of the network. Nothing is learnt through it: the
            rest is to be right by itself.
        places
            Places of the flattened (batch, cells, genes); all by default.
        """
        with torch.no_grad():
            visible = profile.visible.float()
            numbers = [_among_others(each) for each in (visible, (profile.own > 0).float(), visible * chance)]
            shown, observed, expected = numbers if places is None else [each.flatten()[places] for each in numbers]
        prior = self.log_prior_cells.exp()
        # Rounding can put the expected number a trifle outside of what is possible.
        expected = expected.clamp_min(0)
        not_observed, not_expected = shown - observed, (shown - expected).clamp_min(0)
        raised = torch.log((observed + prior) / (expected + prior))
        return raised - torch.log((not_observed + prior) / (not_expected + prior))


def _among_others(values: Tensor) -> Tensor:
    return values.sum(1, keepdim=True) - values
