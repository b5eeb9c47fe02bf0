"""Checkpoints: our folder format, the released files, the hub, and the models of the package."""

from scanpy_sct.checkpoints.checkpoint import Checkpoint, TokenSettings
from scanpy_sct.checkpoints.folder import read_checkpoint, save_checkpoint
from scanpy_sct.checkpoints.label_classifiers import EmbeddingClassifier, ExpressionClassifier
from scanpy_sct.checkpoints.label_head import LabelHead, LabelHome
from scanpy_sct.checkpoints.registry import load_model
from scanpy_sct.checkpoints.released import read_released

__all__ = [
    "Checkpoint",
    "EmbeddingClassifier",
    "ExpressionClassifier",
    "LabelHead",
    "LabelHome",
    "TokenSettings",
    "load_model",
    "read_checkpoint",
    "read_released",
    "save_checkpoint",
]
