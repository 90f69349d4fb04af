"""STA: super token attention.

Source: Huang et al., "Vision Transformer with Super Token Sampling", CVPR 2023, arXiv:2211.11167; the
authors' code is `models/stvit.py` of github.com/hhb072/STViT. This is an independent implementation of the
definitions.

Every cell of a regular grid starts with one super token, the mean of its pixels. Each pixel is associated
softly with the 3x3 super tokens around its own cell, the super tokens become association-weighted means
(`n_iter` rounds), attend to one another, and are handed back to the pixels with the same association.

Status: output and gradients equal the authors' code to 1e-6 in float32 with `fidelity="authors"` (golden
values). The default differs at the border of the map and in the gradient of the association; see
`docs/modules/sta.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels import supertoken
from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.switch import check_fused, fuses
from ablate.modules.kernels.traced import divide_up, gather_around, places, scatter_around


class TokenAttention(nn.Module):
    """Multi-head self-attention among all positions of a map, (B, C, H, W) to (B, C, H, W).

    Args:
        channels: C; `num_heads` must divide it.
        num_heads: Attention heads.
        qkv_bias: Whether the projection to queries, keys and values has a bias.
        fused: As in `StokenAttention`.
    """

    def __init__(
        self, channels: int, num_heads: int, qkv_bias: bool, *, fused: bool | Literal["auto"] = "auto"
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.fused = fused
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=qkv_bias)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; time and (without a fused kernel) memory grow with the square of H x W."""
        if _fuses(self.fused, x):
            return self._fused(x)
        height, width = x.shape[-2:]
        # The authors' channel order: a head's queries, keys and values lie side by side.
        qkv = rearrange(self.qkv(x), "b (n three d) h w -> three b n (h w) d", n=self.num_heads, three=3)
        q, k, v = qkv.contiguous().unbind(0)  # (B, heads, H*W, d) each; fused kernels want d contiguous
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H*W, d); it keeps logits in float32
        out: Tensor = self.proj(rearrange(mixed, "b n (h w) d -> b (n d) h w", h=height, w=width))
        return out

    def _fused(self, x: Tensor) -> Tensor:
        """Do the same channels last: then the heads are views, and nothing is copied before or after the attention."""
        (batch, channels), heads = x.shape[:2], self.num_heads
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C), contiguous if `x` is channels last
        qkv = F.linear(tokens, self.qkv.weight.flatten(1), self.qkv.bias)
        qkv = qkv.view(batch, tokens.shape[1], heads, 3, channels // heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)  # (B, heads, N, d) each
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, N, C)
        out = F.linear(mixed, self.proj.weight.flatten(1), self.proj.bias)
        return out.transpose(1, 2).reshape(x.shape)  # a view


