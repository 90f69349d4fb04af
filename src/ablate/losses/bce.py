"""Binary cross-entropy, the stock loss of classes.

What differs: nothing from Ultralytics' own; as the control `identity` it gives the digits of the stock network.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class BCE(nn.Module):
    """- t log p - (1 - t) log(1 - p)."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of logits (B, N, classes) with targets of the same shape, from 0 to 1."""
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
