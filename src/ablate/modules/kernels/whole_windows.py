"""Maps of any size for windows of one size: padded below and to the right, with a mask of what is map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ablate.modules.kernels.traced import exporting


def pad_to_multiple(x: Tensor, step: int) -> tuple[Tensor, Tensor | None]:
    """Pad a map with zeros below and to the right, until `step` divides height and width.

    Args:
        x: (B, C, H, W).
        step: Size of a window, or number of windows on a side.

    Returns:
        The map (B, C, H', W'), and (1, 1, H', W') of bool, false where it was padded; None where nothing was. A graph
        that is recorded always has the mask, since other inputs of it may be padded.
    """
    height, width = x.shape[2:]
    below, right = (step - height % step) % step, (step - width % step) % step
    if not exporting() and not below and not right:
        return x, None
    inside = F.pad(x.new_ones(1, 1, height, width), (0, right, 0, below)) > 0
    return F.pad(x, (0, right, 0, below)), inside
