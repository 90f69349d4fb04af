"""One trial from start to end: data, network, training, evaluation, record.

A worker process runs `run_job`. Results go to the trial's own folder, `<root>/trials/<signature>/`, and the record is
the last file written there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import yaml

from ablate.data.catalogue import DataError
from ablate.data.data_use import promised_use
from ablate.data.groups import write_groups
from ablate.data.plain_paths import plain_path
from ablate.errors import ConfigError
from ablate.execution.trial_checks import (
    cause,
    check_imported,
    check_unchanged,
    check_weights,
    import_classes,
    own_checkpoint,
    refused_checkpoint,
    set_foreign_aside,
)
from ablate.execution.trial_job import TrialJob, TrialOutcome
from ablate.grafting.module_import import outdated
from ablate.launching import local
from ablate.launching.devices import DEVICE, SLOT
from ablate.launching.jobs import BUSY, STALE
from ablate.log import log_to
from ablate.measuring.system import record_system
from ablate.records.code_version import remember_versions, versions
from ablate.records.failures import describe, goes_on, kind_of, retried
from ablate.records.json_struct import from_json, to_json
from ablate.records.loading import drop_record, load_object, read_object, save_record
from ablate.records.metrics import EpochRow, Metrics
from ablate.records.realised import Evaluation, ImageCounts, Realised, TrainingReport
from ablate.records.store_address import recorded
from ablate.records.trial_record import (
    FAILED,
    FINISHED,
    NO_METRICS,
    Artifacts,
    Cost,
    TrialRecord,
    Try,
    TryList,
)
from ablate.records.working_tree import git_state
from ablate.settings.environment import output_to, prepare
from ablate.settings.signature import identify
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.confined import leave_plain_files
from ablate.storage.files import atomic_write_json, atomic_write_text
from ablate.storage.layout import BEST, LOG, TRAINING, TrialFolder
from ablate.storage.locking import Held, Lease, lock
from ablate.storage.plain_values import Plain
from ablate.study.half_groups import groups_of_halves
from ablate.study.trial import Trial
from ablate.study.trial_inputs import InputsChanged, TrialInputs
from ablate.training.history import best_epoch, history, seconds_per_epoch
from ablate.training.trainer_arguments import trainer_arguments

if TYPE_CHECKING:
    from ablate.measuring.complexity import Complexity
    from ablate.training.checkpoint import TrainingState
    from ablate.training.trainer import AblateTrainer

RUN = "ablate.execution.run_trial:run_job"

logger = logging.getLogger(__name__)


Training = Callable[[Trial, TrialInputs, Path | None], TrialRecord]


def run_job(job: TrialJob, train: Training | None = None) -> TrialOutcome | str:
    """Run one trial of a sweep, in a worker process.

    Every file that the trial is made from is read again here. Where it is not what the driver has seen, the trial fails
    as ``changed`` without being trained.

    Args:
        job: The trial.
        train: Trains a trial on these inputs, from this `last.pt` or from the start, and returns its part of the
            record; None for Ultralytics.

    Returns:
        How it ended; a failure of the trial is a record too, not an exception. Or `BUSY`, where another command
        trains this trial now, or `STALE`, where this process has imported another version of its module.
    """
    prepare()
    remember_versions()
    trial, obstacle = _settle(job)
    try:
        with lock(trial.files.lock, device=_place(trial)) as lease:
            leave_plain_files(trial.folder)  # whoever sent this folder decided where its links lead
            record = trial.record()
            if record is None or (record.status != FINISHED and len(record.tries) == job.retry):
                if obstacle is not None:
                    obstacle.intact = record is None or goes_on(record.failure)
                    record = _refuse(trial, obstacle)
                elif outdated(trial.settings.targets):
                    return STALE
                else:
                    record = _run(trial, record, lease, train or partial(_train, lease=lease))
    except Held:
        return BUSY
    return TrialOutcome(record.signature, record.status, record.failure)


def _settle(job: TrialJob) -> tuple[Trial, InputsChanged | None]:
    """Return the trial as it is on disk now; or as the driver has seen it, with what has changed since."""
    planned = job.planned
    try:
        trial = Trial.of(job.settings)
        if planned is None or trial.identity.signature == planned.trial.identity.signature:
            return trial, None
        now = TrialInputs.of(trial.settings, trial.data.fingerprint)
        changes = planned.inputs.changes(now, trial.settings)
        if not changes and trial.settings.fold != planned.trial.settings.fold:
            changes = [f"the groups of data set {trial.data.name}, and with them its folds"]
        changes = changes or ["ablate itself was edited"]
    except (ConfigError, DataError) as error:
        if planned is None:
            raise
        changes = [str(error)]
    message = f"changed after the command had begun: {'; '.join(changes)}"
    return planned.trial, InputsChanged(f"{message}; the same command, given again, trains what is there")


def _refuse(trial: Trial, reason: InputsChanged) -> TrialRecord:
    """Record, in the log too, that a trial is not trained because its files have changed since its signature."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    with trial.files.log.open("a", encoding="utf-8") as log:
        log.write(f"--- {trial.identity.name} is not trained: {reason}\n")
    return record_failure(trial, reason.kind, reason)


