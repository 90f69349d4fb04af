"""After the trials: latency, the report, the table on the terminal; in a process of its own, which may need memory."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ablate import __version__
from ablate.analysis.table_summary import TableSummary
from ablate.console import Terminal, print_line
from ablate.execution.manifest import digest
from ablate.latency.sweep_latency import measure_sweep
from ablate.launching.local import run_in_worker
from ablate.log import log_to
from ablate.records.json_struct import to_json
from ablate.records.loading import load_object, load_sweep
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import Failure, short
from ablate.settings.trial_settings import CommandSettings, TrialSettings
from ablate.storage.files import atomic_write_text
from ablate.storage.layout import REPORT_FORMS, SweepFolder

logger = logging.getLogger(__name__)


class FailedTrial(NamedTuple):
    """A trial that failed, or whose record is damaged."""

    signature: str
    name: str
    failure: Failure


@dataclass(frozen=True)
class ConcludeJob:
    """A sweep whose trials have ended, for the process that reports it.

    Attributes:
        directory: The sweep's folder.
        settings: Of one of its trials.
        signatures: Of the trials of this command.
        targets: Dotted paths of the modules that this command names.
    """

    directory: Path
    settings: TrialSettings
    signatures: frozenset[str]
    targets: frozenset[str]


@dataclass(frozen=True)
class Conclusion:
    """The end of a command.

    Attributes:
        note: The description for MLflow.
        table: The comparison.
        failures: The trials that failed.
        missing: How many trials have no record.
        ignored: Files that could not be read, in words.
        forms: Of the report, besides HTML.
        problem: Why there is no report; empty where there is one.
    """

    note: str = ""
    table: TableSummary = field(default_factory=TableSummary)
    failures: list[FailedTrial] = field(default_factory=list)
    missing: int = 0
    ignored: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all trials have finished and are reported."""
        return not (self.failures or self.missing or self.problem)


def conclude(
    directory: Path, settings: TrialSettings, signatures: Collection[str], targets: Collection[str]
) -> Conclusion:
    """Measure latency, write the report and print the table, in another process.

    Args:
        directory: The sweep's folder.
        settings: Of one of its trials.
        signatures: The trials of this command.
        targets: Dotted paths of the modules that this command names.
    """
    job = ConcludeJob(directory, settings, frozenset(signatures), frozenset(targets))
    outcome = run_in_worker("ablate.execution.conclude:conclude_here", [job])[0]
    return outcome.result if isinstance(outcome.result, Conclusion) else Conclusion(problem=outcome.message)


def conclude_here(job: ConcludeJob) -> Conclusion:
    """Do what `conclude` does, in this process."""
    directory, command, signatures = job.directory, job.settings.command, job.signatures
    console = Terminal()
    with log_to(SweepFolder(directory).driver_log):
        if command.latency.enabled:
            trust = command.trust_weights
            measure_sweep(directory, command.latency, console, trust=trust, named=job.targets)
        sweep = load_sweep(directory)
        note, table = _report(sweep, command, console)
    names = sweep.manifest.names  # a record has the name that its trial has anywhere, also where it is a control
    failures = [
        FailedTrial(trial.signature, names.get(trial.signature) or trial.name or short(trial.signature), trial.failure)
        for trial in sweep.trials
        if trial.failure is not None and trial.signature in signatures
    ]
    return Conclusion(
        note,
        table,
        failures,
        missing=sum(signature in signatures for signature in sweep.missing),
        ignored=sweep.ignored,
        forms=[form for form in REPORT_FORMS if sweep.folder.report(form).is_file()],
    )


def _report(sweep: Sweep, command: CommandSettings, console: Console) -> tuple[str, TableSummary]:
    """Write the report unless it is up to date, print the table; return the description for MLflow, and the table."""
    from ablate.analysis.table import table_summary
    from ablate.report.figures import KINDS
    from ablate.report.terminal_table import compare_with_progress, print_table
    from ablate.report.write import description, write_report

    strict = command.strict
    kinds = KINDS if command.figures else ()
    comparison = compare_with_progress(sweep, console, strict=strict)
    content = to_json(
        [sweep.trials, sweep.latency, sweep.run_ids, sweep.design, sweep.controls, sweep.manifest.analysis]
    )
    content += to_json([sweep.on_test, load_object(sweep.folder.test_intervals)]) if sweep.on_test else []
    images = load_object(sweep.folder.image_intervals)
    options = [f"strict={strict}", f"figures={bool(kinds)}", f"notebook={command.notebook}"]
    state = digest([__version__, *options, json.dumps([*content, images], sort_keys=True)])
    stamp = sweep.folder.stamp
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == state:
        logger.info("report: not written again, nothing has changed")
    else:
        logger.info("report: written to %s", sweep.folder.path)
        with console.status("report") if console.is_terminal else nullcontext():
            written = write_report(
                sweep, comparison=comparison, strict=strict, figures=kinds, notebook=command.notebook
            )
        for problem in written.problems:
            print_line(console, f"report: {problem}", "yellow")
        atomic_write_text(stamp, state)
    print_table(comparison, console=console)
    return description(comparison), table_summary(comparison)
