"""Run the short trials of `tune=<trials>`, and give each trial of a request the learning rate that they chose."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console

from ablate.console import print_line
from ablate.errors import count
from ablate.execution.launch import Launch
from ablate.execution.make_request import Request
from ablate.execution.reconcile import Reconciled, reconcile
from ablate.execution.scheduler import run_trials
from ablate.preflight.networks import preflight
from ablate.records.judged import judged_record
from ablate.records.sweep_record import Control, TunedRate
from ablate.records.trial_record import FINISHED, TrialRecord
from ablate.settings.metric import METRICS
from ablate.study.rate_tuning import ShortTrials, chosen_rate, short_trials, with_rates
from ablate.study.trial import Trial
from ablate.tracking.tracker import Tracker

logger = logging.getLogger(__name__)


def tuning_note(short: Sequence[ShortTrials]) -> str:
    """What the tuning of a request takes, in words."""
    trials = [trial for variant in short for _, trial in variant.trials]
    epochs = sorted({trial.settings.train.epochs for trial in trials})
    length = " or ".join(count(number, "epoch") for number in epochs)
    return (
        f"tune={len(short[0].trials)}: {len(trials)} short trials of {length} choose a learning rate for each of "
        f"{count(len(short), 'variant')} first"
    )


def tune(request: Request, launch: Launch, console: Console) -> Request:
    """Run the short trials that have no result yet; return the request with the learning rates that they chose.

    What has a result is not run again, so a repeated or interrupted command chooses the same.

    Args:
        request: The trials of a command.
        launch: Where they run.
        console: Where to show it.

    Raises:
        ConfigError: A training is limited by time, or a network cannot be built, and nothing was started.
        NoSuchDevice: The trials' device does not exist.
        KeyboardInterrupt: Ctrl-C; the same command goes on.
    """
    short = short_trials(request.trials)
    if not short:
        return request
    print_line(console, tuning_note(short))
    jobs = _reconciled(short).jobs
    if jobs:
        command = request.trials[0].settings.command
        for device in dict.fromkeys(job.trial.settings.device for job in jobs):
            launch.check(device)
        preflight([job.trial for job in jobs])
        with Tracker(Path(command.root), command.tracking) as tracker:
            run_trials(jobs, launch, tracker, None, console)
            tracker.settle()
    request = with_chosen_rates(request, short)
    for line in rates_in_words(short, request.tuned):
        logger.info(line)
        print_line(console, line)
    return request


def with_chosen_rates(request: Request, short: Sequence[ShortTrials]) -> Request:
    """Return a request whose trials have the learning rates that short trials chose, of the variants of these.

    The signatures that name trials of the request are those of the new trials; the keys of the variants stay.
    """
    chosen = {it.variant_key: chosen_rate(it, [_accuracy(trial) for _, trial in it.trials]) for it in short}
    trials = with_rates(request.trials, chosen)
    pairs = zip(request.trials, trials, strict=True)
    signatures = {before.identity.signature: after.identity.signature for before, after in pairs}
    controls = {key: _renamed(control, signatures) for key, control in request.controls.items()}
    return replace(request, trials=trials, controls=controls, tuned={**request.tuned, **chosen})


def ended(short: Sequence[ShortTrials]) -> list[ShortTrials]:
    """Return those variants all of whose short trials have ended, so that their rate is known."""
    return [variant for variant in short if all(trial.record() is not None for _, trial in variant.trials)]


def rates_in_words(short: Sequence[ShortTrials], tuned: Mapping[str, TunedRate]) -> list[str]:
    """Return a line for each variant: the learning rate that was chosen, and the accuracies that chose it."""
    return [f"tuned: {it.variant}: {tuned[it.variant_key].in_words}" for it in short]


def _reconciled(short: Sequence[ShortTrials]) -> Reconciled:
    return reconcile([trial for variant in short for _, trial in variant.trials], mend=True)


def _accuracy(trial: Trial) -> float | None:
    """Return the accuracy of a finished trial by the declared metric and judge, None of any other."""
    record = trial.record()
    if record is None or record.status != FINISHED:
        return None
    command = trial.settings.command
    metric = METRICS[command.metric]
    judged = judged_record(record, command.judge, metric)
    return judged.metrics.value(metric) if isinstance(judged, TrialRecord) else None


def _renamed(control: Control, signatures: dict[str, str]) -> Control:
    return msgspec.structs.replace(control, signatures=tuple(signatures.get(it, it) for it in control.signatures))
