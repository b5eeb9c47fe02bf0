from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.run.checks import check_computable
from scanpy_sct.run.options import ComputeOptions
from scanpy_sct.workflow import open_cells


def test_what_cannot_be_computed_raises_an_error(pbmc, tiny_checkpoint):
    _, reader = open_cells(pbmc[:10], tiny_checkpoint)
    check_computable(tiny_checkpoint, reader, ComputeOptions())
    check_computable(tiny_checkpoint, reader.block(), ComputeOptions())
    with pytest.raises(ValueError, match="bags='spatial' needs coordinates"):
        check_computable(tiny_checkpoint, reader, ComputeOptions(bags="spatial"))
    reader.coordinates = np.full((10, 2), np.nan)
    with pytest.raises(ValueError, match="for 10 of 10 cells"):
        check_computable(tiny_checkpoint, reader, ComputeOptions(bags="spatial"))
    check_computable(tiny_checkpoint, reader, ComputeOptions(bags="random"))
    reader.coordinates = None
    with pytest.raises(ValueError, match="bags='x' is not known"):
        check_computable(tiny_checkpoint, reader, ComputeOptions(bags="x"))
    with pytest.raises(ValueError, match="precision='half' is not known"):
        check_computable(tiny_checkpoint, reader, ComputeOptions(precision="half"))
    with pytest.raises(ValueError, match="device='cuda:99'"):
        check_computable(tiny_checkpoint, reader, ComputeOptions(device="cuda:99"))
