"""Running bags of cells through a network: device, precision, passes. Knows no AnnData."""

from scanpy_sct.predict.embedding import predict_embedding
from scanpy_sct.predict.entries import Prediction, predict_entries, predict_hidden

__all__ = ["Prediction", "predict_embedding", "predict_entries", "predict_hidden"]
