"""Padding by reflection at the border pixels, for maps of any size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ablate.modules.kernels.traced import exporting, places


def reflect(x: Tensor, reach: int) -> Tensor:
    """Pad (B, C, H, W) by `reach` on each side; a map that is smaller is reflected back and forth."""
    if not exporting() and min(x.shape[2:]) > reach:
        return F.pad(x, (reach,) * 4, mode="reflect")
    for dim in (2, 3):
        last = x.shape[dim] - 1
        index = (places(x.shape[dim] + 2 * reach, x) - reach).remainder(2 * last + (last == 0))
        x = x.index_select(dim, last - (last - index).abs())
    return x
