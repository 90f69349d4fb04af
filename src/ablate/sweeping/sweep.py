"""The story of one sweep: what is asked for, what is there, what runs, what it says.

Everything is decided before anything is done: all trials are composed, checked and reconciled with the records on disk;
then the missing ones run; then the sweep is told as a table. A plan is the same story without its second half.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate import __version__
from ablate.config import ConfigError
from ablate.failures import retry_word
from ablate.sweeping.folder import digest, open_sweep
from ablate.sweeping.latency import measure_sweep
from ablate.sweeping.preflight import preflight
from ablate.sweeping.reconcile import Reconciled, reconcile
from ablate.sweeping.running import Launch, run_jobs
from ablate.tracking.records import Sweep, atomic_write_json, atomic_write_text, load_object, load_sweep, mapping
from ablate.tracking.store import Store, Tracker
from ablate.trial import Trial


def run_sweep(
    trials: Sequence[Trial], launch: Launch, command: Sequence[str], design: Mapping[str, Any] | None = None
) -> int:
    """Run what is missing of a sweep, then compare.

    Args:
        trials: All that is asked for, in the order in which they are to run.
        launch: Where they run.
        command: The command line's words.
        design: What the report needs to know of a design of components.

    Returns:
        The exit code: 0 all trials are done, 1 some failed.

    Raises:
        ConfigError: A network cannot be built, or nothing can be written; nothing was started.
        KeyboardInterrupt: Ctrl-C; what is finished stays, and the same command goes on from there.
    """
    console = Console(stderr=False)
    settings = trials[0].config
    root = Path(settings["root"]).absolute()
    _check_writable(root)
    found = reconcile(trials, mend=True)
    if found.jobs:
        preflight([job.trial for job in found.jobs])
    directory = open_sweep(found.trials, command, design)
    _say(console, f"sweep {directory.name}: {_counts(found)}")
    for warning in dict.fromkeys(w for trial in found.trials for w in trial.data.warnings):
        _say(console, f"data: {warning}")

    signatures = {trial.identity.signature for trial in found.trials}
    tracker = Tracker(lambda: open_store(settings))
    try:
        parent = _open_parent(tracker, directory)
        if found.jobs:
            run_jobs(found.jobs, launch, tracker, parent, console, done=len(found.done))
        if settings["latency"]["enabled"]:
            measure_sweep(directory, settings, console)
        tracker.ask(lambda store: store.publish_missing(root / "trials", parent, signatures))
        sweep = load_sweep(directory)
        note = _report(sweep, settings, console)
        failures = [r for r in sweep.records if r.get("status") != "finished" and r["signature"] in signatures]
        if parent:
            tracker.submit(lambda store: store.close_sweep(parent, load_sweep(directory), note, bool(failures)))
    finally:
        problem = tracker.close()
    _closing_words(console, sweep, settings, failures, problem)
    missing = [signature for signature in sweep.missing if signature in signatures]
    return 1 if failures or missing else 0


def open_store(settings: Mapping[str, Any]) -> Store:
    """Open the MLflow store that a configuration names."""
    tracking = settings["tracking"]
    return Store(Path(settings["root"]), tracking["uri"], tracking["experiment"], tracking["artifacts"])


def _check_writable(root: Path) -> None:
    """Raise ConfigError, before anything starts, where nothing could be kept."""
    probe = root / f".writable-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"root={root}: results cannot be written there: {error.strerror}") from error


def _counts(found: Reconciled) -> str:
    words = [f"{len(found.trials)} trials", f"{len(found.done)} done"]
    if found.failed:
        words.append(f"{len(found.failed)} failed before (retry=failed tries again)")
    words.append(f"{len(found.jobs)} to run")
    if found.resumed:
        words[-1] += f" ({len(found.resumed)} of them from a checkpoint)"
    return ", ".join(words)


def _open_parent(tracker: Tracker, directory: Path) -> str | None:
    content = load_object(directory / "sweep.json")
    run_id = tracker.ask(lambda store: store.open_sweep(directory.name, content["command"], content["mlflow_run_id"]))
    if run_id is not None:
        atomic_write_json(directory / "sweep.json", {**content, "mlflow_run_id": run_id})
    return str(run_id) if run_id is not None else None


def _report(sweep: Sweep, settings: Mapping[str, Any], console: Console) -> str:
    """Write what is not up to date, print the table; return the description for MLflow."""
    from ablate.comparing.report import description, write_report
    from ablate.comparing.table import comparison_table
    from ablate.comparing.terminal import print_table

    state = digest([__version__, json.dumps([sweep.records, sweep.latency, sweep.run_ids], sort_keys=True)])
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
        failure = mapping(record, "failure")
        log = sweep.trial_dir(record["signature"]) / str(failure.get("log", "train.log"))
        _say(
            console,
            f"failed: {record.get('name', record['signature'][:12])}: {failure.get('type')}: {failure.get('message')}",
            "red",
        )
        _say(console, f"        log: {_shown(log)}")
    if failures:
        _say(console, f"to try the failed trials again: {sweep.command} retry={retry_word(failures)}")
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
