"""A trial that a command runs, and one attempt at it, as the live display follows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablate.monitor.epoch_rows import TrialProgress
from ablate.storage.layout import TrialFolder
from ablate.storage.locking import Owner, owner_of


@dataclass(frozen=True)
class Item:
    """A trial that a command will run.

    Attributes:
        name: The trial for people.
        signature: Its identity.
        folder: Where it writes.
        epochs: How many it trains.
        size: FLOPs of its network, relative to those of another trial's.
        expected: Seconds that it will take, as far as that is known before.
    """

    name: str
    signature: str
    folder: Path
    epochs: int
    size: float = 1.0
    expected: float | None = None


@dataclass
class Attempt:
    """One attempt at a trial, from its start to its end.

    Attributes:
        item: The trial.
        progress: Read from its folder.
        device: Where it runs.
        resumed: The last epoch of the attempt that it resumes from, or 0.
        reported: The last epoch that `Live.poll` has returned, in this attempt or an earlier one.
        owner: Who held the trial's lock before this attempt tried to take it, as long as that is so.
        shown: Whether it is known to run; false while it may only be waiting for another command.
        started: By the clock.
        trained: Seconds of its own epochs.
        threads: What was last printed of its threads (see `TrialProgress.threads`).
    """

    item: Item
    progress: TrialProgress
    device: str
    resumed: int
    reported: int
    owner: Owner | None
    shown: bool
    started: float
    trained: float = 0.0
    threads: tuple[int, int] | None = None

    def is_elsewhere(self) -> bool:
        """Return whether the lock still has the owner that it had before this attempt tried to take it."""
        if self.owner is None:
            return False
        now = owner_of(TrialFolder(self.item.folder).lock)
        if (now.host, now.pid, now.since) != (self.owner.host, self.owner.pid, self.owner.since):
            self.owner = None
        return self.owner is not None
