"""`python -m ablate status`: the trials of a sweep and their states, read from disk alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live as Screen
from rich.text import Text

from ablate.console import is_animated, print_line, short_path
from ablate.monitor.render import (
    RECENT,
    STYLES,
    Row,
    View,
    accuracy,
    epochs,
    finish_words,
    frame,
    left_words,
    table,
    tally,
)
from ablate.monitor.time_left import estimate, variant_of
from ablate.monitor.trial_state import ENDED, SweepStates, TrialState
from ablate.records.failures import retry_option
from ablate.records.trial_record import short
from ablate.safe_text import one_line
from ablate.settings.metric import MAP50_95

STATES = ("done", "failed", "damaged", "running", "interrupted", "waiting")
EVERY = 2.0  # seconds between two reads
MANY = 40  # trials on a terminal from which on variants are shown
FAILURES = 5  # of one type that are shown


def show_status(
    directory: Path, console: Console, *, as_json: bool = False, watch: bool = False, every: bool = False
) -> int:
    """Show a sweep's trials and their states.

    Args:
        directory: The sweep's folder.
        console: Where to show it.
        as_json: Print JSON to stdout instead.
        watch: Look again and again until all trials have ended, or until Ctrl-C.
        every: Show each trial and each failure, however many there are.

    Returns:
        1 where trials failed, else 0; 0 after Ctrl-C.
    """
    states = SweepStates(directory)
    if watch:
        try:
            _watch(states, console)
        except KeyboardInterrupt:
            return 0
    trials = states.read()
    if as_json:
        print(json.dumps(document(states.name, trials, states.controls), allow_nan=False))  # noqa: T201
    else:
        _print(states, trials, console, every)
        if states.is_sequential:
            for line in _verdicts(directory):
                print_line(console, line)
    return 1 if any(trial.state == "failed" for trial in trials) else 0


def _verdicts(directory: Path) -> list[str]:
    """What is known so far of a sweep whose seeds are added until every variant is decided."""
    from ablate.analysis.comparison import compare  # of no other sweep: a status needs no numpy
    from ablate.findings.looks_findings import verdicts_so_far
    from ablate.records.loading import load_sweep

    return verdicts_so_far(compare(load_sweep(directory)))


def document(name: str, trials: Sequence[TrialState], controls: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a sweep's status as plain values."""
    left = estimate(trials)
    finish = None if left is None else datetime.now().astimezone() + timedelta(seconds=left)
    return {
        "sweep": name,
        "trials": [_row(trial) | {"control": (controls or {}).get(trial.signature)} for trial in trials],
        "counts": _counts(trials),
        "seconds_left": left,
        "finish": None if finish is None else finish.isoformat(timespec="seconds"),
    }


def _row(trial: TrialState) -> dict[str, Any]:
    return {
        "trial": trial.name,
        "signature": trial.signature,
        "state": trial.state,
        "epoch": trial.epoch,
        "epochs": trial.epochs,
        trial.metric.name: trial.accuracy,
        "seconds_left": trial.seconds_left,
        "device": trial.device,
        "host": trial.host,
        "pid": trial.pid,
        "minutes": trial.minutes,
        "failure": trial.failure
        and {
            "type": trial.failure.type,
            "message": trial.failure.message,
            "log": trial.failure.log,
        },
        "why": trial.why,
    }


def _counts(trials: Sequence[TrialState]) -> dict[str, int]:
    counts = Counter(trial.state for trial in trials)
    return {state: counts[state] for state in STATES}


def _print(states: SweepStates, trials: Sequence[TrialState], console: Console, every: bool) -> None:
    """Print the table, what it comes to, and what to do next."""
    width = console.width if console.is_terminal else None  # what goes into a file or a pipe is not cut
    grouped = console.is_terminal and not every and len(trials) > MANY
    running = [trial for trial in trials if trial.state == "running"]
    lines = [Text(one_line(f"sweep {states.name}"), "bold"), Text()]
    if grouped:
        lines += [*_variants(trials, width, states.controls), Text()]
        lines += [*_trials(running, width, states.controls), Text()] if running else []
        variants = len({variant_of(trial.name) for trial in trials})
        lines.append(Text(f"{len(trials)} trials of {variants} variants; --all shows each trial", "dim"))
    else:
        lines += [*_trials(trials, width, states.controls), Text()]
    lines.append(tally(_counts(trials)))
    if running:
        lines.append(Text(finish_words(estimate(trials))))
    for line in lines:
        print_line(console, line)
    for reason in states.ignored:
        print_line(console, f"ignored: {reason}", "yellow")
    _print_failures([trial for trial in trials if trial.failure], console, every)
    _print_advice(states, trials, console)


