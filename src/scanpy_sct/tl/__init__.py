"""Tools: impute, embed and annotate cells."""

from scanpy_sct.tl._annotate import annotate
from scanpy_sct.tl._embed import embed
from scanpy_sct.tl._impute import impute

__all__ = ["annotate", "embed", "impute"]
