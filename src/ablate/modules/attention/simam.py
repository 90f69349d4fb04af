"""SimAM: weights of single positions by an energy function, without parameters.

Source: Yang et al., "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML 2021;
the authors' code is `networks/attentions/simam_module.py` of github.com/ZjjConan/SimAM, which has no licence file. This
is an independent implementation of equations 5 and 6.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values). A map of one pixel, for which
theirs gives NaN, has variance 0 here.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from ablate.modules.kernels.precision import no_autocast, widen


class SimAM(nn.Module):
    """Weigh positions by how far they are from their channel's mean, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C; takes no part.
        e_lambda: Regularisation, added to each channel's variance.

    Raises:
        ValueError: `e_lambda` is not above 0.
    """

    def __init__(self, channels: int, *, e_lambda: Annotated[float, "> 0"] = 1e-4) -> None:
        super().__init__()
        if not e_lambda > 0:
            raise ValueError(f"SimAM: e_lambda must be above 0; got {e_lambda}")
        self.channels = channels
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        pixels = x.shape[2] * x.shape[3]
        others = pixels - 1 + (pixels == 1)  # also where sizes are tensors, in a trace
        with no_autocast(x):  # squares of features overflow float16 from 256 on
            wide = widen(x)
            squares = (wide - wide.mean((2, 3), keepdim=True)).square()
            variance = squares.sum((2, 3), keepdim=True) / others
            inverse_energy = squares / (4 * (variance + self.e_lambda)) + 0.5
            weights = torch.sigmoid(inverse_energy).to(x.dtype)
        return x * weights

    def extra_repr(self) -> str:
        """Return the option, for `print`."""
        return f"e_lambda={self.e_lambda:g}"
