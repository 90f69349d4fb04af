"""Time left of a sweep, from the time of the epochs so far."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median

from ablate.monitor.trial_state import TrialState
from ablate.records.replicate import split_name

SOON, REFINED = 15.0, 60.0  # seconds after an estimate, a rough one and a measured one, before another is printed
CHANGED = 0.25  # part by which it must then differ
LONG = 3600.0  # seconds; an estimate above that is explained


@dataclass
class Pace:
    """Seconds that an epoch takes, by variant; its memory grows with the variants, not with the trials.

    A variant without any epoch yet takes as long as the others, by the sizes of their networks.
    """

    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)  # seconds and epochs by variant
    _all: tuple[float, float] = (0.0, 0.0)  # seconds, and epochs times sizes

    def add(self, name: str, seconds: float, epochs: float, size: float = 1.0) -> None:
        """Count epochs of the trial of this name; seconds with no epochs are what a trial needs besides."""
        variant = variant_of(name)
        before = self._seen.get(variant, (0.0, 0.0))
        self._seen[variant] = (before[0] + seconds, before[1] + epochs)
        self._all = (self._all[0] + seconds, self._all[1] + epochs * size)

    def expect(self, name: str, epochs: float, size: float = 1.0) -> float | None:
        """Return the seconds that a trial will take for so many epochs; None before anything was seen."""
        seconds, seen = self._seen.get(variant_of(name), (0.0, 0.0))
        if not seen:
            seconds, seen = self._all
            epochs *= size
        return epochs * seconds / seen if seen else None


class Announcer:
    """Decides when an estimate of a sweep's time is worth a line: at first, and when it has become another one.

    Args:
        total: Seconds from start to end, as printed before the start.
        rough: Nothing was measured before; the first estimates get better soon.
    """

    def __init__(self, total: float | None = None, *, rough: bool = False) -> None:
        self._rough = rough
        self._total = total
        self._later = SOON if rough else REFINED  # seconds from the start before which nothing else is printed

    def due(self, passed: float, left: float | None) -> str:
        """Return ``first``, ``changed`` or nothing, given the seconds since the start and those that are left."""
        if left is None:
            return ""
        if self._total is None:
            self._total, self._later = passed + left, passed + (SOON if self._rough else REFINED)
            return "first"
        if passed < self._later or abs(passed + left - self._total) < CHANGED * self._total:
            return ""
        self._total, self._later = passed + left, passed + REFINED
        return "changed"


@lru_cache(maxsize=4096)
def variant_of(name: str) -> str:
    """Return the variant's name from that of a trial: without seed and fold."""
    return split_name(name)[0]


def time_left(running: Sequence[float | None], waiting: Sequence[float | None], slots: int = 0) -> float | None:
    """Return the seconds until the last trial ends, where each goes to the slot that is free first.

    Args:
        running: Seconds that each running trial still needs.
        waiting: Seconds that each waiting trial will take, in order.
        slots: How many can run at a time, if that is more than run now.

    Returns:
        None where one of them is not known, or where there is no slot.
    """
    busy = [seconds for seconds in running if seconds is not None]
    queue = [seconds for seconds in waiting if seconds is not None]
    if len(busy) < len(running) or len(queue) < len(waiting) or not (busy or slots):
        return None
    free = [0.0] * max(slots - len(busy), 0) + busy
    heapq.heapify(free)
    for seconds in queue:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def estimate(trials: Sequence[TrialState]) -> float | None:
    """Return the seconds until all trials of a sweep are done, with as many at a time as run now.

    None where nothing runs, or where nothing is known yet of how long an epoch takes.
    """
    pace = Pace()
    for trial in trials:
        if trial.epoch and trial.seconds:
            pace.add(trial.name, trial.seconds, trial.epoch)
    lengths = [trial.epochs for trial in trials if trial.epochs]
    usual = median(lengths) if lengths else 0

    def still(trial: TrialState) -> float | None:
        if trial.seconds_left is not None:
            return trial.seconds_left
        return pace.expect(trial.name, max((trial.epochs or usual) - trial.epoch, 0))

    running = [still(trial) for trial in trials if trial.state == "running"]
    waiting = [still(trial) for trial in trials if trial.state in ("waiting", "interrupted")]
    return time_left(running, waiting) if running else None
