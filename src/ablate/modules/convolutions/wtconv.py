"""WTConv: depthwise convolutions of the levels of a Haar wavelet transform, so that a small kernel sees far.

Paper: S. E. Finder, R. Amoyal, E. Treister, O. Freifeld, "Wavelet Convolutions for Large Receptive Fields", ECCV 2024,
arXiv 2407.05848. Authors' code: https://github.com/BGU-CS-VIL/WTConv (MIT), `WTConv2d` in wtconv/wtconv2d.py, read at
commit 4a84da2 for its definitions; the code here is our own.

Status: `WTConv2d` equals the authors' in output and gradients to 1e-5 in float32 (golden values). `WTConv` adds a 1x1
convolution, batch norm and SiLU. Where the code differs: docs/modules/wtconv.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import batch_norm, check_kernel_size


class WTConv(nn.Module):
    """Depthwise wavelet convolution, 1x1 convolution, batch norm, SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the depthwise kernels, odd.
        stride: Step of the output's positions in the input.
        levels: Wavelet levels; each doubles what the kernel sees.

    Raises:
        ValueError: The kernel size is even, or another size is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Annotated[int, ">= 1"] = 5,
        stride: Annotated[int, ">= 1"] = 1,
        levels: Annotated[int, ">= 1"] = 1,
    ) -> None:
        super().__init__()
        self.depthwise = WTConv2d(in_channels, kernel_size=kernel_size, stride=stride, levels=levels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = batch_norm(out_channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        y: Tensor = self.act(self.bn(self.pointwise(self.depthwise(x))))
        return y


class WTConv2d(nn.Module):
    """Depthwise convolution of the map and of its Haar levels; (B, C, H, W) to (B, C, ceil(H / s), ceil(W / s)).

    Arguments and errors as in `WTConv`; `bias` is that of the map's own convolution.
    """

    def __init__(
        self, channels: int, *, kernel_size: int = 5, stride: int = 1, levels: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        check_kernel_size("WTConv", kernel_size)
        if min(channels, stride, levels) < 1:
            raise ValueError(
                f"WTConv needs channels, stride and levels of at least 1; got {channels}, {stride}, {levels}"
            )
        self.stride = stride
        self.base = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=bias)
        self.base_scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.bands = nn.ModuleList(_Bands(4 * channels, kernel_size) for _ in range(levels))

    def no_weight_decay(self) -> set[str]:
        """The scale of each channel, which is no weight matrix."""
        return {"base_scale"}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        low, convolved = x, []
        for bands in self.bands:
            transformed = haar(low)  # (B, C, 4, ceil(h / 2), ceil(w / 2))
            convolved.append((bands(transformed.flatten(1, 2)).view_as(transformed), low.shape[2:]))
            low = transformed[:, :, 0]
        added = torch.zeros_like(low)
        for transformed, (height, width) in reversed(convolved):
            bands_of_sum = torch.cat((transformed[:, :, :1] + added[:, :, None], transformed[:, :, 1:]), dim=2)
            added = inverse_haar(bands_of_sum)[:, :, :height, :width]
        y: Tensor = self.base_scale * self.base(x) + added
        return y if self.stride == 1 else y[:, :, :: self.stride, :: self.stride]


class _Bands(nn.Module):
    """Depthwise convolution of the four bands of a level, with a scale for each channel and band."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def no_weight_decay(self) -> set[str]:
        """The scale of each channel, which is no weight matrix."""
        return {"scale"}

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4 C, h, w) to the same shape."""
        y: Tensor = self.scale * self.conv(x)
        return y


def haar(x: Tensor) -> Tensor:
    """Orthonormal Haar transform of (B, C, H, W), padded with a row and a column of zeros where a side is odd.

    Returns:
        (B, C, 4, ceil(H / 2), ceil(W / 2)): mean, difference of rows, difference of columns, difference of diagonals.
    """
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return _butterfly(rearrange(x, "b c (h i) (w j) -> b c (i j) h w", i=2, j=2))


def inverse_haar(bands: Tensor) -> Tensor:
    """(B, C, 4, h, w) to (B, C, 2 h, 2 w)."""
    x: Tensor = rearrange(_butterfly(bands), "b c (i j) h w -> b c (h i) (w j)", i=2)
    return x


def _butterfly(t: Tensor) -> Tensor:
    """Half of the sums and differences of the four values along the third axis; its own inverse."""
    a, b, c, d = t.unbind(2)  # of a 2x2 cell: top left, top right, bottom left, bottom right
    top, bottom, rise, fall = a + b, c + d, a - b, c - d
    return torch.stack((top + bottom, top - bottom, rise + fall, rise - fall), dim=2) / 2
