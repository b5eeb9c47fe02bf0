"""Compare a checkpoint with simple and strong baselines, on data whose answers are known."""

# Imported first, so that the methods register themselves, and `methods` below is the function.
import scanpy_sct.evaluate.methods  # noqa: F401
from scanpy_sct.evaluate.annotation import annotation
from scanpy_sct.evaluate.embedding import embedding
from scanpy_sct.evaluate.imputation import imputation
from scanpy_sct.evaluate.observed import Guess, Observed
from scanpy_sct.evaluate.registry import method, methods

__all__ = ["Guess", "Observed", "annotation", "embedding", "imputation", "method", "methods"]


def __dir__() -> list[str]:
    return sorted(__all__)  # without the modules that the functions come from
