"""Checks of how to compute, made before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanpy_sct.run.device import choose_device, choose_precision
from scanpy_sct.run.inputs import check_coordinates, choose_bag_policy

if TYPE_CHECKING:
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellBlock, CellReader
    from scanpy_sct.run.options import ComputeOptions


def check_computable(checkpoint: Checkpoint, cells: CellBlock | CellReader, options: ComputeOptions) -> None:
    """Raise a ValueError if the network cannot read these cells in this way.

    The device is not here or does not compute in this precision, or the network or the bag policy needs coordinates
    that the cells lack.
    """
    choose_bag_policy(options.bags, cells)
    check_coordinates(checkpoint, cells)
    choose_precision(options.precision, choose_device(options.device))
