"""Depthwise strips, and the check of sizes that must be odd."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def odd_sizes(what: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return sizes in pixels of which each has a middle; `what` leads the message, such as "MSCA: strips".

    Raises:
        ValueError: They are no list of odd numbers, or there is none.
    """
    listed = tuple(sizes) if isinstance(sizes, Sequence) and not isinstance(sizes, str) else ()
    if not listed or any(not isinstance(size, int) or size < 1 or not size % 2 for size in listed):
        raise ValueError(f"{what} must be a list of odd numbers; got {sizes}")
    return listed


def strip(channels: int, length: int) -> nn.Sequential:
    """Depthwise convolution by a row of `length` pixels, then by a column of as many."""
    row = nn.Conv2d(channels, channels, (1, length), padding=(0, length // 2), groups=channels)
    column = nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0), groups=channels)
    return nn.Sequential(row, column)