def run_trial(settings: TrialSettings) -> TrialOutcome:
    """Run one trial without a driver, such as a job of a cluster's queue; wait while another process trains it.

    Raises:
        RuntimeError: This process has imported another version of the trial's module, and the new process that trained
            it in its place died.
    """
    prepare()
    record = Trial.of(settings).record()
    again = record is not None and retried(record.failure, settings.command.retry)
    job = TrialJob(settings, retry=len(record.tries) if record is not None and again else None)
    while (done := run_job(job)) == BUSY:
        time.sleep(5)
    if done == STALE:
        (outcome,) = local.run_in_worker(RUN, [job])
        if outcome.failure:
            raise RuntimeError(outcome.message)
        done = outcome.result
    assert isinstance(done, TrialOutcome)
    return done


def _run(trial: Trial, failed_before: TrialRecord | None, lease: Lease, train: Training) -> TrialRecord:
    """Train and record a trial whose lock is ours; return the record.

    Raises:
        Held: The lock was lost meanwhile; nothing is recorded.
    """
    files, last = trial.files, trial.files.last
    foreign = set_foreign_aside(last)
    targets, trust = trial.settings.targets, trial.settings.command.trust_weights
    goes_on_from_last = failed_before is None or goes_on(failed_before.failure)
    checkpoint = own_checkpoint(last, targets, trust=trust) if goes_on_from_last else None
    if checkpoint is None:
        foreign = foreign or (refused_checkpoint(last, targets) if last.is_file() else None)
        _clear(files)
    if failed_before is not None:
        drop_record(trial.folder)
        files.run_link.unlink(missing_ok=True)  # its run is found again by the signature, and is not complete
    trial.folder.mkdir(parents=True, exist_ok=True)
    tries = _note_try(trial, checkpoint.epoch if checkpoint else 0, foreign)
    inputs = TrialInputs.of(trial.settings, trial.data.fingerprint)
    settings = recorded(trial.settings.to_plain())
    atomic_write_text(files.config, yaml.safe_dump(settings, sort_keys=False))
    device = os.environ.get(DEVICE, trial.settings.device)
    seconds = trial.settings.command.tracking.system_seconds
    metrics = record_system(files.system, seconds, device)
    with output_to(files.log), log_to(files.log), metrics:
        print(f"--- try {len(tries)} of {trial.identity.name}: {json.dumps(to_json(tries[-1]))}", flush=True)  # noqa: T201
        logger.info("%s: %s", trial.identity.name, _why(checkpoint, failed_before, foreign))
        try:
            record = train(trial, inputs, last if checkpoint else None)
            check_unchanged(trial.settings, trial.data)
        except Exception as error:  # whatever went wrong ends this trial, and only this one
            traceback.print_exc()
            reason = cause(error, trial.settings, trial.data)
            record = failed(trial, kind_of(reason), reason)
            if isinstance(reason, InputsChanged) and not reason.intact:
                last.unlink(missing_ok=True)
    lease.check()
    return _save(trial, msgspec.structs.replace(record, inputs=inputs), tries)


