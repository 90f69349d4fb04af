"""A trainer that trains nothing and records planted accuracies, in whatever process a launcher gives it.

Paired differences have a standard deviation of 0.006 and the means below; a graft that does nothing is exactly its
baseline. `ABLATE_PLANTED_KILL` names a trial whose first process is killed, once, before it has recorded anything.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from simulated.fake_trainer import run_job as record_nothing_trained

if TYPE_CHECKING:
    from ablate.execution.trial_job import TrialJob, TrialOutcome
    from ablate.study.trial import Trial

EFFECTS = {"hmha": -0.10, "acmix": 0.0, "sta": -0.05, "identity": 0.0, "none": 0.0}


def run_job(job: TrialJob) -> TrialOutcome:
    """Record a trial with its planted accuracy."""
    assert job.planned is not None
    trial = job.planned.trial
    mark = Path(trial.settings.command.root).absolute() / "killed"
    if os.environ.get("ABLATE_PLANTED_KILL") == trial.identity.name and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    outcome = record_nothing_trained(job)
    plant(trial)
    return outcome


def plant(trial: Trial) -> None:
    """Write its planted accuracy into a trial's record."""
    from ablate.records.loading import load_record, save_record

    name, seed, fold = trial.identity.factors["module"], trial.identity.seed, trial.identity.fold
    place = [seed] if fold is None else [seed, fold]
    own = 0.0 if name in ("none", "identity") else np.random.default_rng([*place, sum(name.encode())]).normal(0, 0.006)
    accuracy = 0.4 + np.random.default_rng(place).normal(0, 0.02) + own + EFFECTS[name]
    record = load_record(trial.folder)
    save_record(
        trial.folder,
        msgspec.structs.replace(record, metrics=msgspec.structs.replace(record.metrics, map50_95=accuracy)),
    )
