"""Names of stock networks with another width: `yolo26n-width0.3125.yaml` is `yolo26n.yaml` with that width multiple.

Depth and the largest number of channels stay those of the network's scale.
"""

from __future__ import annotations

import re
from pathlib import Path

WIDTH = "-width"  # the width multiple follows
WIDEST = 4.0  # of a width multiple; the largest scales have 1.5
_NAME = re.compile(rf"(?P<stock>[^/]+){WIDTH}(?P<width>\d+(?:\.\d+)?)\.yaml")


def with_width(architecture: str, width: float) -> str:
    """Return the name of a stock network with a width multiple."""
    return f"{Path(architecture).stem}{WIDTH}{width:.9g}.yaml"


def width_in(architecture: str) -> float | None:
    """Return the width multiple that a network's name ends with; None where it does not."""
    match = _NAME.fullmatch(architecture)
    return None if match is None else float(match["width"])


def without_width(architecture: str) -> str:
    """Return a network's name without a width multiple."""
    match = _NAME.fullmatch(architecture)
    return architecture if match is None else f"{match['stock']}.yaml"
