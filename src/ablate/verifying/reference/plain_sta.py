"""Super token attention written out as the paper defines it, with every neighbourhood and every share materialised.

Pixels and super tokens meet in one dense matrix of association (B, pixels, super tokens): a pixel has a share in the
3x3 super tokens around its own cell and in no other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.modules.sta import StokenAttention


class PlainStokenAttention(StokenAttention):
    """The same constructor, parameters and options; another forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Associate, attend among the super tokens, and read back."""
        if self.stoken_size == (1, 1):
            return self._attend(x)
        batch, channels, height, width = x.shape
        h, w = self.stoken_size
        rows, cols = math.ceil(height / h), math.ceil(width / w)
        as_authors = self.fidelity == "authors"
        if as_authors:  # padded pixels are pixels like others
            x = F.pad(x, (0, cols * w - width, 0, rows * h - height))
        tall, across = x.shape[2:]

        row = torch.arange(tall, device=x.device).div(h, rounding_mode="floor")  # the cell of each line and column
        col = torch.arange(across, device=x.device).div(w, rounding_mode="floor")
        cell_row, cell_col = row[:, None].expand(tall, across).flatten(), col.expand(tall, across).flatten()
        # One ring of super tokens beyond the border: zeros that take part (authors), or that nothing is given to.
        token_row = torch.arange(-1, rows + 1, device=x.device)[:, None].expand(rows + 2, cols + 2).flatten()
        token_col = torch.arange(-1, cols + 1, device=x.device).expand(rows + 2, cols + 2).flatten()
        real = (token_row >= 0) & (token_row < rows) & (token_col >= 0) & (token_col < cols)
        down = (cell_row[:, None] - token_row).abs()
        right = (cell_col[:, None] - token_col).abs()
        near = (down <= 1) & (right <= 1)  # (pixels, tokens)
        same_cell = ((down == 0) & (right == 0)).to(x.dtype)

        pixels = x.flatten(2).transpose(1, 2).float() if x.dtype.itemsize < 4 else x.flatten(2).transpose(1, 2)
        same_cell, allowed = same_cell.to(pixels.dtype), near if as_authors else near & real
        source = pixels if self.association_grad else pixels.detach()
        tokens = (
            same_cell.T @ source / same_cell.sum(0).clamp(min=1)[:, None]
        )  # the means of the cells; zeros in the ring
        for t in range(self.n_iter):
            logits = source @ tokens.transpose(1, 2) / math.sqrt(channels)
            shares = logits.masked_fill(~allowed, -torch.inf).softmax(-1)  # (B, pixels, tokens)
            values = pixels if t == self.n_iter - 1 else source
            tokens = shares.transpose(1, 2) @ values / (shares.sum(1)[..., None] + 1e-12) * real[:, None]

        inner = tokens[:, real].transpose(1, 2).reshape(batch, channels, rows, cols)
        refined = self._attend(inner.to(x.dtype)).flatten(2).transpose(1, 2).to(pixels.dtype)
        out = shares[..., real] @ refined
        return out.transpose(1, 2).reshape(batch, channels, tall, across)[..., :height, :width].to(x.dtype)

    def _attend(self, x: Tensor) -> Tensor:
        """Attend among all positions, head by head."""
        module = self.stoken_refine
        qkv = torch.einsum("oc,bchw->bohw", module.qkv.weight[:, :, 0, 0], x)
        if module.qkv.bias is not None:
            qkv = qkv + module.qkv.bias[:, None, None]
        heads = []
        for head in qkv.flatten(2).chunk(module.num_heads, 1):
            q, k, v = head.chunk(3, 1)  # (B, d, positions)
            logits = q.transpose(1, 2) @ k / math.sqrt(q.shape[1])
            heads.append(v @ logits.softmax(-1).transpose(1, 2))
        mixed = torch.cat(heads, 1).reshape(x.shape)
        out: Tensor = torch.einsum("oc,bchw->bohw", module.proj.weight[:, :, 0, 0], mixed)
        return out if module.proj.bias is None else out + module.proj.bias[:, None, None]
