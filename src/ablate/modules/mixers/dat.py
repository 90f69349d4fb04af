"""DAT: attention to a few points of the map, which the queries move to where they are needed.

Paper: Z. Xia et al., "Vision Transformer with Deformable Attention", CVPR 2022, arXiv 2201.00520.
Authors' code: https://github.com/LeapLabTHU/DAT (Apache-2.0), `DAttentionBaseline` in models/dat_blocks.py at commit
32173fc; the code here is our own.

Status: with `fidelity="authors"` output and gradients equal the authors'. By default the points start on the even grid
of the paper and stay on the map; theirs start half a step further and may lie beyond the border, where they are zeros.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places


class DeformableAttention(nn.Module):
    """Attention of all pixels to sampled points; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C; `num_heads` must divide it.
        num_heads: Attention heads.
        groups: Groups of channels with points of their own; must divide `num_heads`.
        stride: Pixels between two points, on each axis, before they move.
        kernel_size: Side of the depthwise convolution from which the movement is computed; odd.
        offset_range: How far a point moves at most, in half distances between points; 0 for no limit but the border.
        position: Relative positions: `table` (a bias of the logits, sampled from a learnt table), `conv` (a depthwise
            convolution of the queries, added to the output) or `none`.
        table_size: Side of the map for which the table has an entry for each displacement; between entries, and at
            any other size of the map, it is interpolated.
        fidelity: `corrected` or `authors`, see above.

    Raises:
        ValueError: Channels, heads and groups do not divide, or an option has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 4,
        groups: Annotated[int, ">= 1"] = 2,
        stride: Annotated[int, ">= 1"] = 2,
        kernel_size: Annotated[int, ">= 1"] = 5,
        offset_range: Annotated[float, ">= 0"] = 2.0,
        position: Literal["table", "conv", "none"] = "table",
        table_size: Annotated[int, ">= 1"] = 7,
        fidelity: Literal["corrected", "authors"] = "corrected",
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide the channels; got {num_heads} for {channels} channels")
        if groups < 1 or num_heads % groups:
            raise ValueError(f"groups must divide num_heads; got {groups} for {num_heads} heads")
        if min(stride, table_size) < 1 or offset_range < 0:
            raise ValueError(
                f"stride and table_size must be at least 1, offset_range at least 0; "
                f"got {stride}, {table_size}, {offset_range}"
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {kernel_size}")
        if position not in ("table", "conv", "none"):
            raise ValueError(f"position must be one of table, conv, none; got {position!r}")
        if fidelity not in ("corrected", "authors"):
            raise ValueError(f"fidelity must be one of corrected, authors; got {fidelity!r}")
        self.num_heads, self.groups, self.stride = num_heads, groups, stride
        self.offset_range, self.authors = offset_range, fidelity == "authors"
        part = channels // groups
        self.offset_conv = nn.Conv2d(part, part, kernel_size, stride, kernel_size // 2, groups=part)
        self.offset_norm = nn.LayerNorm(part)
        self.offset_proj = nn.Conv2d(part, 2, 1, bias=False)
        self.proj_q = nn.Conv2d(channels, channels, 1)
        self.proj_k = nn.Conv2d(channels, channels, 1)
        self.proj_v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)
        self.position_conv = (
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels) if position == "conv" else None
        )
        self.position_table = None
        if position == "table":
            table = torch.empty(num_heads, 2 * table_size - 1, 2 * table_size - 1)
            self.position_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.01))

    def no_weight_decay(self) -> set[str]:
        """The table of relative positions."""
        return set() if self.position_table is None else {"position_table"}

    def uncounted_flops(self, height: int, width: int) -> int:
        """Bilinear interpolation, a multiply-add for each of four places: of points, and of the table for all pairs."""
        points = -(-height // self.stride) * -(-width // self.stride)
        samples = points * self.proj_q.in_channels
        if self.position_table is not None:
            samples += points * height * width * self.num_heads
        return 2 * 4 * samples

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        batch, channels, height, width = x.shape
        q = self.proj_q(x)
        points = self._points(q.reshape(batch * self.groups, -1, height, width))  # (B g, Hk, Wk, 2), float32
        with no_autocast(x):
            maps = widen(x).reshape(batch * self.groups, -1, height, width)
            sampled = F.grid_sample(maps, points.flip(-1), align_corners=True).to(x.dtype)  # (B g, C / g, Hk, Wk)
        sampled = sampled.reshape(batch, channels, *points.shape[1:3])
        k, v = self.proj_k(sampled), self.proj_v(sampled)  # (B, C, Hk, Wk)
        heads = [t.reshape(batch, self.num_heads, channels // self.num_heads, -1).transpose(2, 3) for t in (q, k, v)]
        bias = None if self.position_table is None else self._bias(points, height, width).to(q.dtype)
        y = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=bias)  # (B, heads, H W, d)
        y = y.transpose(2, 3).reshape(batch, channels, height, width)
        if self.position_conv is not None:
            y = y + self.position_conv(q)
        projected: Tensor = self.proj_out(y)
        return projected

    def _points(self, q: Tensor) -> Tensor:
        """Row and column of each point, the map from -1 to 1: (B g, Hk, Wk, 2), in float32 or wider."""
        moved = self.offset_norm(self.offset_conv(q).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        moved = self.offset_proj(F.gelu(moved))  # (B g, 2, Hk, Wk)
        rows, columns = moved.shape[2:]
        with no_autocast(q):
            moved = widen(moved).permute(0, 2, 3, 1)
            if self.offset_range:
                reach = torch.stack([_step(rows, moved), _step(columns, moved)])
                moved = moved.tanh() * (reach * self.offset_range)
            shift = 0.5 if self.authors else 0.0
            points: Tensor = moved + _grid(rows, columns, moved, shift)
            return points if self.authors and self.offset_range else points.clamp(-1, 1)

    def _bias(self, points: Tensor, height: int, width: int) -> Tensor:
        """Logits of the displacement between pixels and points, (B, heads, H W, Hk Wk)."""
        assert self.position_table is not None
        with no_autocast(points):
            pixels = _grid(height, width, points, 0.0).reshape(1, -1, 1, 2)
            apart = (pixels - points.reshape(points.shape[0], 1, -1, 2)) / 2  # (B g, H W, Hk Wk, 2)
            table = torch.unflatten(widen(self.position_table), 0, (self.groups, -1))  # (g, heads / g, rows, columns)
            table = table.repeat(points.shape[0] // self.groups, 1, 1, 1)
            bias = F.grid_sample(table, apart.flip(-1), align_corners=True)  # (B g, heads / g, H W, Hk Wk)
        return bias.reshape(-1, self.num_heads, *bias.shape[2:])


def _step(count: int, like: Tensor) -> Tensor:
    """Half of the distance between `count` places that lie evenly from -1 to 1; half of the axis for one place."""
    return 1 / (places(count, like)[-1].to(like.dtype)).clamp(min=1)


def _grid(rows: int, columns: int, like: Tensor, shift: float) -> Tensor:
    """Row and column of places that lie evenly from -1 to 1, moved by a share of their distance: (rows, columns, 2)."""
    axes = []
    for count in (rows, columns):
        place = places(count, like).to(like.dtype)
        last = place[-1]
        axes.append((2 * (place + shift) - last) / last.clamp(min=1))  # a single place is in the middle
    row, column = axes
    return torch.stack([row[:, None].expand(rows, columns), column.expand(rows, columns)], dim=-1)
