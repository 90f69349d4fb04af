"""Which repetition of a variant a trial is: what trials of two variants are paired by."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OF_A_NAME = re.compile(r" s(\d+)(?: f(\d+))?$")


@dataclass(frozen=True)
class Replicate:
    """A repetition of a variant; sorted by seed, then fold.

    Attributes:
        seed: Of the training.
        fold: Which part of the images it was evaluated on; None where there are no folds.
    """

    seed: int
    fold: int | None = None

    def __lt__(self, other: Replicate) -> bool:
        return self._place < other._place

    def __str__(self) -> str:
        return str(self.seed) if self.fold is None else f"{self.seed} f{self.fold}"

    @property
    def in_words(self) -> str:
        """Its seed, and its fold where there are some."""
        return f"seed {self.seed}" if self.fold is None else f"seed {self.seed}, fold {self.fold}"

    @property
    def _place(self) -> tuple[int, int]:
        return self.seed, -1 if self.fold is None else self.fold


def split_name(name: str) -> tuple[str, Replicate | None]:
    """The variant of a trial's name, such as "eca@head musgd s0 f2", and which of its repetitions that is.

    The repetition is None where a name does not say it.
    """
    found = _OF_A_NAME.search(name)
    if found is None:
        return name, None
    seed, fold = found.groups()
    return name[: found.start()], Replicate(int(seed), None if fold is None else int(fold))
