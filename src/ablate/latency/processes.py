"""Measuring in one new process after the other, with a bar that shows how far they are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ablate.latency.measurement_job import MeasurementJob, ProcessTimes, UntrainedJob
from ablate.launching.devices import Slot
from ablate.launching.jobs import Observer, run_jobs
from ablate.launching.local import ONCE, LocalBackend

LEAST = 10  # rounds that a process must measure to be worth its start

Job = TypeVar("Job", MeasurementJob, UntrainedJob)


def in_processes(
    function: str, job: Job, processes: int, console: Console, environment: Mapping[str, str] | None = None
) -> tuple[list[ProcessTimes], str]:
    """Measure in one new process after the other, each its share of the rounds.

    Where a process puts its weights and how its kernels are laid out in memory is random, and stays as long as the
    process: a second one draws again.

    Args:
        function: ``package.module:name`` of what measures a job.
        job: What is to be measured, and how many rounds in all.
        processes: How many, as long as each has enough rounds to be worth its start.
        console: Where progress is shown.
        environment: What a process finds in its environment besides this one's.

    Returns:
        What each measured, and the failure of the first that failed.
    """
    count = max(min(processes, job.options.rounds // LEAST), 1)
    rounds = -(-job.options.rounds // count)
    measured: list[ProcessTimes] = []
    with tempfile.TemporaryDirectory(prefix="ablate-latency-") as folder, _Bar(console, count) as bar:
        for number in range(count):
            path = Path(folder) / f"{number}.json"
            options = replace(job.options, rounds=rounds, seed=number)
            part = replace(job, options=options, progress=str(path))
            observer = Observer(poll=bar.shower(number, path))
            outcome = run_jobs(LocalBackend([Slot("worker", environment or {})]), function, [part], observer, ONCE)[0]
            if outcome.failure:
                return [], outcome.message.removeprefix("ConfigError: ")
            measured.append(outcome.result)
    return measured, ""


class _Bar:
    """Progress of worker processes, which write it to files; nothing where there is no terminal."""

    def __init__(self, console: Console, processes: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("latency: starting", total=processes)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def shower(self, number: int, path: Path) -> Callable[[int], None]:
        """Return what shows how far the process of this number is."""

        def show(_: int) -> None:
            with suppress(OSError, ValueError, TypeError, ZeroDivisionError):
                what, done, total = json.loads(path.read_text(encoding="utf-8"))
                self._progress.update(self._task, description=f"latency: {what}", completed=number + done / total)

        return show
