"""SE: squeeze and excitation, a weight for each channel from the means of all channels.

Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507; the authors' code is Caffe
(github.com/hujie-frank/SENet). This is an independent implementation of section 3.

Status: output and gradients equal the PyTorch form of github.com/moskomule/senet.pytorch (MIT licence) to 1e-5 in
float32 (golden values). The number of hidden units has a lower limit of 4, which it has not.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

FEWEST = 4  # hidden units, where a map has few channels


class SE(nn.Module):
    """Weigh the channels, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        reduction: C / `reduction` hidden units, but at least 4.
        bias: Whether the two layers have a bias.

    Raises:
        ValueError: `channels` or `reduction` is below 1.
    """

    def __init__(self, channels: int, *, reduction: Annotated[int, ">= 1"] = 16, bias: bool = False) -> None:
        super().__init__()
        if min(channels, reduction) < 1:
            raise ValueError(f"SE needs at least 1 channel and a reduction of at least 1; got {channels}, {reduction}")
        hidden = max(channels // reduction, FEWEST)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        hidden = F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))  # (B, hidden, 1, 1)
        weights: Tensor = self.excite(hidden).sigmoid()  # (B, C, 1, 1)
        return x * weights
