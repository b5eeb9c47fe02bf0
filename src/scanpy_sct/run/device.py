"""Choose the device and the precision of a computation."""

from __future__ import annotations

import logging
import math
import time
from functools import cache

import torch

from scanpy_sct.settings import Settings, settings

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROBE_RUNS = 5
CLEARLY_FASTER = 0.8
"""bfloat16 has to take at most this fraction of the time of float32: it has fewer digits."""


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device for an argument; ``"auto"``: the first GPU if there is one.

    Raises
    ------
    ValueError
        There is no such device on this machine.
    """
    # The settings check the name.
    name = settings.device if str(device) == "auto" else Settings(device=str(device)).device
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch refuses a missing CUDA with an AssertionError
        msg = f"device={name!r} cannot be used here ({error}); use device='cpu' or 'auto'."
        raise ValueError(msg) from error
    return chosen


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype for an argument; ``"auto"``: bfloat16 if the hardware computes faster in it.

    A processor is tried once, which takes a few hundredths of a second: its name and its instructions do not tell.

    Raises
    ------
    ValueError
        ``precision`` is not one of the names.
    """
    name = settings.precision if precision == "auto" else precision
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        return torch.bfloat16 if device.type == "cpu" and bfloat16_pays() else torch.float32
    if name not in DTYPES:
        msg = f"precision={precision!r} is not known; use 'auto', 'float32', 'bfloat16' or 'float16'."
        raise ValueError(msg)
    return DTYPES[name]


def mention_model(name: str, license: str, device: torch.device, dtype: torch.dtype) -> None:
    """Log which model computes, the licence of its weights, and where, once in a process for each."""
    if logger.isEnabledFor(logging.INFO):
        _mention(name, license or "not known", str(device), str(dtype).removeprefix("torch."))


@cache
def _mention(*facts: str) -> None:
    logger.info("Model %s (licence of its weights: %s), on the device %s in %s.", *facts)


@cache
def bfloat16_pays() -> bool:
    """Return whether this processor convolves clearly faster in bfloat16 than in float32, measured once per process."""
    seconds = {torch.float32: math.inf, torch.bfloat16: math.inf}
    with torch.inference_mode():
        # In turns, so that other programs slow down both; the first run of each also prepares it.
        for _ in range(PROBE_RUNS):
            for dtype, best in seconds.items():
                seconds[dtype] = min(best, _probe(dtype))
    logger.debug("Probe of this processor: %s", seconds)
    return seconds[torch.bfloat16] < CLEARLY_FASTER * seconds[torch.float32]


def _probe(dtype: torch.dtype) -> float:
    """Return the seconds of a small convolution of the released network's kind."""
    x, weight = (torch.ones(shape, dtype=dtype) for shape in ((1, 192, 1, 400), (192, 192, 1, 5)))
    x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))
    start = time.perf_counter()
    torch.nn.functional.conv2d(x, weight)
    return time.perf_counter() - start
