"""MSDA: attention to a few neighbours around each pixel, at another distance in each group of heads.

Paper: J. Jiao et al., "DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition", IEEE TMM 2023,
arXiv 2302.01791.
Authors' code: https://github.com/JIAOJIAYUASD/dilateformer (no licence stated), `MultiDilatelocalAttention` in
models/dilateformer.py, read at commit 99f85bb for its definitions; the code here is our own.

Status: with `fidelity="authors"` output and gradients equal the authors'. By default neighbours beyond the border take
no part; theirs take part as zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.precision import no_autocast, widen


class MultiScaleDilatedAttention(nn.Module):
    """Sliding window attention with one dilation for each group of heads; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C; `num_heads` must divide it.
        num_heads: Attention heads. They are spread over the dilations as evenly as possible, the first ones get more.
        kernel_size: Neighbours on each side of the window; odd.
        dilations: Distance between neighbours, one for each group of heads.
        qkv_bias: Bias of the projection to queries, keys and values.
        fidelity: `corrected` leaves what is beyond the border out of the softmax. `authors` pads with zeros, which
            take their share of it.

    Raises:
        ValueError: `num_heads` does not divide the channels or is smaller than the number of dilations, or an option
            has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 8,
        kernel_size: Annotated[int, ">= 1"] = 3,
        dilations: Sequence[int] = (1, 2, 3),
        qkv_bias: bool = False,
        fidelity: Literal["corrected", "authors"] = "corrected",
    ) -> None:
        super().__init__()
        dilations = tuple(dilations)
        if not dilations or any(not isinstance(step, int) or step < 1 for step in dilations):
            raise ValueError(f"dilations must be whole numbers of at least 1; got {list(dilations)}")
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide the channels; got {num_heads} for {channels} channels")
        if num_heads < len(dilations):
            raise ValueError(f"each of the {len(dilations)} dilations needs a head; got num_heads {num_heads}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {kernel_size}")
        if fidelity not in ("corrected", "authors"):
            raise ValueError(f"fidelity must be one of corrected, authors; got {fidelity!r}")
        self.num_heads, self.kernel_size, self.dilations = num_heads, kernel_size, dilations
        self.fidelity = fidelity
        share, more = divmod(num_heads, len(dilations))
        self.shares = [share + (i < more) for i in range(len(dilations))]
        self.scale = (channels // num_heads) ** -0.5
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=qkv_bias)
        self.proj = nn.Conv2d(channels, channels, 1)

    def uncounted_flops(self, height: int, width: int) -> int:
        """Logits and weighted sums: two multiply-adds for each output element and neighbour."""
        return 2 * 2 * self.kernel_size**2 * self.proj.in_channels * height * width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        batch, channels, height, width = x.shape
        qkv = self.qkv(x).reshape(batch, 3, self.num_heads, channels // self.num_heads, height, width)
        groups = torch.split(qkv, self.shares, dim=2)
        mixed = [self._attend(part, step) for part, step in zip(groups, self.dilations, strict=True)]
        projected: Tensor = self.proj(torch.cat(mixed, dim=1).flatten(1, 2))
        return projected

    def _attend(self, qkv: Tensor, step: int) -> Tensor:
        """Attention of some heads (B, 3, m, d, H, W) to the windows around; logits, softmax and sum in float32."""
        q, k, v = qkv.unbind(1)  # (B, m, d, H, W)
        reach = step * (self.kernel_size // 2)
        k, v = F.pad(k, (reach,) * 4), F.pad(v, (reach,) * 4)
        # Counted from the end, so that a recorded graph has no size of its example in them.
        starts = range(0, self.kernel_size * step, step)
        cuts = [slice(start, (start - 2 * reach) or None) for start in starts]
        windows = [(..., row, column) for row in cuts for column in cuts]
        with no_autocast(q):
            wide = widen(q) * self.scale
            logits = torch.stack([(wide * k[window]).sum(2) for window in windows], dim=2)  # (B, m, k k, H, W)
            if self.fidelity == "corrected":
                inside = F.pad(wide.new_ones(q.shape[3:]), (reach,) * 4)
                beyond = torch.stack([inside[window] for window in windows]) == 0  # (k k, H, W)
                logits = logits.masked_fill(beyond, float("-inf"))  # never all of a window: its centre is inside
            shares = logits.softmax(2)
            y = torch.zeros_like(wide)
            for i, window in enumerate(windows):
                y = y + shares[:, :, i, None] * v[window]
        return y.to(v.dtype)
