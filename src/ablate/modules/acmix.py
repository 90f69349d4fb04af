"""ACmix: self-attention and convolution that share their 1x1 projections, added with two learnt weights.

Paper: X. Pan et al., "On the Integration of Self-Attention and Convolution", CVPR 2022, arXiv 2111.14556.
Authors' code: https://github.com/LeapLabTHU/ACmix, `ACmix` in ResNet/test_bottleneck.py, read at commit
81dddb6 for its definitions; the code here is our own.

Status: with `fidelity="authors"` output and gradients equal the authors' to 1e-5 in float32 and to rounding
in float64, stride 2 included. What differs by default: docs/modules/acmix.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from einops import rearrange
from torch import Tensor, nn


class ACmix(nn.Module):
    """Window attention plus convolution over shared projections; (B, C, H, W) to (B, C, H, W), any H x W.

    With `out_channels` or `stride` the output is (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        channels: C.
        heads: attention heads; must divide the output channels.
        kernel_att: side of the attention window. An even one reaches further right and down than left and up.
        kernel_conv: side of the convolution branch's kernel. An even one reaches further left and up.
        out_channels: channels of the output; 0 for as many as come in, which a graft needs.
        stride: step of both branches; 1 for a graft.
        dilation: distance between neighbours in the attention window.
        fidelity: `corrected` and `authors` compute the same; `authors` also has the authors' `conv_p.bias`,
            which cancels in the softmax and so has no gradient.

    Raises:
        ValueError: heads do not divide the output channels, or an option has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: Annotated[int, ">= 1"] = 4,
        kernel_att: Annotated[int, ">= 1"] = 7,
        kernel_conv: Annotated[int, ">= 1"] = 3,
        out_channels: Annotated[int, ">= 0"] = 0,
        stride: Annotated[int, ">= 1"] = 1,
        dilation: Annotated[int, ">= 1"] = 1,
        fidelity: Literal["corrected", "authors"] = "corrected",
    ) -> None:
        super().__init__()
        out_channels = out_channels or channels
        sizes = {"channels": channels, "heads": heads, "kernel_att": kernel_att, "kernel_conv": kernel_conv}
        for name, value in {
            **sizes,
            "out_channels": out_channels,
            "stride": stride,
            "dilation": dilation,
        }.items():
            if value < 1:
                raise ValueError(f"ACmix needs {name} of at least 1; got {value}")
        if out_channels % heads:
            raise ValueError(f"ACmix cannot split {out_channels} channels into {heads} heads of equal size")
        if fidelity not in ("corrected", "authors"):
            raise ValueError(f"fidelity must be one of corrected, authors; got {fidelity!r}")
        self.heads, self.head_dim = heads, out_channels // heads
        self.kernel_att, self.stride, self.dilation = kernel_att, stride, dilation
        taps = kernel_conv**2

        self.rate1 = nn.Parameter(torch.full((1,), 0.5))
        self.rate2 = nn.Parameter(torch.full((1,), 0.5))
        self.conv1 = nn.Conv2d(channels, out_channels, 1)
        self.conv2 = nn.Conv2d(channels, out_channels, 1)
        self.conv3 = nn.Conv2d(channels, out_channels, 1)
        self.conv_p = nn.Conv2d(2, self.head_dim, 1, bias=fidelity == "authors")
        self.fc = nn.Conv2d(3 * heads, taps, 1, bias=False)
        self.dep_conv = nn.Conv2d(
            taps * self.head_dim,
            out_channels,
            kernel_conv,
            stride=stride,
            padding=kernel_conv // 2,
            groups=self.head_dim,
            bias=False,
        )
        with torch.no_grad():  # input i of a group goes through shifted by tap i: with fc, a k x k convolution
            self.dep_conv.weight.copy_(torch.eye(taps).view(taps, kernel_conv, kernel_conv))

    @classmethod
    def from_authors(
        cls,
        in_planes: int,
        out_planes: int,
        kernel_att: int = 7,
        head: int = 4,
        kernel_conv: int = 3,
        stride: int = 1,
        dilation: int = 1,
    ) -> Self:
        """Build the authors' `ACmix` from its own arguments."""
        return cls(
            in_planes,
            heads=head,
            kernel_att=kernel_att,
            kernel_conv=kernel_conv,
            out_channels=out_planes,
            stride=stride,
            dilation=dilation,
            fidelity="authors",
        )

    def no_weight_decay(self) -> set[str]:
        """The weights of the two branches: mixing scalars, not weight matrices."""
        return {"rate1", "rate2"}

    def uncounted_flops(self, height: int, width: int) -> int:
        """Logits and weighted sum of the window, each a multiply-add per output element and window place."""
        positions = -(-height // self.stride) * -(-width // self.stride)
        return 2 * 2 * self.kernel_att**2 * self.heads * self.head_dim * positions

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)  # 3 x (B, C, H, W)
        rate1, rate2 = self.rate1.to(q.dtype), self.rate2.to(q.dtype)
        return rate1 * self._attend(q, k, v) + rate2 * self._convolve(q, k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of every position to the k x k window around it, padded by reflection.

        The authors' logits are q . (k + pe(centre) - pe(neighbour)). The centre's term is the same for the
        whole window and drops out of the softmax, so k - pe is made once and the window slides over that.
        """
        batch, step = len(q), self.stride
        q, k, v = (rearrange(t, "b (m d) h w -> (b m) d h w", m=self.heads) for t in (q, k, v))
        q = _widen(q[:, :, ::step, ::step]) * self.head_dim**-0.5  # (B m, d, H', W')
        k = self._reflect(_widen(k) - _widen(self.conv_p(_coordinates(v))))  # (B m, d, H + p, W + p)
        v = self._reflect(v)
        windows = self._windows(*q.shape[2:])
        logits = torch.stack([(q * k[window]).sum(1) for window in windows], dim=1)  # (B m, k k, H', W')
        attention = logits.softmax(dim=1)
        y = torch.zeros_like(q)
        for i, window in enumerate(windows):
            y = y + attention[:, i, None] * v[window]  # summed in float32
        merged: Tensor = rearrange(y, "(b m) d h w -> b (m d) h w", b=batch)
        return merged.to(v.dtype)

    def _convolve(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Convolution in two steps: fc mixes the heads into a map per tap, dep_conv shifts and sums."""
        height, width = q.shape[2:]
        heads = [rearrange(t, "b (m d) h w -> b m d (h w)", m=self.heads) for t in (q, k, v)]
        qkv = torch.cat(heads, dim=1)  # (B, 3 m, d, H W)
        taps = rearrange(self.fc(qkv), "b t d (h w) -> b (d t) h w", h=height)  # (B, d t, H, W)
        y: Tensor = self.dep_conv(taps)
        return y[:, :, : -(-height // self.stride), : -(-width // self.stride)]  # even kernels give one more

    def _reflect(self, t: Tensor) -> Tensor:
        """Pad (B, C, H, W) for the window by reflection at the border pixels, as often as it takes."""
        reach = self.dilation * (self.kernel_att - 1)
        for dim in (2, 3):
            last = t.shape[dim] - 1
            index = torch.arange(-(reach // 2), last + 1 + reach - reach // 2, device=t.device)
            t = t.index_select(dim, last - (last - index.remainder(max(2 * last, 1))).abs())
        return t

    def _windows(self, height: int, width: int) -> list[tuple[slice, ...]]:
        """For each position in the window, row by row, the part of the padded map that centres see there."""
        starts = range(0, self.dilation * self.kernel_att, self.dilation)
        rows = [slice(i, i + self.stride * (height - 1) + 1, self.stride) for i in starts]
        columns = [slice(i, i + self.stride * (width - 1) + 1, self.stride) for i in starts]
        return [(slice(None), slice(None), row, column) for row in rows for column in columns]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.conv_p.bias is None:  # the authors' weights have one, without effect
            state_dict.pop(f"{prefix}conv_p.bias", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _coordinates(x: Tensor) -> Tensor:
    """Column and row of each position, from -1 to 1, as (1, 2, H, W) with the dtype and device of x."""
    height, width = x.shape[2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    columns = torch.linspace(-1, 1, width, dtype=dtype, device=x.device).expand(height, width)
    rows = torch.linspace(-1, 1, height, dtype=dtype, device=x.device)[:, None].expand(height, width)
    return torch.stack([columns, rows])[None].to(x.dtype)


def _widen(t: Tensor) -> Tensor:
    """The tensor in float32; float64 stays."""
    return t.to(torch.promote_types(t.dtype, torch.float32))
