"""The story of one trial, start to end: data, network, training, evaluation, record.

`run_trial` is what a worker process runs. It takes plain values and returns plain values; everything else goes to the
trial's own folder, `<root>/trials/<signature>/`, and the record is the last thing written there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ablate.data.catalogue import DataError
from ablate.data.data_use import promised_use
from ablate.data.plain_paths import plain_path
from ablate.errors import ConfigError
from ablate.execution.trial_checks import (
    FOREIGN,
    cause,
    check_imported,
    check_unchanged,
    check_weights,
    import_classes,
    own_checkpoint,
    set_foreign_aside,
)
from ablate.grafting.module_import import outdated
from ablate.launching import local
from ablate.launching.devices import DEVICE, SLOT
from ablate.launching.jobs import BUSY, STALE
from ablate.log import log_to
from ablate.measuring.system import record_system
from ablate.records.code_version import git_state, remember_versions, versions
from ablate.records.failures import describe, goes_on, kind_of, retried
from ablate.records.records import (
    drop_record,
    load_object,
    save_record,
    sequence,
)
from ablate.records.store_address import recorded
from ablate.settings.environment import output_to, prepare
from ablate.settings.graft import targets_of
from ablate.settings.signature import identify
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.files import atomic_write_json, atomic_write_text
from ablate.storage.locking import Held, lock
from ablate.study.trial import LAST, LOG, TRIES, Trial, tries_of
from ablate.study.trial_inputs import InputsChanged, TrialInputs
from ablate.tracking.mlflow_payload import SYSTEM
from ablate.tracking.store import LINK
from ablate.training.history import best_epoch, history, seconds_per_epoch
from ablate.training.trainer_arguments import trainer_arguments

logger = logging.getLogger(__name__)


Training = Callable[[Trial, TrialInputs, Path | None], dict[str, Any]]


def run_job(job: Mapping[str, Any], train: Training | None = None) -> dict[str, Any] | str:
    """Run one trial of a sweep; what a worker process is asked to do.

    All that the trial is made from is read anew here. Where it is not what the driver has seen, the trial fails as
    ``changed`` without being trained.

    Args:
        job: ``settings`` (a `TrialSettings`) and, where the driver knows them, ``data`` (its
            `DataSet`), ``identity`` and ``inputs`` (what it has seen), and ``retry`` (the number of tries after which
            its recorded failure is to be tried again).
        train: Trains a trial on these inputs, from this `last.pt` or from the start, and returns its part of the
            record; None for Ultralytics.

    Returns:
        ``{"signature", "status", "failure"}``; the whole record is in `result.json`. A failure of the trial is a
        record too, not an exception. Or `BUSY`, where another command trains this trial now, or `STALE`, where this
        process has imported another version of its module.
    """
    prepare()
    remember_versions()
    trial, obstacle = _settle(job)
    try:
        with lock(trial.lock, device=_place(trial)):
            record = trial.record()
            if record is None or (record["status"] != "finished" and tries_of(record) == job.get("retry")):
                if obstacle is not None:
                    obstacle.intact = record is None or goes_on(record["failure"])
                    record = _refuse(trial, obstacle)
                elif outdated(targets_of(trial.settings.grafts)):
                    return STALE
                else:
                    record = _run(trial, record, train or _train)
    except Held:
        return BUSY
    return {key: record[key] for key in ("signature", "status", "failure")}


def _settle(job: Mapping[str, Any]) -> tuple[Trial, InputsChanged | None]:
    """Return the trial as it is on disk now; or as the driver has seen it, with what has changed since."""
    promised = None
    if "identity" in job:
        promised = Trial(job["settings"], job["data"], job["identity"])
    try:
        trial = Trial.of(job["settings"])
        if promised is None or trial.identity.signature == promised.identity.signature:
            return trial, None
        now = TrialInputs.of(trial.settings, trial.data.fingerprint)
        changes = job["inputs"].changes(now, trial.settings) or ["ablate itself was edited"]
    except (ConfigError, DataError) as error:
        if promised is None:
            raise
        changes = [str(error)]
    said = f"changed after the command had begun: {'; '.join(changes)}"
    return promised, InputsChanged(f"{said}; the same command, given again, trains what is there")


def _refuse(trial: Trial, reason: InputsChanged) -> dict[str, Any]:
    """Write down, in the log too, that a trial is not trained on other files than its signature says."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    with (trial.folder / LOG).open("a", encoding="utf-8") as log:
        log.write(f"--- {trial.identity.name} is not trained: {reason}\n")
    return record_failure(trial, reason.kind, reason)


