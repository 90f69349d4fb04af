"""The fold of a cross-validation that a trial is evaluated on: `folds=5`, and `split` says how images are divided.

The images of train and val together are divided into as many parts; a trial is trained on all but one of them and
evaluated on that one. The test split takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablate.storage.plain_values import Plain

RANDOM, GROUPS = "random", "groups"
TABLES = (".csv", ".json")  # of the user's own groups
MOST = 20
VALID = "random, groups (those of python -m ablate data audit), or a file of groups (.csv or .json)"


@dataclass(frozen=True)
class Fold:
    """Which fold a trial is evaluated on.

    Attributes:
        folds: How many parts the images are divided into.
        index: Which of them the trial is evaluated on, from 0.
        by_groups: Whether images that belong together are in one part.
        assignment: Hash of which image is in which part; empty as long as the images were not looked at.
    """

    folds: int
    index: int = 0
    by_groups: bool = False
    assignment: str = ""

    @classmethod
    def of_command(cls, folds: int, split: str) -> Fold | None:
        """Return the first fold that `folds=` and `split=` mean; None where there are none."""
        return cls(folds, by_groups=split != RANDOM) if folds else None

    @property
    def key(self) -> Plain:
        """What of it variants and folds share that may be compared: how the images are divided, whatever by."""
        return {"folds": self.folds, "assignment": self.assignment}


def is_table(split: str) -> bool:
    """Tell whether `split` names a file of groups."""
    return split.lower().endswith(TABLES)