class StokenAttention(nn.Module):
    """Super token attention, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C; `num_heads` must divide it.
        stoken_size: Height and width in pixels of the cell that one super token starts from; it may be larger
            than the map. 1 is plain attention among all pixels, as in the authors' code.
        n_iter: Rounds of association.
        num_heads: Heads of the attention among super tokens.
        qkv_bias: Whether its projection to queries, keys and values has a bias.
        association_grad: Whether the gradient also flows through the association of pixels and super tokens,
            so that it is the true gradient of the output. The authors cut it there.
        fidelity: "corrected" lets neither the padding nor the super tokens beyond the border take part.
            "authors" does as their code does: zero-padded pixels count in the super tokens' means, zero super
            tokens beyond the border take a share of the association, and `association_grad` is off whatever
            was asked for.
        fused: Whether to work on a few images at a time in the processor's caches: faster and smaller, but it cannot
            be differentiated twice. "auto" does on CPUs wherever a graph of torch's own operations is not wanted.

    Raises:
        ValueError: If `num_heads` does not divide `channels`, or a size or count is below 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        stoken_size: tuple[int, int] | int = 4,
        n_iter: Annotated[int, ">= 1"] = 1,
        num_heads: Annotated[int, ">= 1"] = 8,
        qkv_bias: bool = True,
        association_grad: bool = True,
        fidelity: Literal["corrected", "authors"] = "corrected",
        fused: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        height, width = _pair(stoken_size)
        if min(height, width) < 1:
            raise ValueError(f"stoken_size must be at least 1, got {stoken_size}")
        if n_iter < 1:
            raise ValueError(f"n_iter must be at least 1, got {n_iter}")
        if num_heads < 1 or channels < 1 or channels % num_heads:
            raise ValueError(
                f"StokenAttention: {channels} channels cannot be divided among num_heads={num_heads} heads"
            )
        if fidelity not in ("corrected", "authors"):
            raise ValueError(f"fidelity must be 'corrected' or 'authors', got {fidelity!r}")
        check_fused(fused)
        self.stoken_size = (height, width)
        self.n_iter = n_iter
        self.fidelity = fidelity
        self.association_grad = association_grad and fidelity == "corrected"
        self.fused = fused
        self.scale = channels**-0.5
        self.stoken_refine = TokenAttention(channels, num_heads, qkv_bias, fused=fused)

    @classmethod
    def from_authors(
        cls,
        dim: int,
        stoken_size: Sequence[int],
        n_iter: int = 1,
        num_heads: int = 8,
        qkv_bias: bool = False,
    ) -> Self:
        """Build the authors' module from the names and defaults of their constructor."""
        height, width = stoken_size
        return cls(
            dim,
            stoken_size=(height, width),
            n_iter=n_iter,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            fidelity="authors",
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend among super tokens, (B, C, H, W) to (B, C, H, W)."""
        if self.stoken_size == (1, 1):
            refined: Tensor = self.stoken_refine(x)
            return refined
        if _fuses(self.fused, x):
            return self._fused(x)
        (h, w), (height, width) = self.stoken_size, x.shape[-2:]
        rows, cols = divide_up(height, h), divide_up(width, w)  # cells; T = rows * cols, of n = h * w pixels

        # Products of features overflow float16 from a feature scale of about 300 on: associate in float32.
        with no_autocast(x):
            wide = widen(x)
            wide = F.pad(wide, (0, cols * w - width, 0, rows * h - height))
            pixels = rearrange(wide, "b c (i h) (j w) -> b (i j) (h w) c", h=h, w=w)  # (B, T, n, C)
            weights = self._pixel_weights(height, width, rows, cols, pixels)  # (T, n, 1), 0 where padded

            source = pixels if self.association_grad else pixels.detach()
            tokens = source.sum(2) / weights.sum(1)  # (B, T, C), the means of the cells
            tokens = rearrange(tokens, "b (i j) c -> b c i j", i=rows)
            association = self._associate(source, tokens)  # (B, T, n, 9)
            for _ in range(self.n_iter - 1):
                tokens = _aggregate(source, association, weights, rows, cols)  # (B, C, rows, cols)
                association = self._associate(source, tokens)
            tokens = _aggregate(pixels, association, weights, rows, cols)

        tokens = self.stoken_refine(tokens.to(x.dtype))  # (B, C, rows, cols)

        with no_autocast(x):
            around = gather_around(tokens.to(wide.dtype))  # (B, T, C, 9)
            out = around @ association.transpose(-1, -2)  # (B, T, C, n)
            out = rearrange(out, "b (i j) c (h w) -> b c (i h) (j w)", i=rows, h=h)
        result: Tensor = out[..., :height, :width].to(x.dtype)
        return result

    def _fused(self, x: Tensor) -> Tensor:
        cells = supertoken.Cells(x.shape[2], x.shape[3], *self.stoken_size, self.fidelity == "authors")
        tokens, association = supertoken.associate(x, cells, self.n_iter, self.scale, self.association_grad)
        refined = self.stoken_refine(tokens.to(x.dtype).permute(0, 3, 1, 2))  # (B, C, rows, cols)
        return supertoken.hand_back(refined.permute(0, 2, 3, 1), association, cells, x)

    def _associate(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Share each pixel out among the 3x3 super tokens around its cell.

        (B, T, n, C) pixels and (B, C, rows, cols) super tokens to (B, T, n, 9); the last axis sums to 1.
        """
        logits = pixels @ gather_around(tokens) * self.scale  # (B, T, n, 9)
        if self.fidelity == "corrected":
            exists = gather_around(torch.ones_like(tokens[:1, :1]))  # (1, T, 1, 9)
            logits = logits.masked_fill(exists == 0, -torch.inf)  # its own token always exists
        association: Tensor = logits.softmax(-1)
        return association

    def _pixel_weights(self, height: int, width: int, rows: int, cols: int, like: Tensor) -> Tensor:
        """(T, n, 1): 1 for a pixel of the map, 0 for padding (1 there too with the authors' fidelity)."""
        h, w = self.stoken_size
        down = places(rows * h, like) < height  # (rows * h,)
        right = places(cols * w, like) < width  # (cols * w,)
        inside = down[:, None] & right
        if self.fidelity == "authors":
            inside = torch.ones_like(inside)
        cells: Tensor = rearrange(inside.to(like.dtype), "(i h) (j w) -> (i j) (h w) 1", h=h, w=w)
        return cells

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Pass over the constant kernels that the authors' state dicts hold."""
        for kernel in ("unfold.weights", "fold.weights"):
            state_dict.pop(prefix + kernel, None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that are not weight matrices: none besides biases."""
        return set()

    def uncounted_flops(self, height: int, width: int) -> int:
        """Count what FlopCounterMode misses: nothing, all products are matrix products and convolutions."""
        return 0


def _aggregate(pixels: Tensor, association: Tensor, weights: Tensor, rows: int, cols: int) -> Tensor:
    """Average the pixels into super tokens by association.

    Pixels (B, T, n, C), 0 where padded, association (B, T, n, 9) and weights (T, n, 1) to (B, C, rows, cols).
    """
    total = scatter_around(pixels.transpose(-1, -2) @ association, rows, cols)  # (B, C, rows, cols)
    mass = scatter_around(weights.transpose(-1, -2) @ association, rows, cols)  # (B, 1, rows, cols)
    return total / (mass + supertoken.TINY)


def _fuses(fused: bool | str, x: Tensor) -> bool:
    """Tell whether to take the fused form; by itself only on CPUs, where it was measured."""
    return fuses(fused, x) and (fused is True or x.device.type == "cpu")


def _pair(size: Sequence[int] | int) -> tuple[int, int]:
    """Height and width of a size given as one number or two."""
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise ValueError(f"stoken_size must be one number or two, got {tuple(size)}")
    return size[0], size[1]
