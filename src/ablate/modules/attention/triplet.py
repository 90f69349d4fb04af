"""Triplet attention: weights of positions, of (channel, row) and of (channel, column), averaged.

Source: Misra et al., "Rotate to Attend: Convolutional Triplet Attention Module", WACV 2021, arXiv:2010.03045; the
authors' code is `triplet_attention.py` of github.com/landskape-ai/triplet-attention (MIT licence). This is an
independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn


class TripletAttention(nn.Module):
    """Weigh three planes of the map, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    A plane's weights come from the largest and the mean value along the third axis, by a convolution over the plane.
    The plane of channels is convolved too, so the order of channels matters.

    Args:
        channels: C; takes no part.
        kernel_size: Of the three convolutions, odd.
        spatial: Whether positions (H, W) are weighed too, beside (C, W) and (C, H).

    Raises:
        ValueError: `kernel_size` is even.
    """

    def __init__(self, channels: int, *, kernel_size: Annotated[int, ">= 1"] = 7, spatial: bool = True) -> None:
        super().__init__()
        if kernel_size < 1 or not kernel_size % 2:
            raise ValueError(f"TripletAttention: kernel_size must be odd; got {kernel_size}")
        self.channels = channels
        self.channel_column = _gate(kernel_size)
        self.channel_row = _gate(kernel_size)
        self.row_column = _gate(kernel_size) if spatial else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        weights = [self.channel_column(_extremes(x, 2)).sigmoid().transpose(1, 2)]  # (B, C, 1, W)
        weights.append(self.channel_row(_extremes(x, 3)).sigmoid().transpose(1, 2).transpose(2, 3))  # (B, C, H, 1)
        if self.row_column is not None:
            weights.append(self.row_column(_extremes(x, 1)).sigmoid())  # (B, 1, H, W)
        mean: Tensor = sum(weights[1:], start=weights[0]) / len(weights)
        return x * mean


def _gate(kernel_size: int) -> nn.Sequential:
    conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(1, momentum=0.01))


def _extremes(x: Tensor, dim: int) -> Tensor:
    """Largest and mean value of (B, C, H, W) along one axis, as two channels of the plane of the other two."""
    return torch.stack([x.amax(dim), x.mean(dim)], dim=1)
