"""The story of one sweep: what is asked for, what is there, what runs, what it says.

Everything is decided before anything is done: all trials are composed, checked and reconciled with the records on disk;
then the missing ones run; then the sweep is told as a table. A plan is the same story without its second half.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate import __version__
from ablate.launching.local import Outcome, run_jobs
from ablate.sweeping.latency import measure_sweep
from ablate.sweeping.live import Live
from ablate.sweeping.preflight import preflight
from ablate.tracking.records import (
    DamagedRecordError,
    Sweep,
    atomic_write_json,
    atomic_write_text,
    load_object,
    load_record,
    load_sweep,
)
from ablate.tracking.store import Store, Tracker
from ablate.trial import Trial, record_failure


@dataclass(frozen=True)
class Observer:
    """What a launcher tells while it runs jobs, by the job's index."""

    start: Callable[[int], None]
    poll: Callable[[int], None]
    end: Callable[[int, Outcome], None]


Launch = Callable[[Sequence[Trial], Observer], None]


@dataclass
class Reconciled:
    """The trials of a command, each once, by what is on disk of them."""

    trials: list[Trial]
    done: list[Trial] = field(default_factory=list)
    missing: list[Trial] = field(default_factory=list)


def reconcile(trials: Sequence[Trial]) -> Reconciled:
    """Leave out what is asked for twice, and tell what has a finished record from what must run."""
    unique = {trial.identity.signature: trial for trial in trials}
    found = Reconciled(list(unique.values()))
    for trial in found.trials:
        (found.done if trial.finished_record() else found.missing).append(trial)
    return found


def run_sweep(trials: Sequence[Trial], launch: Launch, command: Sequence[str]) -> int:
    """Run what is missing of a sweep, then compare.

    Returns:
        The exit code: 0 all trials are done, 1 some failed.

    Raises:
        ConfigError: A network cannot be built; nothing was started.
        KeyboardInterrupt: Ctrl-C; what is finished stays, and the same command goes on from there.
    """
    console = Console(stderr=False)
    found = reconcile(trials)
    settings = found.trials[0].config
    if found.missing:
        preflight(found.missing)
    directory = open_sweep(found.trials, command)
    _say(
        console,
        f"sweep {directory.name}: {len(found.trials)} trials, {len(found.done)} done, {len(found.missing)} to run",
    )
    for warning in dict.fromkeys(w for trial in found.trials for w in trial.data.warnings):
        _say(console, f"data: {warning}")

    signatures = {trial.identity.signature for trial in found.trials}
    tracker = Tracker(lambda: open_store(settings))
    try:
        parent = _open_parent(tracker, directory, command)
        if found.missing:
            _run_missing(found.missing, launch, tracker, parent, console)
        if settings["latency"]["enabled"]:
            measure_sweep(directory, settings, console)
        root = Path(settings["root"]).absolute()
        tracker.ask(lambda store: store.publish_missing(root / "trials", parent, signatures))
        sweep = load_sweep(directory)
        note = _report(sweep, settings, console)
        failures = [r for r in sweep.records if r.get("status") != "finished" and r["signature"] in signatures]
        if parent:
            tracker.submit(lambda store: store.close_sweep(parent, load_sweep(directory), note, bool(failures)))
    finally:
        problem = tracker.close()
    _closing_words(console, sweep, settings, failures, problem)
    return 1 if failures else 0


def launch_local(trials: Sequence[Trial], observer: Observer) -> None:
    """Run trials one after the other on this machine."""
    run_jobs(
        "ablate.trial:run_trial",
        [trial.config for trial in trials],
        on_start=observer.start,
        on_poll=observer.poll,
        on_end=observer.end,
    )


def sweep_name(trials: Sequence[Trial]) -> str:
    """Return a sweep's folder name: what varies, and a hash of all it holds; the same command finds it again."""
    levels: dict[str, list[str]] = {}
    for trial in trials:
        for factor, level in trial.identity.factors.items():
            if level not in levels.setdefault(factor, []):
                levels[factor].append(level)
    modules = [level for level in levels["module"] if level != "none"] or ["baseline"]
    readable = "_".join(["+".join(modules)[:48], "+".join(levels["data"])[:24], "+".join(levels["model"])[:24]])
    return f"{readable}_{_digest(trial.identity.signature for trial in trials)[:6]}"


def open_sweep(trials: Sequence[Trial], command: Sequence[str]) -> Path:
    """Write down what a sweep consists of; return its folder."""
    settings = trials[0].config
    name = settings["sweep"] or sweep_name(trials)
    directory = Path(settings["root"]).absolute() / "sweeps" / name
    known = load_object(directory / "sweep.json")
    before = known.get("signatures", []) if settings["sweep"] else []  # a named sweep grows with each command
    signatures = list(dict.fromkeys([*before, *(trial.identity.signature for trial in trials)]))
    content = {
        "name": name,
        "command": f"python -m ablate {shlex.join(command)}",
        "signatures": signatures,
        "names": {**known.get("names", {}), **{t.identity.signature: t.identity.name for t in trials}},
        "created": known.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
        "tracking": settings["tracking"],
        "latency": settings["latency"],
        "mlflow_run_id": known.get("mlflow_run_id"),
    }
    atomic_write_json(directory / "sweep.json", content)
    return directory