def _trials(trials: Sequence[TrialState], width: int | None, controls: Mapping[str, str]) -> list[Text]:
    """One line a trial; on a narrow terminal the signature goes, then why, then the device."""
    label = _label(trials)
    cells: dict[str, Row] = {
        "trial": [f"{trial.name}{_mark(trial, controls)}" for trial in trials],
        "signature": [short(trial.signature) for trial in trials],
        "state": [Text(trial.state, STYLES[trial.state]) for trial in trials],
        "epoch": [epochs(trial) for trial in trials],
        label: [accuracy(trial) for trial in trials],
        "left": [left_words(trial) for trial in trials],
        "device": [trial.device or "" for trial in trials],
        "why": [_why(trial, width is None) for trial in trials],
    }
    columns = {title: column for title, column in cells.items() if title in ("trial", "state") or any(column)}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    drop = ("signature", "why", "device")
    return table(list(columns), rows, width, right=("epoch", label, "left"), drop=drop, narrowest=28)


def _mark(trial: TrialState, controls: Mapping[str, str]) -> str:
    kind = controls.get(trial.signature)
    return f" (control: {kind})" if kind and not trial.name.startswith("control: ") else ""


def _why(trial: TrialState, whole: bool) -> str:
    """Return why; on a terminal only the type of a failure, because the failures are listed below."""
    if trial.state == "running" and trial.host is not None:
        return f"process {trial.pid} on {trial.host}" if whole else ""
    return trial.failure.type if trial.failure and not whole else trial.why


def _variants(trials: Sequence[TrialState], width: int | None, controls: Mapping[str, str]) -> list[Text]:
    """One line a variant: how many of its trials are in which state, and the mean accuracy of those that are done."""
    label = _label(trials)
    groups: dict[str, list[TrialState]] = {}
    for trial in trials:
        groups.setdefault(f"{variant_of(trial.name)}{_mark(trial, controls)}", []).append(trial)
    shown = [state for state, count in _counts(trials).items() if count]
    rows: list[Row] = []
    for variant, members in groups.items():
        counts = _counts(members)
        accuracies = [one.accuracy for one in members if one.state == "done" and one.accuracy is not None]
        numbers = [Text(str(counts[state] or ""), STYLES[state]) for state in shown]
        rows.append([variant, *numbers, f"{fmean(accuracies):.4f}" if accuracies else ""])
    return table(["variant", *shown, label], rows, width, right=(*shown, label))


def _label(trials: Sequence[TrialState]) -> str:
    return next((trial.metric for trial in trials), MAP50_95).label


def _print_failures(failed: Sequence[TrialState], console: Console, every: bool) -> None:
    """Print the failed trials by type, with their logs."""
    types: dict[str, list[TrialState]] = {}
    for trial in failed:
        types.setdefault(trial.failure.type if trial.failure else "", []).append(trial)
    for kind, members in types.items():
        print_line(console, "")
        print_line(console, f"{kind}: {len(members)} failed", "red")
        shown = members if every or not console.is_terminal else members[:FAILURES]
        for trial in shown:
            if trial.failure is not None:
                print_line(console, f"  {trial.name}: {trial.failure.message}")
                print_line(console, f"      log: {short_path(Path(trial.failure.log))}", "dim")
        if len(shown) < len(members):
            print_line(console, f"  and {len(members) - len(shown)} more; --all shows each", "dim")


def _print_advice(states: SweepStates, trials: Sequence[TrialState], console: Console) -> None:
    """Print the commands that do what is left to do."""
    counts = _counts(trials)
    advice = []
    if not counts["running"] and counts["interrupted"] + counts["waiting"] + counts["damaged"]:
        advice.append(f"nothing runs now; to go on: {states.command}")
    failed = [trial.failure for trial in trials if trial.failure]
    if failed:
        advice.append(f"to try what failed again: {states.command}{retry_option(failed)}")
    if advice and states.command:
        print_line(console, "")
        for line in advice:
            print_line(console, line)


def _watch(states: SweepStates, console: Console) -> None:
    """Show the progress of the trials until all have ended."""
    if is_animated(console):
        with Screen(Text(), console=console, auto_refresh=False, vertical_overflow="crop", transient=True) as screen:
            try:
                while _pending(trials := states.read()):
                    width, height = console.size
                    ascii_only = console.options.ascii_only
                    screen.update(frame(_view(trials), width, height, ascii_only=ascii_only), refresh=True)
                    time.sleep(EVERY)
            except KeyboardInterrupt:
                screen.transient = False  # what was seen last stays
                raise
        return
    printed = ""
    while _pending(trials := states.read()):
        line = tally(_counts(trials)).plain
        if line != printed:
            print_line(console, f"{line}; {finish_words(estimate(trials))}")
        printed = line
        time.sleep(EVERY)


def _pending(trials: Sequence[TrialState]) -> bool:
    return any(trial.state not in ENDED for trial in trials)


def _view(trials: Sequence[TrialState]) -> View:
    running = [trial for trial in trials if trial.state == "running"]
    words = finish_words(estimate(trials)) if running else "nothing runs now"
    ended = sorted((trial for trial in trials if trial.ended is not None), key=lambda trial: trial.ended or 0.0)
    widest = max(cell_len(trial.name) for trial in trials)
    return View(_counts(trials), words, running, ended[-RECENT:], widest)
