"""In which precision the modules compute what must not be rounded early."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return at least float32: products of features overflow float16 from a feature scale of about 300 on."""
    return torch.promote_types(dtype, torch.float32)


def widen(t: Tensor) -> Tensor:
    """Return the tensor in float32; float64 stays."""
    return t.to(wide_dtype(t.dtype))


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Switch automatic mixed precision off on the device of `x` (the meta device has none)."""
    if not torch.amp.is_autocast_available(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
