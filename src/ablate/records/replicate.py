"""Which repetition of a variant a trial is: what trials of two variants are paired by."""

from __future__ import annotations

from dataclasses import dataclass


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
