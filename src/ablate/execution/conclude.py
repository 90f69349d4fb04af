"""After the trials: latency, the report, the table on the terminal. In a process of its own, which may need memory."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate import __version__
from ablate.analysis.table_summary import TableSummary
from ablate.console import print_line
from ablate.execution.manifest import digest
from ablate.latency.sweep_latency import measure_sweep
from ablate.launching.local import run_in_worker
from ablate.log import DRIVER_LOG, log_to
from ablate.records.json_struct import to_json
from ablate.records.loading import load_object, load_sweep
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import Failure, short
from ablate.settings.schema import LatencySettings
from ablate.storage.files import atomic_write_text

FORMS = ("csv", "md", "tex", "ipynb")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conclusion:
    """What came of a command's trials.

    Attributes:
        note: The description for MLflow.
        table: The comparison.
        failures: Signature, name and failure of each trial that failed.
        missing: How many trials have no record.
        ignored: In words, what could not be read.
        forms: Of the report, besides HTML.
        problem: Why there is no report; empty where there is one.
    """

    note: str = ""
    table: TableSummary = field(default_factory=TableSummary)
    failures: list[tuple[str, str, Failure]] = field(default_factory=list)
    missing: int = 0
    ignored: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    problem: str = ""


def conclude(directory: Path, settings: Mapping[str, Any], signatures: Collection[str]) -> Conclusion:
    """Measure latency, write the report, print the table; all of it in another process.

    Args:
        directory: The sweep's folder.
        settings: A trial's configuration.
        signatures: The trials of this command.
    """
    task = {"directory": directory, "settings": settings, "signatures": set(signatures)}
    outcome = run_in_worker("ablate.execution.conclude:conclude_here", [task])[0]
    return outcome.result if isinstance(outcome.result, Conclusion) else Conclusion(problem=outcome.message)


def conclude_here(task: Mapping[str, Any]) -> Conclusion:
    """Do what `conclude` promises, in this process."""
    directory, settings, signatures = task["directory"], task["settings"], task["signatures"]
    console = Console(emoji=False)  # :100: in a name or a path is no picture
    with log_to(directory / DRIVER_LOG):
        if settings["latency"]["enabled"]:
            measure_sweep(directory, LatencySettings(**settings["latency"]), console)
        sweep = load_sweep(directory)
        note, table = _report(sweep, settings, console)
    failures = [
        (trial.signature, trial.name or short(trial.signature), trial.failure)
        for trial in sweep.trials
        if trial.failure is not None and trial.signature in signatures
    ]
    return Conclusion(
        note,
        table,
        failures,
        missing=sum(signature in signatures for signature in sweep.missing),
        ignored=sweep.ignored,
        forms=[form for form in FORMS if sweep.folder.report(form).is_file()],
    )


def _report(sweep: Sweep, settings: Mapping[str, Any], console: Console) -> tuple[str, TableSummary]:
    """Write what is not up to date, print the table; return the description for MLflow, and the table."""
    from ablate.analysis.comparison import compare
    from ablate.analysis.image_intervals import compute_intervals
    from ablate.analysis.table import table_summary
    from ablate.report.figures import KINDS
    from ablate.report.terminal_table import image_progress, print_table
    from ablate.report.write import description, write_report

    with image_progress(console) as progress:
        compute_intervals(sweep, on_progress=progress)
    strict = bool(settings["strict"])
    kinds = KINDS if settings["figures"] else ()
    comparison = compare(sweep, strict=strict)
    content = to_json([sweep.trials, sweep.latency, sweep.run_ids, sweep.design, sweep.controls])
    images = load_object(sweep.folder.image_intervals)
    asked = [f"strict={strict}", f"figures={bool(kinds)}", f"notebook={settings['notebook']}"]
    state = digest([__version__, *asked, json.dumps([*content, images], sort_keys=True)])
    stamp = sweep.folder.stamp
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == state:
        logger.info("report: not written again, nothing has changed")
    else:
        logger.info("report: written to %s", sweep.folder.path)
        with console.status("report") if console.is_terminal else nullcontext():
            written = write_report(
                sweep, comparison=comparison, strict=strict, figures=kinds, notebook=settings["notebook"]
            )
        for problem in written.problems:
            print_line(console, f"report: {problem}", "yellow")
        atomic_write_text(stamp, state)
    print_table(comparison, console=console)
    return description(comparison), table_summary(comparison)
