"""Defaults of the session: device, precision, cache folder, progress bars."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, get_args

DEVICE_PATTERN = re.compile(r"auto|cpu|mps|cuda(:\d+)?|xpu(:\d+)?")
Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS = get_args(Precision)
CACHE_VARIABLE = "SCANPY_SCT_CACHE_DIR"


class Settings:
    """Defaults of the session; wrong values raise an error when they are assigned.

    Parameters
    ----------
    device
        Device of functions called with ``device="auto"``: ``"auto"`` (the best available), ``"cpu"``, ``"cuda"``,
        ``"cuda:1"``, ``"mps"``, ``"xpu"``, or a `torch.device`.
    precision
        Number format of functions called with ``precision="auto"``: ``"auto"``, ``"float32"``, ``"bfloat16"`` or
        ``"float16"``.
    cache_dir
        Folder for downloaded weights and data sets. `None`: the environment variable ``SCANPY_SCT_CACHE_DIR``, or
        else the cache folder of the operating system.
    progress
        Whether progress bars are shown.
    block_size
        Number of cells, at most, that are imputed together; larger objects are computed block by block. Memory
        grows with it, and results depend on it slightly, since bags never cross a block and a fit has as many cells.

    Examples
    --------
    >>> from scanpy_sct.settings import Settings
    >>> settings = Settings(device="cpu")
    >>> settings.progress = False
    >>> settings.device
    'cpu'
    """

    __slots__ = ("_block_size", "_cache_dir", "_device", "_precision", "_progress")

    def __init__(
        self,
        device: str = "auto",
        precision: Precision = "auto",
        cache_dir: str | Path | None = None,
        progress: bool = True,
        block_size: int = 8192,
    ) -> None:
        self.device = device
        self.precision = precision
        self.cache_dir = cache_dir
        self.progress = progress
        self.block_size = block_size

    @property
    def device(self) -> str:
        """Device of the network, such as ``"auto"``, ``"cpu"`` or ``"cuda:0"``."""
        return self._device

    @device.setter
    def device(self, value: Any) -> None:
        # str() of a torch.device is its name, so torch need not be imported.
        name = str(value)
        if not DEVICE_PATTERN.fullmatch(name):
            msg = f"device={value!r} is not a device; use 'auto', 'cpu', 'mps', 'xpu', 'cuda' or 'cuda:0'."
            raise ValueError(msg)
        self._device = name

    @property
    def precision(self) -> Precision:
        """Number format of the network: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``."""
        return self._precision

    @precision.setter
    def precision(self, value: Precision) -> None:
        if value not in PRECISIONS:
            msg = f"precision={value!r} is not a precision; use one of {', '.join(map(repr, PRECISIONS))}."
            raise ValueError(msg)
        self._precision: Precision = value

    @property
    def cache_dir(self) -> Path:
        """Folder for downloaded weights and data sets; created when first used."""
        if self._cache_dir is not None:
            return self._cache_dir
        if os.environ.get(CACHE_VARIABLE):
            return Path(os.environ[CACHE_VARIABLE]).expanduser()
        import pooch  # slow to import

        return Path(pooch.os_cache("scanpy_sct"))

    @cache_dir.setter
    def cache_dir(self, value: str | Path | None) -> None:
        if value is None:
            self._cache_dir = None
            return
        if not isinstance(value, str | os.PathLike):
            msg = f"cache_dir={value!r} is not a path; pass a folder as str or pathlib.Path, or None for the default."
            raise TypeError(msg)
        path = Path(value).expanduser()
        if path.exists() and not path.is_dir():
            msg = f"cache_dir={str(path)!r} is a file; pass a folder."
            raise ValueError(msg)
        self._cache_dir = path

    @property
    def progress(self) -> bool:
        """Whether progress bars are shown."""
        return self._progress

    @progress.setter
    def progress(self, value: bool) -> None:
        if not isinstance(value, bool):
            msg = f"progress={value!r} is not a bool; use True or False."
            raise TypeError(msg)
        self._progress = value

    @property
    def block_size(self) -> int:
        """Number of cells, at most, that are imputed together."""
        return self._block_size

    @block_size.setter
    def block_size(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"block_size={value!r} must be a positive integer, such as 8192."
            raise ValueError(msg)
        self._block_size = value

    def __repr__(self) -> str:
        return (
            f"Settings(device={self.device!r}, precision={self.precision!r}, "
            f"cache_dir={str(self.cache_dir)!r}, progress={self.progress!r}, "
            f"block_size={self.block_size})"
        )


settings = Settings()
"""The settings of this session."""
