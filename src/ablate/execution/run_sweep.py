"""Run one sweep: compare its trials with the records on disk, run the missing ones, report.

Everything is decided before anything starts: all trials are composed, checked and reconciled with the records. A plan
(`ablate.execution.plan`) takes the same steps and stops before the first trial.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from ablate import __version__
from ablate.console import Terminal, print_line, short_path
from ablate.errors import ConfigError, count
from ablate.execution.conclude import Conclusion, conclude
from ablate.execution.declarations import late_note
from ablate.execution.earlier_looks import warning as looks_warning
from ablate.execution.forecast import UNKNOWN, announce_forecast
from ablate.execution.launch import Launch
from ablate.execution.make_request import Request
from ablate.execution.manifest import open_sweep, sweep_folder
from ablate.execution.output_root import check_writable
from ablate.execution.reconcile import Reconciled, reconcile
from ablate.execution.scheduler import run_trials
from ablate.execution.sequential_sweep import SequentialSweep, analysis_plan
from ablate.execution.tune import tune
from ablate.log import open_driver_log
from ablate.preflight.networks import Preflight, contract_notes, preflight
from ablate.records.failures import retry_option
from ablate.records.loading import load_manifest, manifest_so_far, save_manifest
from ablate.records.sweep_record import AnalysisPlan
from ablate.storage.confined import refuse_links
from ablate.storage.layout import SweepFolder
from ablate.study.trial import Trial, data_warnings
from ablate.tracking.store import Store
from ablate.tracking.store_problems import Refusal, StoreProblem
from ablate.tracking.tracker import Tracker

COUNTED = 32  # networks up to which FLOPs are counted for the estimate of a sweep's time; a plan counts all
REFUSALS = 10  # lines about values that MLflow refuses

logger = logging.getLogger(__name__)


def run_sweep(request: Request, launch: Launch, command: Sequence[str]) -> int:
    """Run what is missing of a sweep, then compare.

    Args:
        request: The trials, in the order in which they are to run.
        launch: Where they run.
        command: The command line's words.

    Returns:
        The exit code: 0 all trials are done, 1 some failed.

    Raises:
        ConfigError: A network cannot be built, or nothing can be written, and nothing was started; or the output folder
            was moved or deleted.
        NoSuchDevice: The trials' device does not exist.
        KeyboardInterrupt: Ctrl-C; finished trials are kept, and the same command resumes the others.
    """
    console = Terminal()
    settings = request.trials[0].settings
    check_writable(Path(settings.command.root).absolute())
    request = tune(request, launch, console)
    plan = analysis_plan(request.trials, request.design, request.controls)
    sequential = _begin(request, plan, launch) if plan.until else None
    reconciled = reconcile(sequential.trials if sequential else request.trials, mend=True)
    if reconciled.jobs:  # a finished sweep needs neither device nor cluster
        for device in dict.fromkeys(job.trial.settings.device for job in reconciled.jobs):
            launch.check(device)
    running = [job.trial for job in reconciled.jobs]
    refuse_links(path for trial in running for path in (trial.folder, trial.files.lock))
    networks = _preflight(running, done=request.preflown)
    notes = [*request.notes, *contract_notes(running, networks.answers)]
    folder = _open_folder(request, reconciled, command, plan)
    directory = folder.path
    logger.info("ablate %s: %s", __version__, shlex.join(command))
    logger.info("sweep %s: %s", directory.name, _counts(reconciled))
    _log_states(reconciled)
    _announce(console, folder, reconciled, request, notes)
    if sequential is not None:
        sequential.open(folder, console)
    forecast = announce_forecast(console, reconciled.jobs, launch, networks.costs) if reconciled.jobs else UNKNOWN
    with Tracker(Path(settings.command.root), settings.command.tracking) as tracker:
        parent = _open_parent(tracker, folder)
        logger.info("MLflow run of the sweep: %s", parent)
        if reconciled.jobs:
            run_trials(reconciled.jobs, launch, tracker, parent, console, len(reconciled.done), forecast, sequential)
        if sequential is not None:
            sequential.close()
        trials = sequential.trials if sequential else reconciled.trials
        signatures = [trial.identity.signature for trial in trials]
        tracker.ask(Store.publish_missing, folder.root.path, parent, set(signatures))
        targets = list(dict.fromkeys(target for trial in trials for target in trial.settings.targets))
        conclusion = conclude(directory, settings, signatures, targets)
        if parent:
            failed, note = bool(conclusion.failures), conclusion.note
            tracker.submit(Store.close_sweep, parent, directory, signatures, note, conclusion.table, failed)
        tracker.settle()
        problem, refusals = tracker.problem, tracker.refusals
    _print_refusals(console, problem, refusals)
    _print_conclusion(console, folder, conclusion, settings.command.root)
    return 0 if conclusion.is_complete else 1


def _begin(request: Request, plan: AnalysisPlan, launch: Launch) -> SequentialSweep:
    """Return the trials of a sweep whose seeds are added until every variant is decided."""
    sequential = SequentialSweep(request.trials, plan, request.design, request.controls)
    device = request.trials[0].settings.device
    if sequential.has_open_variants:
        launch.check(device)
    earlier = manifest_so_far(sweep_folder(request.trials, request.controls, plan))
    sequential.begin(earlier.spent_seconds, lambda: launch.slots(device), earlier.signatures)
    return sequential


def _open_folder(request: Request, reconciled: Reconciled, command: Sequence[str], plan: AnalysisPlan) -> SweepFolder:
    """Open the sweep's folder and its log.

    Raises:
        ConfigError: They cannot be written: they are another user's, or something else has their name.
    """
    try:
        trials = request.trials if plan.until else reconciled.trials
        controls, ignored = request.controls, reconciled.ignored
        folder = open_sweep(trials, command, request.design, controls, ignored, plan, request.tuned, reconciled.done)
        open_driver_log(folder.driver_log)
    except OSError as error:
        raise ConfigError(f"{error.filename2 or error.filename} cannot be written: {error.strerror}") from error
    return folder


def _announce(
    console: Console, folder: SweepFolder, reconciled: Reconciled, request: Request, notes: Sequence[str]
) -> None:
    """Print what runs, and what the user should know before it does."""
    print_line(console, f"sweep {folder.path.name}: {_counts(reconciled)}")
    for name, reason in request.left_out:
        print_line(console, f"left out: {name}: {reason}", "yellow")
    for line in reconciled.ignored:
        print_line(console, f"ignored: {line}", "yellow")
    for note in notes:
        print_line(console, note, "yellow")
    manifest, command = load_manifest(folder), request.trials[0].settings.command
    if manifest.looks:
        print_line(console, looks_warning(manifest.looks, over_folds=bool(command.folds)), "yellow")
    if manifest.late:
        print_line(console, late_note(manifest.late), "yellow")
    for warning in data_warnings(reconciled.trials):
        print_line(console, warning)


def _log_states(reconciled: Reconciled) -> None:
    """Log of each trial whether it is reused, skipped, resumed or run."""
    for trial in reconciled.done:
        logger.info("%s (%s): finished, reused", trial.identity.name, trial.identity.short)
    for trial in reconciled.failed:
        logger.info(
            "%s (%s): failed before, skipped (retry=%s)",
            trial.identity.name,
            trial.identity.short,
            trial.settings.command.retry,
        )
    for job in reconciled.jobs:
        start = f"resumes after epoch {job.epochs_done}" if job.epochs_done else "runs from the start"
        again = "" if job.retry is None else f", its failure of {job.retry} attempts is tried again"
        logger.info("%s (%s): %s%s", job.trial.identity.name, job.trial.identity.short, start, again)


def _preflight(trials: Sequence[Trial], *, done: bool) -> Preflight:
    """Build every network once; count FLOPs where there are not too many networks.

    Args:
        trials: What runs.
        done: Whether the networks have been built already, which then are only counted.
    """
    counted = len({trial.identity.variant_key for trial in trials}) <= COUNTED
    if not trials or (done and not counted):
        return Preflight({}, {})
    return preflight(trials, with_cost=counted)


def _counts(reconciled: Reconciled) -> str:
    words = [count(len(reconciled.trials), "trial"), f"{len(reconciled.done)} done"]
    if reconciled.failed:
        words.append(f"{len(reconciled.failed)} failed before (retry=failed tries again)")
    words.append(f"{len(reconciled.jobs)} to run")
    if reconciled.resumed:
        words[-1] += f" ({len(reconciled.resumed)} of them from a checkpoint)"
    return ", ".join(words)


def _open_parent(tracker: Tracker, folder: SweepFolder) -> str | None:
    manifest = load_manifest(folder)
    run_id = tracker.ask(Store.open_sweep, folder.path.name, manifest.command, manifest.mlflow_run_id)
    if run_id is None:
        return None
    save_manifest(folder, msgspec.structs.replace(manifest, mlflow_run_id=str(run_id)))
    return str(run_id)


def _print_conclusion(console: Console, folder: SweepFolder, conclusion: Conclusion, root: str) -> None:
    for trial in conclusion.failures:
        print_line(console, f"failed: {trial.name}: {trial.failure.type}: {trial.failure.message}", "red")
        print_line(console, f"        log: {short_path(folder.trial(trial.signature).path / trial.failure.log)}")
    if conclusion.failures:
        again = retry_option([trial.failure for trial in conclusion.failures])
        print_line(console, f"to try the failed trials again: {load_manifest(folder).command}{again}")
    if conclusion.missing:
        print_line(console, f"{count(conclusion.missing, 'trial')} without a result yet: repeat the command", "yellow")
    for line in conclusion.ignored:
        print_line(console, f"ignored: {line}", "yellow")
    if conclusion.problem:
        print_line(console, f"the report was not made: {conclusion.problem}", "yellow")
    else:
        print_line(console, f"report:   {short_path(folder.report('html'))} (also .{' .'.join(conclusion.forms)})")
    option = "" if root == "multirun" else f" {shlex.quote(f'root={root}')}"
    print_line(console, f"MLflow:   python -m ablate ui{option}")


def _print_refusals(console: Console, problem: StoreProblem | None, refusals: Sequence[Refusal]) -> None:
    """Print why records are not in MLflow, and which values of others it refused."""
    if problem is not None:
        print_line(console, problem.advice, "yellow")
    for again, words in ((False, "MLflow does not take"), (True, "not in MLflow yet, the next command tries again")):
        listed = [refusal for refusal in refusals if refusal.again == again]
        for refusal in listed[:REFUSALS]:
            print_line(console, f"{words}: {refusal}", "yellow")
        if len(listed) > REFUSALS:
            print_line(console, f"{words}: {len(listed) - REFUSALS} more; see the tag ablate.not_recorded", "yellow")
