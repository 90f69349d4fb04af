"""How trials share the cores of a machine without a GPU: how many at a time, with how many threads each.

Everything here is arithmetic on measurements; `ablate.preflight.throughput` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAME = 0.05  # two layouts that differ by less are equally fast: a short measurement is no better than that
MARGIN = 1.25  # memory of a variant, in baselines; grafts need more than the network that is measured
UNMEASURED_GB = 2.0  # assumed memory of a trial that was not measured


@dataclass(frozen=True, order=True)
class Layout:
    """So many trials at a time, with so many threads each."""

    trials: int
    threads: int

    def __str__(self) -> str:
        at_a_time = f"{count(self.trials, 'trial')} at a time"
        return f"{at_a_time} with {count(self.threads, 'thread')}{' each' if self.trials > 1 else ''}"


@dataclass(frozen=True)
class Throughput:
    """What was measured of a layout, with all of its processes at work.

    Attributes:
        layout: The layout.
        images_per_second: Of all its processes together.
        step_seconds: Of one process, for a batch with its share of the optimizer.
        optimizer_share: The optimizer's part of that, from 0 to 1.
        setup_seconds: Of one process, from its start to its first batch, libraries already loaded.
        memory_gb: Peak of one process, or None where the system does not report it.
    """

    layout: Layout
    images_per_second: float
    step_seconds: float
    optimizer_share: float = 0.0
    setup_seconds: float = 0.0
    memory_gb: float | None = None


@dataclass(frozen=True)
class Sharing:
    """How the cores are shared, and why.

    Attributes:
        layout: The layout.
        reason: Why, in one line.
        chosen: What was measured of that layout; None where nothing was.
        measured: All that was measured.
        others: Cores that other processes took meanwhile.
    """

    layout: Layout
    reason: str
    chosen: Throughput | None = None
    measured: tuple[Throughput, ...] = ()
    others: float = 0.0

    def __str__(self) -> str:
        return f"{self.layout}: {self.reason}"


def candidates(cores: int, trials: int) -> list[Layout]:
    """Return the layouts worth a measurement, from the fewest trials at a time to the most.

    Args:
        cores: Cores to share.
        trials: Trials that are to run; more than these never run at a time. Where it is one, only threads differ.
    """
    most = max(min(cores, trials), 1)
    if most == 1:
        return [Layout(1, threads) for threads in _doubling(cores)]
    return [Layout(number, cores // number) for number in _doubling(most)]


def fitting(measured: Sequence[Throughput], memory_gb: float | None) -> int | None:
    """Return how many trials fit into the available memory; None where that is not known."""
    peaks = [layout.memory_gb for layout in measured if layout.memory_gb]
    return None if memory_gb is None or not peaks else max(int(memory_gb / (max(peaks) * MARGIN)), 1)


def choose(
    measured: Sequence[Throughput], trials: int, *, memory_gb: float | None = None, others: float = 0.0
) -> Sharing:
    """Return the layout with which all trials are done first.

    Of layouts that are equally fast, the one with the fewest processes, then with the fewest threads.

    Args:
        measured: At least one layout.
        trials: Trials that are to run, taken as equally long: three of them take two at a time two rounds.
        memory_gb: Memory that is available for all of them, or None.
        others: Cores that other processes took while it was measured.
    """
    most = min(fitting(measured, memory_gb) or trials, trials)
    possible = [each for each in measured if each.layout.trials <= max(most, 1)]
    if not possible:  # not even the smallest layout that was measured fits; one trial has to run somehow
        possible = [min(measured, key=lambda each: each.layout)]

    def seconds(each: Throughput) -> float:
        rounds = -(-trials // each.layout.trials)
        return rounds * each.layout.trials / each.images_per_second

    fastest = min(seconds(each) for each in possible)
    best = min((each for each in possible if seconds(each) <= fastest * (1 + SAME)), key=lambda each: each.layout)
    reason = _reason(best, possible, measured)
    too_many = [each for each in measured if each not in possible]
    if too_many or (most < trials and best.layout.trials == most):
        reason += f"; no more fit into {memory_gb:.1f} GB of free memory"
    if others >= 0.1:
        reason += f"; measured while other processes took {others:.1f} cores"
    return Sharing(best.layout, reason, best, tuple(measured), others)


def assumed(cores: int, trials: int, why: str, memory_gb: float | None = None) -> Sharing:
    """Return a layout where nothing is measured: a trial on each core, as far as there are trials and memory.

    At the sizes of short trainings a second thread gains next to nothing.
    """
    room = trials if memory_gb is None else max(int(memory_gb / UNMEASURED_GB), 1)
    number = max(min(cores, trials, room), 1)
    return Sharing(Layout(number, max(cores // number, 1) if trials > 1 else 1), f"not measured: {why}")


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _doubling(most: int) -> list[int]:
    """Return 1, 2, 4... up to `most`, and that."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _reason(best: Throughput, possible: Sequence[Throughput], measured: Sequence[Throughput]) -> str:
    """Compare with the layout of one trial and all threads, or else with the next best one."""
    rest = [each for each in possible if each is not best] or [each for each in measured if each is not best]
    if not rest:
        return f"{best.images_per_second:.1f} images/s (measured)"
    whole = max(rest, key=lambda each: (-each.layout.trials, each.layout.threads))
    other = whole if best.layout.trials > 1 else max(rest, key=lambda each: each.images_per_second)
    ratio = best.images_per_second / other.images_per_second
    return f"{ratio:.1f} times the images/s of {other.layout.trials} with {other.layout.threads} (measured)"
