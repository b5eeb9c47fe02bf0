"""Before anything is computed: what would be used."""

from scanpy_sct.pp._check import Report, check

__all__ = ["Report", "check"]


def __dir__() -> list[str]:
    return sorted(__all__)  # without the modules that the functions come from
