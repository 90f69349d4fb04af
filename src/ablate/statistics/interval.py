"""An estimate with its interval: the one type that all estimators return."""

from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval, in the unit of what was estimated."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval."""
        return not self.low <= 0 <= self.high
