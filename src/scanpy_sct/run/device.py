"""Where and in which precision to compute."""

from __future__ import annotations

import torch

from scanpy_sct.settings import Settings, settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Turn an argument into a device that exists here: the first GPU if there is one, for ``"auto"``.

    Raises
    ------
    ValueError
        If there is no such device, or not here.
    """
    # The settings know the names of devices, and what to say of others.
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
    """Turn an argument into a type; ``"auto"`` is bfloat16 where the hardware multiplies matrices faster in it.

    On processors this means AMX: with AVX512-bf16 alone, matrix products in bfloat16 were seen to be slower than in
    float32. `benchmarks/speed.py` tells how it is on a machine.

    Raises
    ------
    ValueError
        If ``precision`` is not one of the names.
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
