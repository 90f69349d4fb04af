"""Compare the requested trials with the records on disk: which run, resume, are finished, or have failed before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ablate.execution.trial_job import PlannedTrial, TrialJob
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

    def for_worker(self) -> TrialJob:
        """Return the job of the trial's worker, with the hashes of the trial's files as they are now."""
        inputs = TrialInputs.of(self.trial.settings, self.trial.data.fingerprint)
        return TrialJob(self.trial.settings, self.retry, PlannedTrial(self.trial, inputs))


@dataclass
class Reconciled:
    """The trials of a command, each once, by their state on disk.

    Attributes:
        trials: All of them.
        done: Finished, in this sweep or in another.
        failed: Failed before, and not to be tried again.
        jobs: Trials that run.
        ignored: Files in a trial's folder that cannot be used, in words.
    """

    trials: list[Trial]
    done: list[Trial] = field(default_factory=list)
    failed: list[Trial] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @property
    def states(self) -> dict[str, str]:
        """By signature: ``reuse``, ``failed``, ``resume`` or ``run``."""
        states = {trial.identity.signature: "reuse" for trial in self.done}
        states |= {trial.identity.signature: "failed" for trial in self.failed}
        return states | {job.trial.identity.signature: "resume" if job.epochs_done else "run" for job in self.jobs}

    @property
    def resumed(self) -> list[Job]:
        """The jobs that resume from a checkpoint."""
        return [job for job in self.jobs if job.epochs_done]


def reconcile(trials: Sequence[Trial], *, mend: bool = False) -> Reconciled:
    """Compare trials with the records on disk.

    Args:
        trials: The requested trials; one that is there twice counts once. Their `retry` says which failures run again.
        mend: Also rewrite damaged records from their copies.
    """
    unique = {trial.identity.signature: trial for trial in trials}
    reconciled = Reconciled(list(unique.values()))
    for trial in reconciled.trials:
        if mend:
            mend_record(trial.folder)
        record = _record(trial, reconciled.ignored)
        if record is None:
            reconciled.ignored += _foreign_checkpoint(trial)
            reconciled.jobs.append(Job(trial, trial.epochs_done()))
        elif record.status == FINISHED:
            reconciled.done.append(trial)
            if record.form:
                why = f"{record.form}: {trial.identity.name} is not trained again, and no report has it"
                reconciled.ignored.append(f"{trial.identity.short} {why}")
        elif retried(record.failure, trial.settings.command.retry):
            done = trial.epochs_done() if goes_on(record.failure) else 0
            reconciled.jobs.append(Job(trial, done, len(record.tries)))
        else:
            reconciled.failed.append(trial)
    return reconciled


def _foreign_checkpoint(trial: Trial) -> list[str]:
    """Return a line about a `last.pt` that another trial has written, if there is one."""
    signature = checkpoint_signature(trial.files.last)
    if signature in (None, trial.identity.signature):
        return []
    where = f"{trial.identity.short}/{LAST}"
    return [f"{where} is of trial {short(signature)}: {trial.identity.name} starts anew"]


def _record(trial: Trial, ignored: list[str]) -> TrialRecord | None:
    """Return a trial's record; None where there is none, or it is damaged, which is added to `ignored`."""
    try:
        return load_record(trial.folder)
    except FileNotFoundError:
        return None
    except DamagedRecordError as error:
        ignored.append(f"{error}: {trial.identity.name} is trained again")
        return None
