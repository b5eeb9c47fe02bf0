"""The sCT network in torch. Knows nothing of AnnData, files or genes."""

from scanpy_sct.model.config import SctConfig
from scanpy_sct.model.sct import Sct

__all__ = ["Sct", "SctConfig"]
