"""Results as objects that other packages can use."""

from scanpy_sct.get._imputed import imputed

__all__ = ["imputed"]


def __dir__() -> list[str]:
    return sorted(__all__)  # without the submodule
