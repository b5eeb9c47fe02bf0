"""Settings of an imputation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Values = Literal["auto", "lognorm", "counts"]


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
    values: Values = "auto"
    """`"auto"`: on the log scale of the input; `"lognorm"`: `log1p` of counts per 10,000; `"counts"`: counts. Cells are
    read normalised for both, see :class:`scanpy_sct.read.options.ReadOptions`."""

    def __post_init__(self) -> None:
        if self.values not in get_args(Values):
            msg = f"values={self.values!r} must be one of {', '.join(map(repr, get_args(Values)))}."
            raise ValueError(msg)
