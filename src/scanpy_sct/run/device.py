"""Choose the device and the precision of a computation."""

from __future__ import annotations

import torch

from scanpy_sct.settings import Settings, settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    """Return the dtype for an argument; ``"auto"``: bfloat16 if the hardware multiplies matrices faster in it.

    On processors this is AMX: with AVX512-bf16 alone, matrix products in bfloat16 were slower than in float32.
    `benchmarks/speed.py` measures it.

    Raises
    ------
    ValueError
        ``precision`` is not one of the names.
    """
    name = settings.precision if precision == "auto" else precision
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        return torch.bfloat16 if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else torch.float32
    if name not in DTYPES:
        msg = f"precision={precision!r} is not known; use 'auto', 'float32', 'bfloat16' or 'float16'."
        raise ValueError(msg)
    return DTYPES[name]
