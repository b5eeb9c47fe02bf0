"""Training: pretrain a checkpoint from files, finetune one on your own data, or fit a label head."""

from scanpy_sct.train.census import CensusCells
from scanpy_sct.train.config import FinetuneConfig, PretrainConfig
from scanpy_sct.train.finetune import finetune
from scanpy_sct.train.label_head import fit_label_head
from scanpy_sct.train.pretrain import pretrain

__all__ = ["CensusCells", "FinetuneConfig", "PretrainConfig", "finetune", "fit_label_head", "pretrain"]
