from scanpy_sct.tl._annotate import annotate
from scanpy_sct.tl._impute import impute

__all__ = ["annotate", "impute"]
