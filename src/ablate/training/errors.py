"""Ends of a training that have a name."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """A training ended early; `kind` is one of the failure types of a record."""

    kind = "code"


class OutOfMemory(TrainingError):
    """The device's memory did not suffice; nothing was retried with a smaller batch."""

    kind = "out_of_memory"


class Diverged(TrainingError):
    """The loss or the fitness is not finite any more."""

    kind = "diverged"
