"""Get results out of an object, in the shape that other packages expect."""

from scanpy_sct.get._imputed import imputed

__all__ = ["imputed"]


def __dir__() -> list[str]:
    return sorted(__all__)  # without the modules that the functions come from
