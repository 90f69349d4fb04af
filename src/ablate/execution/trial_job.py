"""What the worker of a trial gets, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.records.trial_record import Failure
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial
from ablate.study.trial_inputs import TrialInputs


@dataclass(frozen=True)
class PlannedTrial:
    """A trial as the driver has seen it, with the hashes of its files at that moment."""

    trial: Trial
    inputs: TrialInputs


@dataclass(frozen=True)
class TrialJob:
    """A trial that a worker is to run.

    Attributes:
        settings: What is trained, and how.
        retry: After how many tries its recorded failure is tried again; None where it is not.
        planned: The trial as the driver has seen it; None where it has no driver of ours.
    """

    settings: TrialSettings
    retry: int | None = None
    planned: PlannedTrial | None = None


@dataclass(frozen=True)
class TrialOutcome:
    """How a job ended; the whole record is in the trial's folder.

    Attributes:
        signature: Of the trial.
        status: "finished" or "failed".
        failure: Of a failed trial.
    """

    signature: str
    status: str
    failure: Failure | None
