"""Check that a network can read some cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanpy_sct.plan.bags import check_complete, choose_policy
from scanpy_sct.run.inputs import check_coordinates

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock, CellReader
    from scanpy_sct.run.options import ComputeOptions


def check_computable(checkpoint: Checkpoint, cells: CellReader | CellBlock, options: ComputeOptions) -> None:
    """Raise a ValueError if the network cannot read these cells with these options.

    The bag policy or the precision is unknown, the device is not available, or the cells have no coordinates although
    the network or the bag policy needs them.
    """
    from scanpy_sct.run.device import choose_device, choose_precision  # torch is slow to import

    check_coordinates(checkpoint, cells.coordinates)
    policy = choose_policy(options.bags, has_coordinates=cells.coordinates is not None)
    if policy == "spatial":
        check_complete(cells.coordinates)
    choose_precision(options.precision, choose_device(options.device))
