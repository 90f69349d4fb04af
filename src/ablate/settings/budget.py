"""A span of wall-clock time as it is written in a command: 30m, 8h, 2d."""

from __future__ import annotations

import re

from ablate.errors import ConfigError

SECONDS = {"m": 60, "h": 3600, "d": 86400}


def seconds_of(budget: str) -> float:
    """Return the seconds of a budget such as ``8h``.

    Raises:
        ConfigError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", budget)
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if not 0 < seconds < 1e9:
        raise ConfigError(f"budget={budget}: a time is needed, in minutes, hours or days, such as 30m, 8h or 2d")
    return seconds