def open_store(settings: Mapping[str, Any]) -> Store:
    """Open the MLflow store that a configuration names."""
    tracking = settings["tracking"]
    return Store(Path(settings["root"]), tracking["uri"], tracking["experiment"], tracking["artifacts"])


def _open_parent(tracker: Tracker, directory: Path, command: Sequence[str]) -> str | None:
    content = load_object(directory / "sweep.json")
    run_id = tracker.ask(lambda store: store.open_sweep(directory.name, content["command"], content["mlflow_run_id"]))
    if run_id is not None:
        atomic_write_json(directory / "sweep.json", {**content, "mlflow_run_id": run_id})
    return str(run_id) if run_id is not None else None


def _run_missing(
    trials: Sequence[Trial], launch: Launch, tracker: Tracker, parent: str | None, console: Console
) -> None:
    """Launch trials; show and track each epoch as it appears on disk; leave no trial without a record."""
    with Live(console, len(trials)) as live:
        seen = [0] * len(trials)

        def start(index: int) -> None:
            trial = trials[index]
            live.start(trial.identity.name, trial.config["train"]["epochs"])

        def poll(index: int) -> None:
            trial = trials[index]
            rows = _epochs_after(trial.folder, seen[index])
            if not rows:
                return
            first = seen[index] == 0
            seen[index] += len(rows)
            live.epoch(rows[-1])
            tracker.submit(lambda store: _send_epochs(store, trial, parent, rows, first))

        def end(index: int, outcome: Outcome) -> None:
            trial = trials[index]
            poll(index)
            if outcome.failure:
                trial.folder.mkdir(parents=True, exist_ok=True)
                record_failure(trial, outcome.failure, outcome.message)
            failure = _recorded(trial).get("failure")
            live.end(trial.identity.name, failure and f"{failure['type']}: {failure['message']}")
            tracker.submit(lambda store: store.publish(trial.folder, parent))

        launch(trials, Observer(start, poll, end))


def _recorded(trial: Trial) -> dict[str, Any]:
    """Return the record that a trial's job left; write one if it left none."""
    try:
        return load_record(trial.folder)
    except (FileNotFoundError, DamagedRecordError):
        trial.folder.mkdir(parents=True, exist_ok=True)
        record_failure(trial, "code", "its module, data or weights changed while the sweep ran; repeat the command")
        return load_record(trial.folder)


def _send_epochs(store: Store, trial: Trial, parent: str | None, rows: list[dict[str, Any]], first: bool) -> None:
    run_id = (
        store.begin(trial.folder, trial.header(), parent)
        if first
        else load_object(trial.folder / "mlflow.json")["run_id"]
    )
    store.epochs(run_id, rows)


def _epochs_after(folder: Path, count: int) -> list[dict[str, Any]]:
    """Return the epochs that a running trial has logged beyond the first `count`."""
    try:
        lines = (folder / "train" / "history.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return []
    return [json.loads(line) for line in lines[count:] if line.endswith("\n")]


def _report(sweep: Sweep, settings: Mapping[str, Any], console: Console) -> str:
    """Write what is not up to date, print the table; return the description for MLflow."""
    from ablate.comparing.report import description, write_report
    from ablate.comparing.table import comparison_table
    from ablate.comparing.terminal import print_table

    state = _digest([__version__, json.dumps([sweep.records, sweep.latency, sweep.run_ids], sort_keys=True)])
    stamp = sweep.directory / ".reported"  # what the files beside it were made from
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != state:
        with console.status("report") if console.is_terminal else nullcontext():
            written = write_report(sweep, notebook=settings["notebook"])
        for problem in written.problems:
            _say(console, f"report: {problem}", "yellow")
        atomic_write_text(stamp, state)
    table = comparison_table(sweep)
    print_table(sweep, table, console=console)
    return description(sweep, table)


def _closing_words(
    console: Console,
    sweep: Sweep,
    settings: Mapping[str, Any],
    failures: Sequence[Mapping[str, Any]],
    problem: str | None,
) -> None:
    for record in failures:
        failure = record.get("failure") or {}
        log = sweep.trial_dir(record["signature"]) / str(failure.get("log", "train.log"))
        _say(
            console,
            f"failed: {record.get('name', record['signature'][:12])}: {failure.get('type')}: {failure.get('message')}",
            "red",
        )
        _say(console, f"        log: {_shown(log)}")
    if failures:
        _say(console, f"to try the failed trials again: {sweep.command}")
    for line in sweep.ignored:
        _say(console, f"ignored: {line}", "yellow")
    if problem:
        _say(
            console,
            f"MLflow does not answer ({problem}); the results are on disk, and the next command sends them",
            "yellow",
        )
    place = _shown(sweep.directory)
    forms = [form for form in ("csv", "md", "tex", "ipynb") if (sweep.directory / f"comparison.{form}").is_file()]
    _say(console, f"report:   {place}/comparison.html (also .{' .'.join(forms)})")
    root = settings["root"]
    _say(console, "MLflow:   python -m ablate ui" + ("" if root == "multirun" else f" root={root}"))


def _say(console: Console, line: str, style: str | None = None) -> None:
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _shown(path: Path) -> Path:
    """Return a path as it is shortest for somebody who stands in the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()
