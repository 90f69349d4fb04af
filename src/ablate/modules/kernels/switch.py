"""Which of its two forms a module takes: the composed one, of torch's own operations, or the fused one.

Both compute the same. The composed form is what the formula says, can be exported, traced and compiled, and is what
FLOPs are counted of. The fused one is faster and smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ablate.modules.kernels.traced import exporting

FORMS = ("auto", True, False)

_composing = 0  # how many `composed` contexts are open


def check_fused(fused: object) -> None:
    """Raise ValueError if `fused` is none of auto, true and false."""
    if fused not in FORMS or not isinstance(fused, bool | str):
        raise ValueError(f"fused must be one of auto, true, false; got {fused!r}")


def fuses(fused: bool | str, x: Tensor) -> bool:
    """Tell whether a module whose switch is `fused` may take its fused form for the input `x`.

    Never where the operations themselves are wanted: in `composed`, on the meta device, while a graph is traced or
    exported. With "auto" not under `torch.compile` either, which fuses the composed form by itself.
    """
    if fused is False or _composing or x.is_meta:
        return False
    if exporting():
        return False
    return fused is True or not torch.compiler.is_compiling()


@contextmanager
def composed() -> Iterator[None]:
    """Let all modules take their composed form, such as to count their arithmetic."""
    global _composing
    _composing += 1
    try:
        yield
    finally:
        _composing -= 1
