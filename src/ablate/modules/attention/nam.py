"""NAM: normalization-based attention, weights from a batch norm whose scales say how important a channel is.

Source: Liu et al., "NAM: Normalization-based Attention Module", NeurIPS workshop ImageNet PPF 2021, arXiv:2111.12419;
the authors' code is `MODELS/attention.py` of github.com/Christian-lyc/NAM, which has no licence file. This is an
independent implementation of equations 1 and 2, the channel attention; the authors' code has no spatial attention.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from torch import Tensor, nn


class NAM(nn.Module):
    """Weigh each value by its batch norm's output, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        scales = self.norm.weight.detach().abs()  # no gradient of the shares, as in the authors' code
        shares = scales / scales.sum()  # (C,)
        weights: Tensor = (self.norm(x) * shares[:, None, None]).sigmoid()
        return x * weights
