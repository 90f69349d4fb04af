"""CPCA: channel prior convolutional attention, channel weights first, then weights of positions for each channel.

Source: Huang et al., "Channel prior convolutional attention for medical image segmentation", Computers in Biology and
Medicine 178, 2024, arXiv:2306.05196; the authors' code is `RepBlock` in
`CPCANet/nnunet/network_architecture/CPCANet.py` of github.com/Cuthbert-Huang/CPCANet (Apache 2.0). This is an
independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.strips import odd_sizes, strip


class CPCA(nn.Module):
    """Weigh channels, then positions by strips of several lengths, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        reduction: C / `reduction` hidden units in the channel attention, but at least 1.
        strips: Lengths of the strips in pixels, odd; each is a row, then a column.

    Raises:
        ValueError: `reduction` is below 1, a length is even, or there is none.
    """

    def __init__(
        self, channels: int, *, reduction: Annotated[int, ">= 1"] = 4, strips: Sequence[int] = (7, 11, 21)
    ) -> None:
        super().__init__()
        if min(channels, reduction) < 1:
            raise ValueError(
                f"CPCA needs at least 1 channel and a reduction of at least 1; got {channels}, {reduction}"
            )
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(strip(channels, length) for length in odd_sizes("CPCA: strips", strips))
        self.mix = nn.Conv2d(channels, channels, 1)  # one layer, used three times, as in the authors' code

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        x = F.gelu(self.mix(x))
        by_mean: Tensor = self.mlp(x.mean((2, 3), keepdim=True)).sigmoid()  # (B, C, 1, 1)
        by_maximum: Tensor = self.mlp(x.amax((2, 3), keepdim=True)).sigmoid()
        x = x * (by_mean + by_maximum)

        local = self.local(x)
        summed = local
        for branch in self.strips:
            summed = summed + branch(local)
        y: Tensor = self.mix(self.mix(summed) * x)
        return y
