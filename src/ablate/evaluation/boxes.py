"""Areas and overlaps of boxes: corners x1, y1, x2, y2 along the last axis, in whatever unit."""

from __future__ import annotations

import numpy as np


def areas(boxes: np.ndarray) -> np.ndarray:
    """Areas of boxes of shape (..., 4), shape (...)."""
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4) with others, whose leading axes are broadcast; 0 of two without area.

    Of (n, 4) with (n, 4) it is pair by pair, (n,); of boxes[:, None] with others[None] each with each, (n, t).
    """
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    union = areas(boxes) + areas(others) - common
    return np.asarray(common / np.where(union > 0, union, 1.0))
