"""Compare a checkpoint with simple and strong baselines, on data whose answers are known."""

from scanpy_sct.evaluate.imputation import imputation

__all__ = ["imputation"]
