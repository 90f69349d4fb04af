"""MLCA: mixed local channel attention, ECA on the means of the map and on those of its parts.

Source: Wan et al., "Mixed local channel attention for object detection", Engineering Applications of Artificial
Intelligence 123, 2023, 106442; the authors' code is `MLCA.py` of github.com/wandahangFY/MLCA (GPL 3.0). This is an
independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from ablate.modules.attention.eca import adaptive_kernel
from ablate.modules.kernels.traced import places


class MLCA(nn.Module):
    """Weigh channels in each part of the map, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        local_size: Rows and columns of parts that the map is divided into.
        local_weight: Share of the local weights; the rest is that of the weights of the whole map.
        kernel_size: Of the two convolutions along the channels, odd; 0: by the number of channels, as in ECA.

    Raises:
        ValueError: `local_size` is below 1, `local_weight` not from 0 to 1, or `kernel_size` even or negative.
    """

    def __init__(
        self,
        channels: int,
        *,
        local_size: Annotated[int, ">= 1"] = 5,
        local_weight: Annotated[float, ">= 0 and <= 1"] = 0.5,
        kernel_size: Annotated[int, ">= 0"] = 0,
    ) -> None:
        super().__init__()
        if local_size < 1 or not 0 <= local_weight <= 1:
            raise ValueError(
                f"MLCA: local_size must be at least 1 and local_weight from 0 to 1; got {local_size} and {local_weight}"
            )
        if kernel_size < 0 or (kernel_size and not kernel_size % 2):
            raise ValueError(
                f"MLCA: kernel_size must be odd, or 0 for one by the number of channels; got {kernel_size}"
            )
        self.local_size = local_size
        self.local_weight = local_weight
        size = kernel_size or adaptive_kernel(channels)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        side, size = self.local_size, (x.shape[2], x.shape[3])
        parts = _pool(x, size, (side, side))  # (B, C, side, side)
        # One sequence for all parts, as in the authors' code: the convolution runs on from one part into the next.
        sequence = parts.flatten(2).transpose(1, 2).flatten(1)[:, None]  # (B, 1, side * side * C)
        local = self.conv_local(sequence).unflatten(2, (side * side, -1))[:, 0]  # (B, side * side, C)
        local = local.transpose(1, 2).unflatten(2, (side, side)).sigmoid()  # (B, C, side, side)
        whole = self.conv(parts.mean((2, 3))[:, None]).sigmoid().transpose(1, 2)[..., None]  # (B, C, 1, 1)

        weights = self.local_weight * local + (1 - self.local_weight) * whole
        return x * _pool(weights, (side, side), size)


def _pool(x: Tensor, size: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """Adaptive average pooling to any size, also a larger one, as two products: it exports for all sizes."""
    rows, columns = (_shares(old, new, x) for old, new in zip(size, to, strict=True))
    return rows @ x @ columns.transpose(0, 1)


def _shares(old: int, new: int, like: Tensor) -> Tensor:
    """Shares (new, old): entry i is the mean of the entries from floor(i old / new) to ceil((i + 1) old / new)."""
    row, column = places(new, like)[:, None], places(old, like)
    inside = (column >= row * old // new) & (column < ((row + 1) * old + new - 1) // new)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True).to(like.dtype)
