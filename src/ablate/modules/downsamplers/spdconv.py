"""SPD-Conv: space to depth, then a convolution without a stride.

Paper: R. Sunkara, T. Luo, "No More Strided Convolutions or Pooling: A New CNN Building Block for Low-Resolution Images
and Small Objects", ECML PKDD 2022, arXiv 2208.03641. Authors' code: https://github.com/LabSAINT/SPD-Conv (MIT),
`space_to_depth` in YOLOv5-SPD/models/common.py, read at commit c09f792; the code here is our own.

What differs: an odd last row or column is repeated (theirs takes even sides only). Their YOLOv5 files put the
convolution before the space to depth, whose four-fold channels go on; here it comes after it, as in the paper's
section 3, so that the layer has the ports of the one that it replaces. Status: output and gradients equal the authors'
layers in that order to 1e-5 in float32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm
from ablate.modules.kernels.even import four_phases, repeat_to_even


class SPDConv(nn.Module):
    """The pixels of each 2x2 block as channels, then a convolution; no pixel is left out.

    (B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2)), any H x W.

    Args:
        in_channels: C; the convolution has 4 C input channels.
        out_channels: C'.
        kernel: Side of the convolution's kernel, 1 or 3.

    Raises:
        ValueError: Another kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: Literal[1, 3] = 3) -> None:
        super().__init__()
        if kernel not in (1, 3):
            raise ValueError(f"kernel must be 1 or 3; got {kernel!r}")
        self.cv = ConvNorm(4 * in_channels, out_channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2))."""
        y: Tensor = self.cv(torch.cat(four_phases(repeat_to_even(x)), dim=1))  # (B, 4 C, H / 2, W / 2) inside
        return y
