"""Typed training failures."""

from __future__ import annotations

from ablate.errors import AblateError


class TrainingError(AblateError, RuntimeError):
    """A training ended early; `kind` is one of the failure types of a record."""

    kind = "code"


class OutOfMemory(TrainingError):
    """The device's memory did not suffice; nothing was retried with a smaller batch."""

    kind = "out_of_memory"


class Diverged(TrainingError):
    """The loss or the fitness is not finite any more."""

    kind = "diverged"
