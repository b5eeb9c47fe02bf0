"""Get results out of an object, in the shape that other tools want."""

from scanpy_sct.get._imputed import imputed

__all__ = ["imputed"]
