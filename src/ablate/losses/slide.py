"""Slide loss.

Paper: Yu et al., "YOLO-FaceV2: A Scale and Occlusion Aware Face Detector", Pattern Recognition 2024, arXiv:2208.02019,
equation 5. Authors' code: https://github.com/Krasjet-Yu/YOLO-FaceV2 (GPL-3.0).
What differs: the paper weighs by the IoU of a prediction, and takes its mean over the objects' predictions. The target
of Ultralytics' assigner, which grows to the best IoU of an object, stands here for the IoU, as in the authors' code
(there the target is the IoU). The mean is at least 0.2, as in the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.losses.boxes import precise

LEAST = 0.2
MARGIN = 0.1


class Slide(nn.Module):
    """Cross-entropy with weight 1 up to 0.1 below the mean target m, e^(1-m) up to the mean, e^(1-t) above it."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of logits (B, N, classes) with targets of the same shape, from 0 to 1."""
        logits, targets = precise(logits), precise(targets)
        mean = (targets.sum() / (targets > 0).sum().clamp(1)).clamp(LEAST)
        weights = torch.where(targets < mean, (1 - mean).exp(), (1 - targets).exp())
        weights = torch.where(targets <= mean - MARGIN, torch.ones_like(targets), weights)
        return weights * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
