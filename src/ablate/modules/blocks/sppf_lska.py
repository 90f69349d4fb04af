"""SPPF-LSKA: spatial pyramid pooling with large separable kernel attention before its last convolution.

Source: the form in which YOLO papers use LSKA (Lau et al., Expert Systems with Applications 236, 2024,
arXiv:2309.01439): on the concatenated maps of Ultralytics' SPPF (AGPL 3.0). This is an independent implementation; the
two convolutions and their parts have Ultralytics' names, so they keep their weights in an SPPF's place.

Status: output and gradients equal the authors' LSKA inside of Ultralytics' SPPF to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ablate.modules.attention.lska import LSKA
from ablate.modules.kernels.conv_norm import ConvNorm

POOLINGS = 3  # of 5x5 pixels in a row, as in every SPPF of YOLOv8 to YOLO26


class SPPFLSKA(nn.Module):
    """Pool to four scales, weigh them by LSKA, and mix; (B, in_channels, H, W) to (B, out_channels, H, W).

    Args:
        in_channels: Channels of the input; half of them are pooled.
        out_channels: Channels of the output.
        kernel_size: Of LSKA.
        shortcut: Whether the input is added, where the channels are equal; of the SPPF that is replaced.

    Raises:
        ValueError: There are too few channels, or `kernel_size` is none of the paper's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Literal[7, 11, 23, 35, 41, 53] = 11,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        if in_channels < 2 or out_channels < 1:
            raise ValueError(f"SPPFLSKA needs at least 2 and 1 channels; got {in_channels} and {out_channels}")
        hidden = in_channels // 2
        self.cv1 = ConvNorm(in_channels, hidden, activation="none")
        self.cv2 = ConvNorm((POOLINGS + 1) * hidden, out_channels)
        self.m = nn.MaxPool2d(5, stride=1, padding=2)
        self.lska = LSKA((POOLINGS + 1) * hidden, kernel_size=kernel_size)
        self.add = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        scales = [self.cv1(x)]
        for _ in range(POOLINGS):
            scales.append(self.m(scales[-1]))
        y: Tensor = self.cv2(self.lska(torch.cat(scales, dim=1)))
        return x + y if self.add else y
