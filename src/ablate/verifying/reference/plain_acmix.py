"""ACmix as its paper writes it: unfold, multiply, softmax, sum; mix the heads into taps, shift the taps and add."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.modules.acmix import ACmix


class PlainACmix(ACmix):
    """The same parameters and options; (B, C, H, W) to (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Attention and convolution over the same projections, added with two learnt weights."""
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)
        return self.rate1 * self._attention(q, k, v) + self.rate2 * self._convolution(q, k, v)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, c, h, w = q.shape
        m, d = self.heads, c // self.heads
        codes = self.conv_p(grid(h, w).to(q))  # (1, d, H, W)
        q, k, v = (t.reshape(b * m, d, h, w) for t in (q, k, v))
        q, at_query = (t[:, :, :: self.stride, :: self.stride, None] for t in (q, codes))  # (B m, d, H', W', 1)
        size = q.shape[2:4]
        windows = (self._unfold(t) for t in (k, codes, v))
        keys, others, values = (torch.unflatten(t, 2, size) for t in windows)  # (..., d, H', W', k k)
        logits = (q * d**-0.5 * (keys + at_query - others)).sum(1, keepdim=True)  # (B m, 1, H', W', k k)
        attended: Tensor = (logits.softmax(-1) * values).sum(-1)
        return attended.reshape(b, c, *size)

    def _unfold(self, t: Tensor) -> Tensor:
        """(N, d, H, W) to (N, d, H' W', k k): the window of each position."""
        reach = self.dilation * (self.kernel_att - 1)
        rows, columns = (bounced(n, reach // 2, reach - reach // 2) for n in t.shape[2:])
        windows = F.unfold(t[:, :, rows][:, :, :, columns], self.kernel_att, dilation=self.dilation, stride=self.stride)
        return torch.unflatten(windows, 1, (t.shape[1], self.kernel_att**2)).transpose(2, 3)

    def _convolution(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, c, h, w = q.shape
        size = [-(-n // self.stride) for n in (h, w)]
        heads = torch.cat([t.reshape(b, self.heads, c // self.heads, h * w) for t in (q, k, v)], dim=1)
        taps = self.fc(heads)  # (B, taps, d, H W)
        mixed: Tensor = self.dep_conv(taps.transpose(1, 2).reshape(b, -1, h, w))
        return mixed[:, :, : size[0], : size[1]]


def grid(height: int, width: int) -> Tensor:
    """Column and row from -1 to 1 of each position, (1, 2, H, W), in float64."""
    columns, rows = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in (width, height))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]


def bounced(size: int, before: int, after: int) -> list[int]:
    """For each position of a padded axis the position inside that a ball bouncing between the ends is at."""
    path = [*range(size), *range(size - 2, 0, -1)]  # there and back
    return [path[i % len(path)] for i in range(-before, size + after)]
