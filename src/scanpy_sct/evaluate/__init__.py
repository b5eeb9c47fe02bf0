"""Compare a checkpoint with baselines and with other methods, on data whose answers are known."""

# Imported first, so that the methods register themselves, and `methods` below is the function.
import scanpy_sct.evaluate.methods  # noqa: F401
from scanpy_sct.evaluate.annotation import annotation
from scanpy_sct.evaluate.embedding import embedding
from scanpy_sct.evaluate.embedding_methods import EmbeddingInput
from scanpy_sct.evaluate.embedding_metrics import Cells, Score
from scanpy_sct.evaluate.imputation import imputation
from scanpy_sct.evaluate.observed import Observed, Prediction
from scanpy_sct.evaluate.registry import method, methods, metric

__all__ = [
    "Cells",
    "EmbeddingInput",
    "Observed",
    "Prediction",
    "Score",
    "annotation",
    "embedding",
    "imputation",
    "method",
    "methods",
    "metric",
]


def __dir__() -> list[str]:
    return sorted(__all__)  # without the modules that the functions come from
