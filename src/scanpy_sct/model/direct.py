"""Logits of the direct paths: the profile, the cell embedding, and the correction of both by the bag."""

from __future__ import annotations

import torch
from torch import Tensor

from scanpy_sct.model.cell_path import CellPath
from scanpy_sct.model.correction import BagCorrection
from scanpy_sct.model.profile import Profile


def direct_logits(
    profile: Profile,
    cell_path: CellPath | None,
    cells: Tensor | None,
    correction: BagCorrection | None,
    *,
    cell_weight: float = 1.0,
    places: Tensor | None = None,
) -> Tensor:
    """Return logits (batch, cells, genes, levels) by all direct paths that a network has.

    With ``places`` of the flattened (batch, cells, genes), only those there: (levels, places).

    Parameters
    ----------
    profile
        Profile of the bag.
    cell_path, cells
        The cell path and its vectors of the cells (batch, cells, 2 * cell_dim), from its `forward`; None for a network
        without.
    correction
        None for a network without.
    cell_weight
        Weight of the cell path.
    places
        Places that are asked for, 1-d integers; all by default.
    """
    logits = profile.log_frequencies() if places is None else profile.log_frequencies_at(places)
    if cell_path is None:
        return logits
    detection, level = (cell_weight * score for score in cell_path.scores(cells))
    corrected = 0.0
    if correction is not None:
        # The other cells of a bag count at all genes, whichever places are asked for.
        corrected = correction(profile, cell_path.chance_of_expression(profile, detection, level), places)
    if places is not None:
        detection, level = detection.flatten()[places], level.flatten()[places]
    detection = detection + corrected
    return logits + torch.stack(cell_path.level_logits(detection, level), dim=-1 if places is None else 0)
