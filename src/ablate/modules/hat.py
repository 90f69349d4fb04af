"""HAT: hybrid attention block, overlapping cross-attention block, and the residual group made of them.

Source: Chen et al., "Activating More Pixels in Image Super-Resolution Transformer", CVPR 2023,
arXiv:2205.04437; the authors' code is `hat/archs/hat_arch.py` of github.com/XPixelGroup/HAT. This is an
independent implementation of the definitions.

`HAB` adds shifted-window attention and a convolutional branch with channel attention; `OCAB` lets each window
look at a larger one around it; `RHAG`, the one to graft, chains HABs and one OCAB in a residual connection.

Status: output and gradients equal the authors' code to 1e-5 in float32 with `fidelity="authors"` (golden
values). The default differs at the border, for sizes that the window does not divide, and in the squeeze of
the channel attention; see `docs/modules/hat.md`. Dropout and stochastic depth are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.dense import add_normed_mlp, linear
from ablate.modules.kernels.switch import check_fused, fuses
from ablate.modules.kernels.traced import if_longer, roll, unfold
from ablate.modules.kernels.window import Masks, WindowAttention, attend, overlap_index
from ablate.modules.kernels.window_parts import attend_in_parts

MIN_SQUEEZE_UNITS = 4  # of the channel attention; the published models have 6, and one or two easily die
SMALL = 2**16  # elements of a map below which the pieces' overhead outweighs: 0.7 to 0.9 of the composed form's speed


class _Block(nn.Module):
    """What HAB, OCAB and RHAG share: their authors' constructor and what they tell about themselves."""

    authors_defaults: ClassVar[dict[str, Any]] = {}

    @classmethod
    def from_authors(cls, dim: int, **options: Any) -> Self:
        """Build the authors' block from the names and defaults of their constructor (unknown: TypeError)."""
        return cls(dim, fidelity="authors", **{**cls.authors_defaults, **options})

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that are not weight matrices: the relative position bias tables."""
        return {name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")}

    def uncounted_flops(self, height: int, width: int) -> int:
        """Count what FlopCounterMode misses: nothing, all products are matrix products and convolutions."""
        return 0


class HAB(_Block):
    """Hybrid attention block, (B, C, H, W) to (B, C, H, W).

    Arguments and errors as in `RHAG`; `shift_size`, from 0 to window_size - 1, is how far the windows are shifted.
    """

    authors_defaults = {"window_size": 7, "mlp_ratio": 4.0}  # noqa: RUF012 (declared ClassVar above)

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 4,
        window_size: Annotated[int, ">= 1"] = 8,
        shift_size: Annotated[int, ">= 0"] = 0,
        compress_ratio: Annotated[int, ">= 1"] = 3,
        squeeze_factor: Annotated[int, ">= 1"] = 30,
        conv_scale: Annotated[float, ">= 0"] = 0.01,
        mlp_ratio: Annotated[float, "> 0"] = 2.0,
        qkv_bias: bool = True,
        fidelity: Literal["corrected", "authors"] = "corrected",
        fused: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        _check(channels, num_heads, window_size, fidelity)
        check_fused(fused)
        _require(0 <= shift_size < window_size, f"shift_size={shift_size} is not in 0..{window_size - 1}")
        _require(conv_scale >= 0, f"conv_scale must be at least 0, got {conv_scale}")
        self.window_size = window_size
        self.shift_size = shift_size
        self.conv_scale = conv_scale
        self.fidelity = fidelity
        self.fused = fused
        self.masks = Masks(window_size)
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, window_size, num_heads, qkv_bias)
        self.conv_block = _conv_branch(channels, compress_ratio, squeeze_factor, fidelity)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _mlp(channels, mlp_ratio)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to a map, (B, C, H, W) to (B, C, H, W)."""
        if _takes_fused(self.fused, x):
            return self._forward_fused(x)
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        normed = self.norm1(x)
        local = self.conv_block(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # never sees window padding
        x = x + self._attend_in_windows(normed) + self.conv_scale * local
        x = x + self.mlp(self.norm2(x))
        return x.permute(0, 3, 1, 2)

    def _forward_fused(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
        normed = self.norm1(x)
        convolutions: Any = self.conv_block.get_submodule("cab")
        local = convolutions[:3](normed.permute(0, 3, 1, 2))  # (B, C, H, W), channels last
        weight = self.conv_scale * convolutions[3].attention(local)  # (B, C, 1, 1)
        x = self._attend_in_parts(normed, x)
        x = torch.addcmul(x, local.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1))
        return add_normed_mlp(x, self.norm2, self.mlp).permute(0, 3, 1, 2)

    def _attend_in_parts(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """The same as `_attend_in_windows`, by the parts of windows inside the map; `added` is added."""
        attn, authors = self.attn, self.fidelity == "authors"
        _check_size(x.shape[1], x.shape[2], self.window_size, authors)
        qkv = linear(x, attn.qkv.weight, attn.qkv.bias)
        out = attend_in_parts(qkv, attn.bias(), self.window_size, self.shift_size, authors=authors)
        return linear(out, attn.proj.weight, attn.proj.bias, added)

    def _attend_in_windows(self, x: Tensor) -> Tensor:
        """Attention inside (shifted) windows, (B, H, W, C) to (B, H, W, C)."""
        height, width, window = x.shape[1], x.shape[2], self.window_size
        authors = self.fidelity == "authors"
        _check_size(height, width, window, authors)
        pad_h, pad_w = -height % window, -width % window
        # A single window is not shifted: that would only cut it into pieces that cannot see each other.
        limit = 0 if authors else window
        shift_h, shift_w = (if_longer(n, limit, self.shift_size) for n in (height, width))
        blocked = self.masks.of((height, width), (shift_h, shift_w), x)  # (windows, N, N), N = window^2

        x = roll(F.pad(x, (0, 0, 0, pad_w, 0, pad_h)), (-shift_h, -shift_w), (1, 2))  # (B, H', W', C)
        windows = rearrange(x, "b (i h) (j w) c -> b (i j) (h w) c", h=window, w=window)
        windows = self.attn(windows, blocked, penalty=-100.0 if authors else -torch.inf)
        x = rearrange(windows, "b (i j) (h w) c -> b (i h) (j w) c", i=(height + pad_h) // window, h=window)
        return roll(x, (shift_h, shift_w), (1, 2))[:, :height, :width]


class OCAB(_Block):
    """Overlapping cross-attention block, (B, C, H, W) to (B, C, H, W).

    The queries of a window attend to the keys and values of a larger one around it. Arguments, errors: see `RHAG`.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 4,
        window_size: Annotated[int, ">= 1"] = 8,
        overlap_ratio: Annotated[float, ">= 0"] = 0.5,
        mlp_ratio: Annotated[float, "> 0"] = 2.0,
        qkv_bias: bool = True,
        fidelity: Literal["corrected", "authors"] = "corrected",
        fused: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        _check(channels, num_heads, window_size, fidelity)
        check_fused(fused)
        _require(overlap_ratio >= 0, f"overlap_ratio must be at least 0, got {overlap_ratio}")
        overlap = int(window_size * overlap_ratio)
        if fidelity == "corrected":
            overlap += overlap % 2
        choice = f"window_size={window_size} with overlap_ratio={overlap_ratio}"
        _require(overlap % 2 == 0, f"{choice} is an overlap of {overlap} pixels, the authors' must be even")
        outer = window_size + overlap
        self.num_heads = num_heads
        self.window_size = window_size
        self.margin = overlap // 2
        self.fidelity = fidelity
        self.fused = fused
        self.masks = Masks(window_size, self.margin)
        table = torch.empty((window_size + outer - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        index = overlap_index(window_size, outer)  # (window^2, outer^2)
        self.register_buffer("relative_position_index", index, persistent=False)
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _mlp(channels, mlp_ratio)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to a map, (B, C, H, W) to (B, C, H, W)."""
        if _takes_fused(self.fused, x):
            x = x.permute(0, 2, 3, 1).contiguous()
            x = self._attend_around_parts(self.norm1(x), x)
            return add_normed_mlp(x, self.norm2, self.mlp).permute(0, 3, 1, 2)
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = x + self._attend_around_windows(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x.permute(0, 3, 1, 2)

    def _attend_around_windows(self, x: Tensor) -> Tensor:
        """Attention from windows to the larger windows around them, (B, H, W, C) to (B, H, W, C)."""
        height, width, window, margin = x.shape[1], x.shape[2], self.window_size, self.margin
        authors = self.fidelity == "authors"
        _check_size(height, width, window, authors)
        pad_h, pad_w, outer = -height % window, -width % window, window + 2 * margin
        blocked = None if authors else self.masks.of((height, width), (0, 0), x)  # (windows, N, M)

        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, H, W, C) each
        q = F.pad(q, (0, 0, 0, pad_w, 0, pad_h))
        q = rearrange(q, "b (i h) (j w) (n d) -> b (i j) n (h w) d", h=window, w=window, n=self.num_heads)
        kv = F.pad(torch.cat((k, v), -1), (0, 0, margin, pad_w + margin, margin, pad_h + margin))
        kv = unfold(unfold(kv, 1, outer, window), 2, outer, window)  # (B, i, j, 2C, outer, outer)
        kv = rearrange(kv, "b i j (two n d) h w -> two b (i j) n (h w) d", two=2, n=self.num_heads)
        windows = attend(q, kv[0], kv[1], self._bias(), blocked, -torch.inf)  # (B, windows, N, C)
        rows = (height + pad_h) // window
        out = rearrange(windows, "b (i j) (h w) c -> b (i h) (j w) c", i=rows, h=window)
        return self.proj(out[:, :height, :width])  # type: ignore[no-any-return]

    def _attend_around_parts(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """The same as `_attend_around_windows`, by the parts of windows inside the map; `added` is added."""
        authors = self.fidelity == "authors"
        _check_size(x.shape[1], x.shape[2], self.window_size, authors)
        qkv = linear(x, self.qkv.weight, self.qkv.bias)
        out = attend_in_parts(qkv, self._bias(), self.window_size, margin=self.margin, authors=authors)
        return linear(out, self.proj.weight, self.proj.bias, added)

    def _bias(self) -> Tensor:  # (N, M, heads)
        return self.relative_position_bias_table[self.relative_position_index]


class RHAG(_Block):
    """Residual hybrid attention group, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C; `num_heads` must divide it.
        depth: Hybrid attention blocks; every second one has its windows shifted by half their size.
        num_heads: Attention heads of every block.
        window_size: Side of the square windows. A map that they do not divide, or that is smaller, is padded
            for the attention only, and nothing attends to the padding. A single window is not shifted.
        overlap_ratio: The windows of keys and values in the overlapping block are larger than the queries' by
            `int(overlap_ratio * window_size)` pixels, an odd number rounded up to the next even one.
        compress_ratio: Divides the channels inside the convolution branch.
        squeeze_factor: Divides the channels inside the channel attention; at least 4 units remain.
        conv_scale: Weight of the convolution branch.
        mlp_ratio: Hidden units of the MLPs per channel.
        qkv_bias: Whether the projections to queries, keys and values have a bias.
        fidelity: "authors" brings back the rules of the authors' code: H and W must be multiples of the
            window (else ValueError in forward) and the overlap even; a single window is shifted too; pairs
            across the seam of the shift get -100 on their logit instead of being excluded; zeros beyond the
            border take part in the overlapping attention; the squeeze has no minimum and may be dead from the
            start.
        fused: "auto" takes the fast form where it was measured to be faster (maps of 2^16 elements on the CPU, not
            in autocast), true wherever it is possible, false the form composed of torch's operations.

    Raises:
        ValueError: If the channels cannot be divided as asked, or a number is out of its range.
    """

    authors_defaults = {"mlp_ratio": 4.0}  # noqa: RUF012 (declared ClassVar above)

    def __init__(
        self,
        channels: int,
        *,
        depth: Annotated[int, ">= 1"] = 2,
        num_heads: Annotated[int, ">= 1"] = 4,
        window_size: Annotated[int, ">= 1"] = 8,
        overlap_ratio: Annotated[float, ">= 0"] = 0.5,
        compress_ratio: Annotated[int, ">= 1"] = 3,
        squeeze_factor: Annotated[int, ">= 1"] = 30,
        conv_scale: Annotated[float, ">= 0"] = 0.01,
        mlp_ratio: Annotated[float, "> 0"] = 2.0,
        qkv_bias: bool = True,
        fidelity: Literal["corrected", "authors"] = "corrected",
        fused: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        _require(depth >= 1, f"depth must be at least 1, got {depth}")
        blocks = [
            HAB(
                channels,
                num_heads=num_heads,
                window_size=window_size,
                shift_size=window_size // 2 if i % 2 else 0,
                compress_ratio=compress_ratio,
                squeeze_factor=squeeze_factor,
                conv_scale=conv_scale,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                fidelity=fidelity,
                fused=fused,
            )
            for i in range(depth)
        ]
        overlap_attn = OCAB(
            channels,
            num_heads=num_heads,
            window_size=window_size,
            overlap_ratio=overlap_ratio,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            fidelity=fidelity,
            fused=fused,
        )
        self.residual_group = AttentionBlocks(blocks, overlap_attn)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the group to a map, (B, C, H, W) to (B, C, H, W)."""
        return x + self.conv(self.residual_group(x))  # type: ignore[no-any-return]


class AttentionBlocks(nn.Module):
    """HABs in sequence, then one OCAB: what `RHAG` puts a residual connection around."""

    def __init__(self, blocks: list[HAB], overlap_attn: OCAB) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.overlap_attn = overlap_attn

    def forward(self, x: Tensor) -> Tensor:
        """Apply all blocks to a map, (B, C, H, W) to (B, C, H, W)."""
        return self.overlap_attn(self.blocks(x))  # type: ignore[no-any-return]


class ChannelAttention(nn.Module):
    """Scale each channel by a gate computed from the means of all channels, (B, C, H, W) to (B, C, H, W).

    With the "corrected" fidelity the hidden layer has at least `MIN_SQUEEZE_UNITS` units, all active at the
    start (bias 1): the means hardly vary, so with a bias around 0 about half of the units would never fire.
    """

    def __init__(self, channels: int, squeeze_factor: int, fidelity: str) -> None:
        super().__init__()
        _require(squeeze_factor >= 1, f"squeeze_factor must be at least 1, got {squeeze_factor}")
        units = channels // squeeze_factor
        if fidelity == "corrected":
            units = max(units, MIN_SQUEEZE_UNITS)
        _require(units > 0, f"squeeze_factor={squeeze_factor} leaves no unit of {channels} channels")
        squeeze, excite = nn.Conv2d(channels, units, 1), nn.Conv2d(units, channels, 1)
        if fidelity == "corrected" and squeeze.bias is not None:
            nn.init.ones_(squeeze.bias)
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), squeeze, nn.ReLU(), excite, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Gate the channels of a map."""
        return x * self.attention(x)  # type: ignore[no-any-return]  # (B, C, H, W) * (B, C, 1, 1)


def _conv_branch(channels: int, compress_ratio: int, squeeze_factor: int, fidelity: str) -> nn.Module:
    """Two 3x3 convolutions through a bottleneck, then channel attention, (B, C, H, W) to (B, C, H, W)."""
    fits = 1 <= compress_ratio <= channels
    _require(fits, f"compress_ratio={compress_ratio} is not between 1 and the {channels} channels")
    hidden = channels // compress_ratio
    cab = nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(hidden, channels, 3, padding=1),
        ChannelAttention(channels, squeeze_factor, fidelity),
    )
    return nn.Sequential(OrderedDict(cab=cab))


def _mlp(channels: int, mlp_ratio: float) -> nn.Module:
    """Two linear layers with GELU between them, on the last axis."""
    hidden = int(channels * mlp_ratio)
    _require(hidden > 0, f"mlp_ratio={mlp_ratio} leaves no hidden unit for {channels} channels")
    return nn.Sequential(OrderedDict(fc1=nn.Linear(channels, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, channels)))


def _takes_fused(fused: bool | str, x: Tensor) -> bool:
    """Tell whether a block takes its fused form; with "auto" only where that was measured to be faster."""
    measured = x.device.type == "cpu" and x.numel() >= SMALL and not torch.is_autocast_enabled("cpu")
    return fuses(fused, x) and (fused is True or measured)


def _initialise(module: nn.Module) -> None:
    """Start linear layers as the authors' network does."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(channels: int, num_heads: int, window_size: int, fidelity: str) -> None:
    divides = channels >= 1 and num_heads >= 1 and channels % num_heads == 0
    _require(divides, f"HAT: {channels} channels cannot be divided among num_heads={num_heads} heads")
    _require(window_size >= 1, f"window_size must be at least 1, got {window_size}")
    _require(fidelity in ("corrected", "authors"), f"fidelity must be 'corrected' or 'authors', got {fidelity!r}")


def _check_size(height: int, width: int, window: int, authors: bool) -> None:
    if authors and (height % window or width % window):
        raise ValueError(f"the authors' windows of {window} do not divide a {height}x{width} map")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
