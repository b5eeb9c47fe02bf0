"""Training: make a checkpoint from files of single cells or sections."""

from scanpy_sct.train.config import PretrainConfig
from scanpy_sct.train.label_head import fit_label_head
from scanpy_sct.train.pretrain import pretrain

__all__ = ["PretrainConfig", "fit_label_head", "pretrain"]
