"""Plots of results; every function returns the axes."""

from scanpy_sct.pl._imputed import imputed
from scanpy_sct.pl._label_confidence import label_confidence
from scanpy_sct.pl._recovery import recovery

__all__ = ["imputed", "label_confidence", "recovery"]
