"""Plots of results; every function returns the axes."""

from scanpy_sct.pl._confusion import confusion
from scanpy_sct.pl._imputed import imputed
from scanpy_sct.pl._label_confidence import label_confidence
from scanpy_sct.pl._marker_dots import marker_dots
from scanpy_sct.pl._recovery import recovery

__all__ = ["confusion", "imputed", "label_confidence", "marker_dots", "recovery"]
