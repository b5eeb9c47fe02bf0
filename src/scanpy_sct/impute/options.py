"""Settings of an imputation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImputeSettings:
    """Settings of an imputation beside those of reading and computing."""

    genes: np.ndarray | None = None
    """Requested genes as indices into the vocabulary, increasing; None: all measured ones."""
    calibrate: bool = True
    """Calibrate detection and conditional mean of each gene to the visible entries, and choose the weight of the cell
    embedding."""
    blend: bool = True
    """Blend the network with a low-rank reconstruction of the data; needs ``calibrate``."""
    denoise: bool = False
    """Combine every prediction with the measured count."""
    keep_bins: bool = False
    """Keep the most probable bin and its probability."""
    keep_parts: bool = False
    """Keep detection probability and conditional mean beside the expected value."""
