"""The two networks in torch."""

from scanpy_sct.model.compact import CompactConfig, CompactNetwork
from scanpy_sct.model.network import Bags, Network, make_network
from scanpy_sct.model.profile import Background
from scanpy_sct.model.released import ReleasedConfig, ReleasedNetwork

__all__ = [
    "Background",
    "Bags",
    "CompactConfig",
    "CompactNetwork",
    "Network",
    "ReleasedConfig",
    "ReleasedNetwork",
    "make_network",
]