def run_trial(settings: TrialSettings) -> dict[str, Any]:
    """Run one trial that nobody else looks after, such as a job of a cluster's queue; wait where another has it.

    Raises:
        RuntimeError: This process has imported another version of the trial's module, and the new process that trained
            it in its place died.
    """
    prepare()
    record = Trial.of(settings).record()
    again = record is not None and retried(record, settings.command.retry)
    job = {"settings": settings, "retry": tries_of(record) if record is not None and again else None}
    while (done := run_job(job)) == BUSY:
        time.sleep(5)
    if done == STALE:
        (outcome,) = local.run_in_worker("ablate.execution.run_trial:run_job", [job])
        if outcome.failure:
            raise RuntimeError(outcome.message)
        done = outcome.result
    assert not isinstance(done, str)
    return done


def _run(trial: Trial, failed_before: Mapping[str, Any] | None, train: Training) -> dict[str, Any]:
    """Train and record a trial whose lock is ours; return the record."""
    last = trial.folder / LAST
    foreign = set_foreign_aside(last)
    checkpoint = own_checkpoint(last) if failed_before is None or goes_on(failed_before["failure"]) else None
    if checkpoint is None:
        _clear(trial.folder)
    if failed_before is not None:
        drop_record(trial.folder)
        (trial.folder / LINK).unlink(missing_ok=True)  # its run is found again by the signature, and is not complete
    trial.folder.mkdir(parents=True, exist_ok=True)
    tries = _note_try(trial, checkpoint["epoch"] if checkpoint else 0, foreign)
    inputs = TrialInputs.of(trial.settings, trial.data.fingerprint)
    settings = recorded(trial.settings.to_plain())
    atomic_write_text(trial.folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    device = os.environ.get(DEVICE, trial.settings.device)
    seconds = trial.settings.command.tracking.system_seconds
    metrics = record_system(trial.folder / SYSTEM, seconds, device)
    with output_to(trial.folder / LOG), log_to(trial.folder / LOG), metrics:
        print(f"--- try {len(tries)} of {trial.identity.name}: {json.dumps(tries[-1])}", flush=True)  # noqa: T201
        logger.info("%s: %s", trial.identity.name, _why(checkpoint, failed_before, foreign))
        try:
            outcome = {"status": "finished", "failure": None, **train(trial, inputs, last if checkpoint else None)}
            check_unchanged(trial.settings, trial.data)
        except Exception as error:  # whatever went wrong ends this trial, and only this one
            traceback.print_exc()
            reason = cause(error, trial.settings, trial.data)
            outcome = failed(trial, kind_of(reason), reason)
            if isinstance(reason, InputsChanged) and not reason.intact:
                last.unlink(missing_ok=True)
    record = {**trial.header(), **outcome, "inputs": inputs.plain()}
    record |= {"started": tries[0]["started"], "finished": _now(), "tries": tries}
    save_record(trial.folder, record)
    return record


def _why(checkpoint: Mapping[str, Any] | None, failed_before: Mapping[str, Any] | None, foreign: str | None) -> str:
    """Return why a trial starts where it starts, for the log."""
    start = "starts anew" if checkpoint is None else f"resumes after epoch {checkpoint['epoch']}"
    retried_failure = (
        "" if failed_before is None else f"; its failure ({failed_before['failure']['type']}) is tried again"
    )
    return f"{start}{retried_failure}{f'; {foreign}' if foreign else ''}"


def record_failure(trial: Trial, kind: str, reason: Exception | str) -> dict[str, Any]:
    """Write the record of a trial that its process does not do, or cannot do any more; return it."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    tries = _tries(trial)
    times = {"started": tries[0]["started"] if tries else _now(), "finished": _now()}
    record = {**trial.header(), **failed(trial, kind, reason), **times, "tries": tries}
    save_record(trial.folder, record)
    return record


def failed(trial: Trial, kind: str, reason: Exception | str) -> dict[str, Any]:
    """Return the part of a record that says how a trial failed."""
    failure = describe(kind, reason, trial.folder / LOG)
    return {"status": "failed", "failure": failure, "metrics": {}, "history": history(trial.folder)}


def _train(trial: Trial, inputs: TrialInputs, last: Path | None) -> dict[str, Any]:
    """Train through Ultralytics, from the start or from the last checkpoint; return what the record says of it.

    Raises:
        InputsChanged: The source that was imported is not that of the inputs.
    """
    from ultralytics.nn.tasks import load_checkpoint

    from ablate.measuring.complexity import complexity
    from ablate.measuring.machine import device_name
    from ablate.measuring.sample_detections import detect_samples
    from ablate.training.trainer import REALISED, AblateTrainer

    settings, folder = trial.settings, plain_path(trial.folder)
    arguments = trainer_arguments(settings, trial.data, folder)
    device = str(arguments["device"])
    git = git_state(folder)
    promised = promised_use(trial.data, settings.train.fraction, settings.train.split)
    import_classes(inputs)
    if identify(settings, inputs.data).signature != trial.identity.signature:
        raise InputsChanged(
            "changed while the trial was started; the same command, given again, trains it", intact=True
        )
    trainer = AblateTrainer(overrides={**arguments, "resume": str(plain_path(last)) if last else False})
    trainer.add_callback("on_pretrain_routine_end", lambda _: check_weights(settings, inputs))  # they are loaded now
    trainer.train()
    realised = json.loads((folder / "train" / REALISED).read_text(encoding="utf-8"))
    check_imported(realised.pop("sources"), inputs)
    epochs = history(folder)
    evaluations, split = realised.pop("evaluations"), realised.pop("split")
    judged = {"best": best_epoch(epochs), "last": epochs[-1]["epoch"]}
    metrics = {
        which: {**evaluations[which]["metrics"], "epoch": epoch, "checkpoint": which, "split": split}
        for which, epoch in judged.items()
    }
    checkpoint = folder / "train" / "weights" / "best.pt"
    network = load_checkpoint(str(checkpoint))[0]  # what was trained, whatever weights and images gave it its shapes
    plots = sorted(p.relative_to(folder).as_posix() for p in (folder / "train").glob("*.[pj][np]g"))
    (folder / "parameter_groups.json").write_text(
        json.dumps(realised.pop("parameter_groups"), indent=1), encoding="utf-8"
    )
    (folder / "model.txt").write_text(str(network), encoding="utf-8")
    samples = realised.pop("samples")
    return {
        "metrics": metrics["best"],
        "metrics_last": metrics["last"],
        "per_class": evaluations["best"]["per_class"],
        "per_class_last": evaluations["last"]["per_class"],
        "history": epochs,
        "cost": {
            **complexity(network, realised["imgsz"]).summary(),
            "train_minutes": sum(row["seconds"] for row in epochs) / 60,
            "seconds_per_epoch": seconds_per_epoch(epochs),
            "peak_memory_gb": realised.pop("peak_memory_gb"),
            "energy_kwh": realised.pop("energy_kwh"),
        },
        "graft": realised.pop("graft"),
        "realised": {
            **realised,
            "device_name": device_name(trainer.device),
            "weights": {**realised["weights"], "source": settings.model.weights, "sha256": inputs.weights},
            "data_fingerprint": trial.data.fingerprint,
            "promised": asdict(promised),
            "versions": versions(),
            "git": git,
        },
        "samples": detect_samples(checkpoint, samples, folder, imgsz=realised["imgsz"], device=device.split(",")[0]),
        "artifacts": {
            "best": checkpoint.relative_to(folder).as_posix(),
            "evidence": {which: f"train/{evaluations[which]['evidence']}" for which in judged},
            "plots": plots,
            "log": LOG,
        },
    }


def _clear(folder: Path) -> None:
    """Remove what an earlier try left, except what tells of it: log, list of tries, samples of the machine."""
    for path in folder.iterdir() if folder.is_dir() else []:
        if path.name in (LOG, TRIES, SYSTEM) or path.name.startswith(FOREIGN):
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _place(trial: Trial) -> str:
    """Return where this process trains, for people: the name of its slot, else its device."""
    return os.environ.get(SLOT) or os.environ.get(DEVICE) or trial.settings.device


def _note_try(trial: Trial, epochs_done: int, note: str | None = None) -> list[dict[str, Any]]:
    """Write down that a try starts, who makes it and from where, and what is odd; return all tries so far."""
    entry = {
        "started": _now(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": _place(trial),
        "epochs_done": epochs_done,
        **({"note": note} if note else {}),
    }
    tries = [*_tries(trial), entry]
    atomic_write_json(trial.folder / TRIES, {"signature": trial.identity.signature, "tries": tries})
    return tries


def _tries(trial: Trial) -> list[dict[str, Any]]:
    """Return the tries of a trial so far; those of another trial, whose file lies in this one's folder, are none."""
    content = load_object(trial.folder / TRIES)
    own = content.get("signature", trial.identity.signature) == trial.identity.signature
    return sequence(content, "tries") if own else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
