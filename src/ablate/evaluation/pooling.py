"""The predictions of the folds of one seed as one evaluation, in which each image is once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ablate.records.predictions import Predictions


def pooled(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several evaluations of different images as those of one.

    Args:
        parts: Of I1, I2, ... images; judged at the same thresholds of IoU.

    Returns:
        Of I1 + I2 + ... images, part after part. Confidences of different networks stand in one ranking, as in the
        customary pooled accuracy of a cross-validation.
    """
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.names) for part in parts)])[:-1]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("names", "sizes", "cls", "conf", "box", "hit", "true_cls", "true_box")
    }
    index = {
        name: np.concatenate([getattr(part, name) + start for part, start in zip(parts, starts, strict=True)])
        for name in ("image", "true_image")
    }
    return Predictions(thresholds=parts[0].thresholds, **joined, **index)