def _save(trial: Trial, record: TrialRecord, tries: tuple[Try, ...]) -> TrialRecord:
    """Write a record with the times of its tries; return it."""
    now = _now()
    record = msgspec.structs.replace(record, started=tries[0].started if tries else now, finished=now, tries=tries)
    save_record(trial.folder, record)
    return record


def _why(checkpoint: TrainingState | None, failed_before: TrialRecord | None, foreign: str | None) -> str:
    """Return why a trial starts where it starts, for the log."""
    start = "starts from the beginning" if checkpoint is None else f"resumes after epoch {checkpoint.epoch}"
    failure = failed_before.failure if failed_before is not None else None
    again = f"; its failure ({failure.type}) is tried again" if failure else ""
    return f"{start}{again}{f'; {foreign}' if foreign else ''}"


def record_failure(trial: Trial, kind: str, reason: Exception | str) -> TrialRecord:
    """Write the record of a trial whose process does not train it, or has died; return it."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    return _save(trial, failed(trial, kind, reason), _tries(trial))


def failed(trial: Trial, kind: str, reason: Exception | str) -> TrialRecord:
    """Return the record of a trial that failed, without times."""
    return TrialRecord(
        **msgspec.structs.asdict(trial.header()),
        status=FAILED,
        failure=describe(kind, reason, trial.files.log),
        metrics=NO_METRICS,
        history=history(trial.files.training),
    )


def _train(trial: Trial, inputs: TrialInputs, last: Path | None, *, lease: Lease) -> TrialRecord:
    """Train with Ultralytics, from the start or from the last checkpoint; return the record, without times.

    Raises:
        InputsChanged: The source that was imported is not that of the inputs.
        Held: The lock was lost meanwhile.
    """
    from ablate.checkpoints.stored_network import read_own
    from ablate.measuring.complexity import complexity
    from ablate.measuring.machine import device_name
    from ablate.measuring.sample_detections import detect_samples
    from ablate.training.network import restore

    settings, folder = trial.settings, plain_path(trial.folder)
    files = TrialFolder(folder)
    arguments = trainer_arguments(settings, trial.data, folder)
    device = str(arguments["device"])
    if last is None and (groups := groups_of_halves(settings, trial.data)) is not None:
        write_groups(files.groups, groups)
    git = git_state(files.git_diff)
    promised = promised_use(trial.data, settings.train.fraction, settings.train.split)
    trainer = _trained(trial, inputs, {**arguments, "resume": str(plain_path(last)) if last else False}, lease)
    report = from_json(read_object(files.training.report), TrainingReport)
    check_imported(report.sources, inputs)
    epochs = history(files.training)
    best, last_one = report.evaluations["best"], report.evaluations["last"]
    targets = settings.targets
    stored = read_own(files.best, targets, trust=settings.command.trust_weights).network
    # What was trained, whatever weights and images gave it its shapes.
    network = restore(stored, targets, trust=True)
    files.parameter_groups.write_text(json.dumps(to_json(report.parameter_groups), indent=1), encoding="utf-8")
    files.model.write_text(str(network), encoding="utf-8")
    imgsz = report.recipe.imgsz or settings.train.imgsz
    weights = msgspec.structs.replace(report.weights, source=settings.model.weights, sha256=inputs.weights)
    return TrialRecord(
        **msgspec.structs.asdict(trial.header()),
        status=FINISHED,
        failure=None,
        metrics=_judged(best, "best", best_epoch(epochs), report.split),
        metrics_last=_judged(last_one, "last", epochs[-1].epoch, report.split),
        per_class=best.per_class,
        per_class_last=last_one.per_class,
        history=epochs,
        cost=_cost(complexity(network, imgsz), epochs, report),
        graft=report.graft,
        realised=Realised(
            **msgspec.structs.asdict(msgspec.structs.replace(report.recipe, weights=weights)),
            device_name=device_name(trainer.device),
            data_fingerprint=trial.data.fingerprint,
            promised=ImageCounts(images=promised.images, instances=promised.instances),
            versions=versions(),
            git=git,
        ),
        samples=detect_samples(network, report.samples, folder, imgsz=imgsz, device=device.split(",")[0]),
        artifacts=Artifacts(
            best=BEST,
            predictions={which: f"{TRAINING}/{report.evaluations[which].predictions}" for which in ("best", "last")},
            plots=tuple(sorted(files.name_of(path) for path in files.training.path.glob("*.[pj][np]g"))),
            log=LOG,
        ),
    )


def _trained(trial: Trial, inputs: TrialInputs, arguments: Plain, lease: Lease) -> AblateTrainer:
    """Train with Ultralytics' arguments; return the trainer.

    Raises:
        InputsChanged: A source or the weights are not those of the inputs.
        Held: The lock was lost meanwhile.
    """
    from ablate.training.trainer import AblateTrainer

    import_classes(inputs)
    if identify(trial.settings, inputs.data).signature != trial.identity.signature:
        raise InputsChanged(
            "changed while the trial was started; the same command, given again, trains it", intact=True
        )
    trainer = AblateTrainer(overrides=arguments)
    # The weights are loaded when this event occurs.
    trainer.add_callback("on_pretrain_routine_end", lambda _: check_weights(trial.settings, inputs))
    trainer.add_callback("on_train_epoch_end", lambda _: lease.check())  # before the epoch's checkpoint is written
    trainer.train()
    return trainer


def _judged(evaluation: Evaluation, checkpoint: str, epoch: int | None, split: str) -> Metrics:
    return msgspec.structs.replace(evaluation.metrics, epoch=epoch, checkpoint=checkpoint, split=split)


def _cost(network: Complexity, epochs: Sequence[EpochRow], report: TrainingReport) -> Cost:
    return Cost(
        params=network.params,
        params_added=network.params_added,
        params_train=network.params_train,
        gflops=network.gflops,
        gflops_uncounted=network.gflops_uncounted,
        gflops_ultralytics=network.gflops_ultralytics,
        train_minutes=sum(row.seconds or 0.0 for row in epochs) / 60,
        seconds_per_epoch=seconds_per_epoch(epochs),
        peak_memory_gb=report.peak_memory_gb,
        energy_kwh=report.energy_kwh,
    )


def _clear(files: TrialFolder) -> None:
    """Remove the files of an earlier try, except its log, the list of tries and the samples of the machine."""
    for path in files.path.iterdir() if files.path.is_dir() else ():
        if files.outlives_a_try(path):
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _place(trial: Trial) -> str:
    """Return a readable name of the place where this process trains: its slot, else its device."""
    return os.environ.get(SLOT) or os.environ.get(DEVICE) or trial.settings.device


def _note_try(trial: Trial, epochs_done: int, note: str | None = None) -> tuple[Try, ...]:
    """Record the start of a try: its process, the epochs that are done, and a note; return all tries so far."""
    now = Try(
        started=_now(),
        host=socket.gethostname(),
        pid=os.getpid(),
        device=_place(trial),
        epochs_done=epochs_done,
        note=note,
    )
    tries = (*_tries(trial), now)
    atomic_write_json(trial.files.tries, to_json(TryList(signature=trial.identity.signature, tries=tries)))
    return tries


def _tries(trial: Trial) -> tuple[Try, ...]:
    """Return the tries of a trial so far; those of another trial, whose file lies in this one's folder, are none."""
    try:
        entries = from_json(load_object(trial.files.tries), TryList)
    except ValueError:
        return ()
    return tuple(entries.tries) if entries.signature in (None, trial.identity.signature) else ()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
