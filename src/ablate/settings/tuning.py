"""The tuning of the learning rate: the same small number of short trials for each variant, before its seeds start."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ablate.storage.plain_values import Plain

STEP = 3.0  # between neighbouring learning rates: about half a decade
SHARE = 4  # a short trial has a quarter of the epochs


@dataclass(frozen=True)
class Tuning:
    """How the learning rate of a trial is, or was, chosen.

    Attributes:
        trials: Learning rates that are tried for each variant.
        epochs: Of each short trial.
        given: The learning rate of the command, around which the others lie; None as long as none was chosen.
    """

    trials: int
    epochs: int
    given: float | None = None

    @classmethod
    def of_command(cls, trials: int, epochs: int) -> Tuning | None:
        """Return what `tune=<trials>` means for trainings of so many epochs; None where nothing is tuned."""
        return cls(trials, max(1, math.ceil(epochs / SHARE))) if trials else None

    @property
    def key(self) -> Plain:
        """What of it variants share that may be compared."""
        return {"trials": self.trials, "epochs": self.epochs}

    def rates(self, given: float) -> tuple[float, ...]:
        """Return the learning rates that are tried: the given one first, then in turn below and above it.

        Three significant digits; shape (trials,).
        """
        powers = [0, *(sign * power for power in range(1, self.trials) for sign in (-1, 1))]
        return tuple(float(f"{given * STEP**power:.3g}") for power in powers[: self.trials])
