"""Interleaved timing: every network runs once a round, so that whatever slows the machine affects all alike."""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

WINDOW = 5  # rounds whose median is compared with that of the five before
STEADY = 0.05  # as a share: medians of two windows that differ by less count as the same

Runner = Callable[[int], Sequence[float]]
"""Runs a network for the round of this number; returns the milliseconds of each of its parts."""


@dataclass
class Rounds:
    """Times of all networks.

    Attributes:
        parts: By key, for each round the milliseconds of each part; empty for what failed.
        warmup: Rounds before the first that counts.
        unsteady: Keys whose latency still changed when warm-up ended.
        failures: By key, why it gave no number.
    """

    parts: dict[str, list[Sequence[float]]]
    warmup: int = 0
    unsteady: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def totals(self, key: str) -> list[float]:
        """Return the milliseconds of each round."""
        return [sum(parts) for parts in self.parts[key]]


def run_rounds(
    runners: Mapping[str, Runner],
    *,
    rounds: int,
    warmup: int = 0,
    warmup_max: int = 0,
    seed: int = 0,
    on_round: Callable[[int, int], None] | None = None,
    on_start: Callable[[], None] | None = None,
) -> Rounds:
    """Warm up until stable, then time every runner once a round.

    The order is shuffled for each pair of rounds, and the second of the pair goes through it backwards: a drift within
    the pair then adds as much to one network as to another, and who runs after whom changes all the time.

    Args:
        runners: What is timed, by key. One that raises is left out from there on; the others are timed further.
        rounds: Rounds that count.
        warmup: Rounds before them, at least.
        warmup_max: Rounds before them, at most; in between, they end once two windows of each network agree.
        seed: Of the order.
        on_round: Called with (rounds done, rounds in all as far as is known) after each.
        on_start: Called once, before the first round that counts.
    """
    order = _orders(list(runners), random.Random(seed))
    measured = Rounds({key: [] for key in runners})
    report = on_round or (lambda done, total: None)
    with _without_garbage_collection():
        while measured.warmup < max(warmup, warmup_max):
            _round(runners, next(order), measured, measured.warmup)
            measured.warmup += 1
            measured.unsteady = [
                key for key in runners if key not in measured.failures and not _steady(measured.totals(key))
            ]
            report(measured.warmup, max(warmup, measured.warmup) + rounds)
            if measured.warmup >= warmup and not measured.unsteady:
                break
        first = measured.warmup
        measured.parts = {key: [] for key in runners}
        if on_start is not None:
            on_start()
        for turn in range(rounds):
            _round(runners, next(order), measured, first + turn)
            report(first + turn + 1, first + rounds)
    for key in measured.failures:
        measured.parts[key] = []
    return measured


def _round(runners: Mapping[str, Runner], keys: Sequence[str], measured: Rounds, turn: int) -> None:
    for key in keys:
        if key in measured.failures:
            continue
        try:
            measured.parts[key].append(runners[key](turn))
        except Exception as error:
            measured.failures[key] = f"failed while it was timed: {one_line(error)}"


def _orders(keys: list[str], generator: random.Random) -> Iterator[list[str]]:
    while True:
        generator.shuffle(keys)
        yield list(keys)
        yield keys[::-1]


def _steady(totals: Sequence[float]) -> bool:
    """Tell whether the last two windows have the same median."""
    if len(totals) < 2 * WINDOW:
        return False
    before, now = median(totals[-2 * WINDOW : -WINDOW]), median(totals[-WINDOW:])
    return abs(now / before - 1) <= STEADY if before > 0 else True


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection, so that it does not run within a forward pass."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def one_line(error: BaseException) -> str:
    """Return the first line of an exception's message, at most 200 characters."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # exporters colour their messages
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


class Stopwatch:
    """Times work on a device: CUDA events where the work is on PyTorch's stream, else a clock with synchronisation.

    Args:
        device: Such as "cpu" or "cuda:0".
        events: Use CUDA events on a GPU; not for another library's stream, and not for work of the processor.
    """

    def __init__(self, device: str, *, events: bool = True) -> None:
        import torch

        self._cuda = torch.cuda if device.startswith("cuda") else None
        self._device = torch.device(device)
        self._events = events and self._cuda is not None
        if self._cuda is not None:
            self._cuda.set_device(self._device)  # events belong to the current device

    @property
    def clock(self) -> str:
        """Name of the clock, for the protocol."""
        if self._events:
            return "CUDA events"
        return "perf_counter" if self._cuda is None else "perf_counter, device synchronised before and after"

    def time(self, work: Callable[[], object]) -> float:
        """Return the milliseconds of some work."""
        if self._cuda is None:
            start = time.perf_counter()
            work()
            return (time.perf_counter() - start) * 1e3
        self._cuda.synchronize(self._device)
        if not self._events:
            start = time.perf_counter()
            work()
            self._cuda.synchronize(self._device)
            return (time.perf_counter() - start) * 1e3
        begin, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        self._cuda.synchronize(self._device)
        return float(begin.elapsed_time(end))
