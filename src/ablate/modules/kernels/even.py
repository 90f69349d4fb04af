"""Maps with sides of an even number of pixels, for what takes pixels in blocks of 2x2.

A 3x3 convolution of stride 2 makes ceil(H / 2) rows of H. So does what first repeats the last row of an odd number of
rows and then takes blocks of two. Both functions are recorded for any size where a graph is recorded by an example.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.modules.kernels.traced import divide_up, exporting, places


def repeat_to_even(x: Tensor) -> Tensor:
    """Repeat the last row and the last column where their number is odd: (B, C, H, W) to even sides."""
    for dim in (2, 3):
        size = x.shape[dim]
        if exporting():  # by indices, so that no size decides about the graph
            x = x.index_select(dim, places(divide_up(size, 2) * 2, x).clamp(max=size - 1))
        elif size % 2:
            x = torch.cat([x, x.narrow(dim, size - 1, 1)], dim)
    return x


def zero_to_even(x: Tensor) -> Tensor:
    """Add a row and a column of zeros where their number is odd: (B, C, H, W) to even sides."""
    height, width = x.shape[2:]
    if exporting():
        rows, columns = (places(divide_up(size, 2) * 2, x) for size in (height, width))
        return F.pad(x, (0, 1, 0, 1)).index_select(2, rows).index_select(3, columns)
    return F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


def four_phases(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pixels of each 2x2 block: upper left, lower left, upper right, lower right; of even sides."""
    return x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]
