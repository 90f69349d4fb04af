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
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.dense import linear
from ablate.modules.kernels.neighbourhood import neighbourhood_attention
from ablate.modules.kernels.once import once
from ablate.modules.kernels.precision import widen
from ablate.modules.kernels.switch import check_fused, fuses
from ablate.modules.kernels.traced import divide_up, from_minus_one_to_one, places

SMALL = 144  # pixels, up to which the logits of all pairs are faster than tiles: 3 times at 4 x 4, even at 12 x 12


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
        fused: `auto` and `true` take the fast form where it can be (not in a graph that is exported, traced or, with
            `auto`, compiled); `false` never. The fast form has no second derivatives, and raises if asked for them.

    Raises:
        ValueError: heads do not divide the output channels, or an option has no such value.
    """

    fused: bool | Literal["auto"] = "auto"  # of a module pickled before there was a choice

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
        fused: bool | Literal["auto"] = "auto",
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
        check_fused(fused)
        self.fused = fused
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
        if fuses(self.fused, x):
            return self._fused(x)
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)  # 3 x (B, C, H, W)
        rate1, rate2 = self.rate1.to(q.dtype), self.rate2.to(q.dtype)
        return rate1 * self._attend(q, k, v) + rate2 * self._convolve(q, k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of every position to the k x k window around it, padded by reflection.

        The authors' logits are q . (k + pe(centre) - pe(neighbour)). The centre's term is the same for the
        whole window and drops out of the softmax, so k - pe is made once and the window slides over that.
        """
        step = self.stride
        q, k, v = (rearrange(t, "b (m d) h w -> (b m) d h w", m=self.heads) for t in (q, k, v))
        q = widen(q[:, :, ::step, ::step]) * self.head_dim**-0.5  # (B m, d, H', W')
        k = self._reflect(widen(k) - widen(self.conv_p(_coordinates(v))))  # (B m, d, H + p, W + p)
        v = self._reflect(v)
        windows = self._windows(*q.shape[2:])
        logits = torch.stack([(q * k[window]).sum(1) for window in windows], dim=1)  # (B m, k k, H', W')
        attention = logits.softmax(dim=1)
        y = torch.zeros_like(q)
        for i, window in enumerate(windows):
            y = y + attention[:, i, None] * v[window]  # summed in float32
        merged: Tensor = rearrange(y, "(b m) d h w -> b (m d) h w", m=self.heads)
        return merged.to(v.dtype)

    def _convolve(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Convolution in two steps: fc mixes the heads into a map per tap, dep_conv shifts and sums."""
        height, width = q.shape[2:]
        heads = [rearrange(t, "b (m d) h w -> b m d (h w)", m=self.heads) for t in (q, k, v)]
        qkv = torch.cat(heads, dim=1)  # (B, 3 m, d, H W)
        taps = rearrange(self.fc(qkv), "b t d (h w) -> b (d t) h w", h=height)  # (B, d t, H, W)
        y: Tensor = self.dep_conv(taps)
        return y[:, :, : divide_up(height, self.stride), : divide_up(width, self.stride)]  # even kernels give one more

    def _fused(self, x: Tensor) -> Tensor:
        """The same with one projection, one convolution and attention by tiles, pixel by pixel in memory."""
        b, m, d = len(x), self.heads, self.head_dim
        height, width = x.shape[2:]
        pixels = self._project(x).view(b, height, width, d, 3, m)
        maps = pixels.flatten(3).permute(0, 3, 1, 2)  # (B, d 3 m, H, W) in channels_last
        padding = self.dep_conv.kernel_size[0] // 2
        convolution = F.conv2d(maps, self._kernel().to(maps.dtype), stride=self.stride, padding=padding, groups=d)
        if height * width <= SMALL:
            attention = self._attend_to_all(pixels)  # (B, m, d, H', W')
        else:
            window = self.kernel_att, self.dilation, self.stride
            q, k, v = _Windows.apply(pixels, self._position_codes(pixels), self.rate1, *window)
            attention = neighbourhood_attention(q, k, v, *window)
        out = attention.shape[3:]  # even kernels give one more
        convolution = convolution[:, :, : out[0], : out[1]]
        y = (convolution.view(attention.shape) + attention.to(maps.dtype)).flatten(1, 2)
        return y if x.is_contiguous(memory_format=torch.channels_last) else y.contiguous()

    def _attend_to_all(self, pixels: Tensor) -> Tensor:
        """Attention with the logits of all pairs of positions, where those are hardly more than the windows' places.

        Nothing is padded: a key that reflection shows to a query n times counts n times, log n in its logit.
        """
        (b, height, width), (m, d), step = pixels.shape[:3], (self.heads, self.head_dim), self.stride
        with torch.autocast(pixels.device.type, enabled=False):
            q, k, v = widen(pixels).permute(4, 0, 5, 1, 2, 3)  # 3 x (B, m, H, W, d)
            q = q[:, :, ::step, ::step]
            size = q.shape[2:4]
            rows = self._counts(height, q)
            counts = torch.kron(rows, rows if width == height else self._counts(width, q))  # (H' W', H W)
            q, k, v = (t.reshape(b * m, -1, d) for t in (q, k - self._position_codes(pixels), v))
            logits = torch.baddbmm(counts.log().expand(b * m, -1, -1), q, k.mT, alpha=d**-0.5)
            y = self.rate1.to(q.dtype) * torch.bmm(logits.softmax(-1), v)
        return y.view(b, m, *size, d).permute(0, 1, 4, 2, 3)

    def _counts(self, size: int, like: Tensor) -> Tensor:
        """How often the windows (H') along an axis show each of its positions (H): (H', H)."""
        reach = self.dilation * (self.kernel_att - 1)
        starts = torch.arange(-(reach // 2), size - reach // 2, self.stride, device=like.device)
        places = starts[:, None] + torch.arange(0, reach + 1, self.dilation, device=like.device)
        return F.one_hot(_mirrored(places, size), size).sum(1).to(like.dtype)

    def _project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of each pixel, (B, H W, d 3 m): of a channel of the heads all that fc mixes."""
        state = [(conv.weight, conv.bias) for conv in (self.conv1, self.conv2, self.conv3)]
        weight, bias = (torch.stack(t).view(3, self.heads, self.head_dim, -1) for t in zip(*state, strict=True))
        weight, bias = (t.permute(2, 0, 1, 3).flatten(0, 2) for t in (weight, bias))  # (d 3 m, C), (d 3 m, 1)
        return linear(x.flatten(2).mT, weight, bias.flatten())

    def _position_codes(self, pixels: Tensor) -> Tensor:
        """conv_p of the coordinates, (H, W, d) in float32 or wider."""
        with torch.autocast(pixels.device.type, enabled=False):
            wide = widen(pixels[:1, :, :, :1, 0, 0].permute(0, 3, 1, 2))  # (1, 1, H, W)
            places = _coordinates(wide)[0].permute(1, 2, 0)  # (H, W, 2)
            bias = None if self.conv_p.bias is None else self.conv_p.bias.to(wide)
            return F.linear(places, self.conv_p.weight.flatten(1).to(wide), bias)

    def _kernel(self) -> Tensor:
        """dep_conv after fc, times rate2: one convolution in d groups of 3 m channels in and m out."""
        with torch.autocast(self.fc.weight.device.type, enabled=False):
            dep, fc = widen(self.dep_conv.weight).permute(0, 2, 3, 1), widen(self.rate2 * self.fc.weight.flatten(1))
            return (dep @ fc).permute(0, 3, 1, 2)  # (C, 3 m, k, k)

    def _reflect(self, t: Tensor) -> Tensor:
        """Pad (B, C, H, W) for the window by reflection at the border pixels, as often as it takes."""
        reach = self.dilation * (self.kernel_att - 1)
        for dim in (2, 3):
            index = places(t.shape[dim] + reach, t) - reach // 2
            t = t.index_select(dim, _mirrored(index, t.shape[dim]))
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


def _mirrored(index: Tensor, size: int) -> Tensor:
    """The positions that an axis of that size shows at any integer places, reflected at its ends back and forth."""
    last = size - 1
    return last - (last - index.remainder(2 * last + (last == 0))).abs()


def _coordinates(x: Tensor) -> Tensor:
    """Column and row of each position, from -1 to 1, as (1, 2, H, W) with the dtype and device of x."""
    height, width = x.shape[2:]
    wide = widen(x[:1, :1, :1, :1])
    columns = from_minus_one_to_one(width, wide).expand(height, width)
    rows = from_minus_one_to_one(height, wide)[:, None].expand(height, width)
    return torch.stack([columns, rows])[None].to(x.dtype)


class _Windows(torch.autograd.Function):
    """From the pixels (B, H, W, d, 3, m) what the windows need, channels side by side, in float32 or wider.

    Queries (B, m, d, H', W'), scaled, with the stride; keys without their position codes (H, W, d), and values times
    rate1, both (B, m, d, H + p, W + p), padded by reflection.
    """

    @staticmethod
    def forward(
        ctx: Any, pixels: Tensor, codes: Tensor, rate: Tensor, kernel: int, dilation: int, stride: int
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(pixels, rate)
        ctx.reach, ctx.stride = dilation * (kernel - 1), stride
        q, k, v = pixels.permute(4, 0, 5, 1, 2, 3)  # 3 x (B, m, H, W, d)
        q = q[:, :, ::stride, ::stride]
        b, m, height, width, d = k.shape
        queries = codes.new_empty(q.shape)
        torch.mul(q, codes.new_full((1,), d**-0.5), out=queries)
        padded = codes.new_empty(2, b, m, height + ctx.reach, width + ctx.reach, d)
        keys, values = padded
        torch.sub(k, codes, out=_inside(keys, ctx.reach))
        torch.mul(v, rate.to(codes.dtype), out=_inside(values, ctx.reach))
        _mirror(padded.flatten(0, 1), ctx.reach)
        return tuple(t.permute(0, 1, 4, 2, 3) for t in (queries, keys, values))

    @staticmethod
    @once
    def backward(ctx: Any, saved: tuple[Tensor, ...], *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pixels, rate = saved
        queries, keys, values = (t.permute(0, 1, 3, 4, 2) for t in gradients)
        keys, values = _fold(keys, ctx.reach), _fold(values, ctx.reach)
        total = torch.empty_like(pixels)
        q, k, v = total.permute(4, 0, 5, 1, 2, 3)
        if ctx.stride > 1:
            q.zero_()
        torch.mul(queries, queries.shape[-1] ** -0.5, out=q[:, :, :: ctx.stride, :: ctx.stride])
        k.copy_(keys)
        torch.mul(values, rate.to(values.dtype), out=v)
        pairs = zip(pixels.permute(4, 0, 5, 1, 2, 3)[2], values, strict=True)  # of an image: the product is no map
        mixing = torch.stack([(a * b).sum() for a, b in pairs]).sum().to(rate.dtype).view(1)
        return total, -keys.sum((0, 1)), mixing, None, None, None


def _inside(padded: Tensor, reach: int) -> Tensor:
    """What is not padding of (B, m, H + reach, W + reach, d)."""
    height, width = (n - reach for n in padded.shape[2:4])
    return padded.narrow(2, reach // 2, height).narrow(3, reach // 2, width)


def _outside(size: int, reach: int) -> list[tuple[int, int]]:
    """Each place in the padding of a padded axis, and the place that it mirrors, reflecting as often as it takes."""
    before, last = reach // 2, size - reach - 1
    places = [*range(before), *range(before + last + 1, size)]
    return [(i, before + last - abs(last - (i - before) % max(2 * last, 1))) for i in places]


def _mirror(padded: Tensor, reach: int) -> None:
    """Fill the padding of (B, m, H + reach, W + reach, d) with the reflection of what is inside."""
    columns = padded.narrow(3, reach // 2, padded.shape[3] - reach)
    for place, source in _outside(padded.shape[2], reach):
        columns.select(2, place).copy_(columns.select(2, source))
    for place, source in _outside(padded.shape[3], reach):
        padded.select(3, place).copy_(padded.select(3, source))


def _fold(padded: Tensor, reach: int) -> Tensor:
    """The reverse for gradients: add the padding to where it came from, in place, and return what is inside.

    In place, because the gradient of a padded map is made by the attention for this and for nothing else.
    """
    for place, source in _outside(padded.shape[3], reach):
        padded.select(3, source).add_(padded.select(3, place))
    columns = padded.narrow(3, reach // 2, padded.shape[3] - reach)
    for place, source in _outside(padded.shape[2], reach):
        columns.select(2, source).add_(columns.select(2, place))
    return _inside(padded, reach)
