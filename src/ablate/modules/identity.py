"""Identity: the graft that does nothing, with which surgery itself is put to the test.

A network with it computes what the stock network computes, from the same weights and the same random numbers. So a
training of it that ends elsewhere than the baseline's tells of an effect of surgery, not of any module.
"""

from __future__ import annotations

from torch import Tensor, nn


class Identity(nn.Module):
    """Returns what it receives, (B, C, H, W) to (B, C, H, W); it has no parameters and draws no random numbers.

    Args:
        channels: C; any.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return x
