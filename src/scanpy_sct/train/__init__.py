"""Training: make a checkpoint from files of single cells or sections."""

from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.pretrain import pretrain

__all__ = ["PretrainConfig", "pretrain"]
