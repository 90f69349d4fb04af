"""CARAFE: upsample by kernels that are made from the content of each place.

Paper: J. Wang, K. Chen, R. Xu, Z. Liu, C. C. Loy, D. Lin, "CARAFE: Content-Aware ReAssembly of FEatures", ICCV 2019,
arXiv 1905.02188. Authors' code: https://github.com/open-mmlab/mmcv (Apache-2.0), `CARAFEPack` in mmcv/ops/carafe.py,
read at commit a8073c7; the code here is our own.

What differs: the factor is 2. Their reassembly is a CUDA operation; here it is a matrix product, on any device. Status:
output and gradients equal the authors' `CARAFEPack` to 1e-5 in float32, its CUDA operation replaced by a loop that
follows their plain kernel.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class CARAFE(nn.Module):
    """Each pixel of the output is a weighted mean of the input around it; (B, C, H, W) to (B, C, 2 H, 2 W), any H x W.

    Args:
        channels: C; must divide by `groups`.
        compressed: Channels from which the kernels are made.
        up_kernel: Odd side of the kernels of reassembly; zeros beyond the border.
        encoder_kernel: Odd side of the convolution that makes them.
        groups: Of channels that share a kernel.

    Raises:
        ValueError: The channels do not divide, or a side is not odd.
    """

    def __init__(
        self,
        channels: int,
        *,
        compressed: Annotated[int, ">= 1"] = 64,
        up_kernel: Annotated[int, ">= 1"] = 5,
        encoder_kernel: Annotated[int, ">= 1"] = 3,
        groups: Annotated[int, ">= 1"] = 1,
    ) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(f"CARAFE: {channels} channels do not divide into {groups} groups")
        if up_kernel % 2 == 0 or encoder_kernel % 2 == 0:
            raise ValueError(f"CARAFE: up_kernel and encoder_kernel must be odd; got {up_kernel} and {encoder_kernel}")
        self.side, self.groups = up_kernel, groups
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, 4 * groups * up_kernel**2, encoder_kernel, padding=encoder_kernel // 2)
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.zeros_(self.compress.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.encode.weight, std=0.001)
        nn.init.zeros_(self.encode.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2 H, 2 W)."""
        height, width = x.shape[2:]
        weights = rearrange(self.encode(self.compress(x)), "b (g k p) h w -> b h w g p k", g=self.groups, p=4)
        weights = weights.softmax(dim=-1)  # (B, H, W, groups, 4, side^2)
        reach = self.side // 2
        around = F.pad(x, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
        windows = torch.stack(
            [around[:, i : i + height, j : j + width] for i in range(self.side) for j in range(self.side)], dim=3
        )  # (B, H, W, side^2, C)
        windows = rearrange(windows, "b h w k (g c) -> b h w g k c", g=self.groups)
        y = weights.to(windows.dtype) @ windows  # (B, H, W, groups, 4, C / groups)
        return F.pixel_shuffle(rearrange(y, "b h w g p c -> b (g c p) h w").to(x.dtype), 2)
