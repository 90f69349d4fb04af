"""RepNCSPELAN4, the block of YOLOv9: an ELAN of two CSP blocks with re-parameterised convolutions.

Paper: C.-Y. Wang, I-H. Yeh, H.-Y. M. Liao, "YOLOv9: Learning What You Want to Learn Using Programmable Gradient
Information", ECCV 2024, arXiv 2402.13616. The class is that of Ultralytics; this function chooses its two inner widths,
which a network file gives for each layer, by the output channels.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

from torch import nn


def rep_ncsp_elan4(
    in_channels: int,
    out_channels: int,
    *,
    repeats: Annotated[int, ">= 1"] = 1,
    width: Annotated[float, "> 0"] = 1.0,
) -> nn.Module:
    """Build Ultralytics' RepNCSPELAN4; (B, in_channels, H, W) to (B, out_channels, H, W).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        repeats: Re-parameterised bottlenecks in each of the two CSP blocks.
        width: Inner channels for each output channel; half of them go through each CSP block. YOLOv9-c has 0.5 in its
            first two and 1 in its other ones, YOLOv9-s has 1 throughout.

    Raises:
        ValueError: A size is not positive, or the inner channels are fewer than 4.
    """
    inner = 4 * round(out_channels * width / 4)  # c4 is half of it, and RepCSP halves that again
    if min(in_channels, repeats) < 1 or inner < 4:
        raise ValueError(
            "RepNCSPELAN4 needs at least 1 input channel, 1 repeat and 4 inner channels; got "
            f"{in_channels}, {repeats} and {out_channels} * width={width}"
        )
    block: Any = import_module("ultralytics.nn.modules.block")  # this package itself needs no Ultralytics
    module: nn.Module = block.RepNCSPELAN4(in_channels, out_channels, inner, inner // 2, repeats)
    return module
