"""CPU load of other processes: the processor time of all, less that of a process and its descendants."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST = 0.2  # seconds; the system counts in hundredths, so a shorter time measures nothing


@dataclass(frozen=True)
class Times:
    """Seconds so far.

    Attributes:
        busy: Work of the cores that this process may use, by all processes.
        ours: Work of the process and its descendants, those that have ended included.
        clock: Of a clock that never goes back.
    """

    busy: float
    ours: float
    clock: float


class Neighbours:
    """Measures the processor time of others, from its construction on.

    Args:
        leader: The process that counts as ours, with its descendants; None: this one.
        read: Returns the times now, given the leader.
    """

    def __init__(self, leader: int | None = None, read: Callable[[int], Times] | None = None) -> None:
        self._leader = os.getpid() if leader is None else leader
        self._read = read or read_times
        self._before = self._read(self._leader)
        self._latest = 0.0

    def cores(self) -> float:
        """Return how many cores others took on average since the last call; as then, where that was just now."""
        now, before = self._read(self._leader), self._before
        elapsed = now.clock - before.clock
        if elapsed < SHORTEST:
            return self._latest
        self._before = now
        self._latest = max((now.busy - before.busy) - max(now.ours - before.ours, 0.0), 0.0) / elapsed
        return self._latest


def read_times(leader: int) -> Times:
    """Return the times now; the leader's are 0 where it is gone."""
    import psutil

    every = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(every))
    cores = [every[number] for number in allowed if number < len(every)]
    # Waiting for a disk is no work; the time of guests is part of "user" already.
    fields = ("user", "nice", "system", "irq", "softirq", "steal")
    busy = sum(getattr(core, name, 0.0) for core in cores for name in fields)
    clock = time.monotonic()
    ours = 0.0
    try:
        process = psutil.Process(leader)
        members = [process, *process.children(recursive=True)]
    except psutil.Error:
        members = []
    for member in members:
        try:
            times = member.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        # A process that has ended is counted by the one that has waited for it.
        ours += sum(getattr(times, name, 0.0) for name in ("user", "system", "children_user", "children_system"))
    return Times(busy, ours, clock)


def threads_beside(threads: int, trials: int, cores: int, others: float) -> int:
    """Return how many threads each trial should have while other processes take some of the cores.

    Args:
        threads: Threads of each trial on a quiet machine.
        trials: Trials at a time.
        cores: Cores of the machine.
        others: Cores that other processes take, on average.
    """
    if others < 0.5:  # the odd daemon
        return threads
    missing = max(round(others + trials * threads - cores), 0)
    return max(threads - -(-missing // trials), 1)
