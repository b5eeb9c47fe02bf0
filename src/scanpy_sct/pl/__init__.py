"""Plots of results; every function returns the axes that it drew on."""

from scanpy_sct.pl._imputed import imputed
from scanpy_sct.pl._label_confidence import label_confidence
from scanpy_sct.pl._recovery import recovery

__all__ = ["imputed", "label_confidence", "recovery"]


def __dir__() -> list[str]:
    return sorted(__all__)  # without the modules that the functions come from
