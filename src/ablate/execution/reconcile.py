"""What is asked for, less what is recorded: which trials run, go on, are there already, or wait to be tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.records.checkpoint_origin import checkpoint_signature
from ablate.records.failures import goes_on, retried
from ablate.records.loading import DamagedRecordError, load_record, mend_record
from ablate.records.trial_record import FINISHED, TrialRecord, short
from ablate.storage.layout import LAST
from ablate.study.trial import Trial
from ablate.study.trial_inputs import TrialInputs


@dataclass(frozen=True)
class Job:
    """A trial that is to run.

    Attributes:
        trial: The trial.
        epochs_done: Epochs that an earlier try has left a checkpoint of.
        retry: After how many tries its recorded failure is tried again; None where none is recorded.
    """

    trial: Trial
    epochs_done: int = 0
    retry: int | None = None

    @property
    def payload(self) -> dict[str, Any]:
        """What the trial's worker is given (see `ablate.execution.run_trial.run_job`)."""
        trial = self.trial
        return {
            "settings": trial.settings,
            "data": trial.data,
            "identity": trial.identity,
            "inputs": TrialInputs.of(trial.settings, trial.data.fingerprint),
            "retry": self.retry,
        }


@dataclass
class Reconciled:
    """The trials of a command, each once, by what is on disk of them.

    Attributes:
        trials: All of them.
        done: Finished, in this sweep or in another.
        failed: Failed before, and not asked to be tried again.
        jobs: What runs.
        ignored: In words, what lies in a trial's folder and cannot be used.
    """

    trials: list[Trial]
    done: list[Trial] = field(default_factory=list)
    failed: list[Trial] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @property
    def states(self) -> dict[str, str]:
        """By signature: ``reuse``, ``failed``, ``resume`` or ``run``."""
        found = {trial.identity.signature: "reuse" for trial in self.done}
        found |= {trial.identity.signature: "failed" for trial in self.failed}
        return found | {job.trial.identity.signature: "resume" if job.epochs_done else "run" for job in self.jobs}

    @property
    def resumed(self) -> list[Job]:
        """The jobs that go on from a checkpoint."""
        return [job for job in self.jobs if job.epochs_done]


def reconcile(trials: Sequence[Trial], *, mend: bool = False) -> Reconciled:
    """Leave out what is asked for twice, and tell what has a record from what must run.

    Args:
        trials: What is asked for; the `retry` of the first one's configuration says which failures run again.
        mend: Also write damaged records anew from their copies.
    """
    unique = {trial.identity.signature: trial for trial in trials}
    found = Reconciled(list(unique.values()))
    for trial in found.trials:
        if mend:
            mend_record(trial.folder)
        record = _record(trial, found.ignored)
        if record is None:
            found.ignored += _foreign_checkpoint(trial)
            found.jobs.append(Job(trial, trial.epochs_done()))
        elif record.status == FINISHED:
            found.done.append(trial)
        elif retried(record.failure, trial.settings.command.retry):
            done = trial.epochs_done() if goes_on(record.failure) else 0
            found.jobs.append(Job(trial, done, len(record.tries)))
        else:
            found.failed.append(trial)
    return found


def _foreign_checkpoint(trial: Trial) -> list[str]:
    """Say of a `last.pt` that another trial has written what follows from it."""
    signature = checkpoint_signature(trial.files.last)
    if signature in (None, trial.identity.signature):
        return []
    where = f"{trial.identity.short}/{LAST}"
    return [f"{where} is of trial {short(signature)}: {trial.identity.name} starts anew"]


def _record(trial: Trial, ignored: list[str]) -> TrialRecord | None:
    """Return a trial's record, None where it has none; say of one that cannot be used why, and what follows."""
    try:
        return load_record(trial.folder)
    except FileNotFoundError:
        return None
    except DamagedRecordError as error:
        ignored.append(f"{error}: {trial.identity.name} is trained again")
        return None
