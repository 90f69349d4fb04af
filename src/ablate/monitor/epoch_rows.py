"""One trial while it trains: the rows of its history as they appear, and where it is within an epoch."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ablate.records.loading import load_object
from ablate.records.metrics import EpochRow
from ablate.records.records import number, value
from ablate.storage.layout import TrialFolder

MARK = 256  # bytes before the offset by which a file is known again


class Tail:
    """The rows that appear in a trial's history.

    Args:
        folder: The trial's folder.
        skip: Leave out what stands there now, because it is from an earlier try that is not continued.
    """

    def __init__(self, folder: Path, *, skip: bool = False) -> None:
        self._path = TrialFolder(folder).training.history
        self._offset = 0
        self._mark = b""
        self._last = 0
        if skip:
            self.new_rows()
            self._last = 0

    def new_rows(self) -> list[EpochRow]:
        """Return the rows that appeared since the last call, each epoch once.

        A file that was replaced or got shorter is read anew; a last line without its end waits; a line that is no
        row is left out.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset - len(self._mark))
                if file.read(len(self._mark)) != self._mark:
                    self._offset, self._mark = 0, b""
                    file.seek(0)
                text = file.read()
        except OSError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        self._mark = (self._mark + complete)[-MARK:]
        return [row for line in complete.splitlines() for row in self._unseen(line)]

    def _unseen(self, line: bytes) -> Iterator[EpochRow]:
        try:
            row = EpochRow(json.loads(line))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return
        if row.epoch > self._last:
            self._last = row.epoch
            yield row


class Watch:
    """One trial while it trains.

    Args:
        folder: The trial's folder.
        epochs: How many it will train, as far as known before it says so itself.
        skip: See `Tail`.
        after: Seconds since 1970; progress written then or earlier is that of an earlier try.

    Attributes:
        epoch: Finished epochs.
        epochs: How many it will train, or None.
        map50_95: The best so far, or None.
        seconds: What the finished epochs took.
        threads: Threads that it uses now and what it has on a quiet machine, where these differ; else None.
    """

    def __init__(
        self, folder: Path, epochs: int | None = None, *, skip: bool = False, after: float | None = None
    ) -> None:
        self.epoch = 0
        self.epochs = epochs
        self.map50_95: float | None = None
        self.seconds = 0.0
        self.threads: tuple[int, int] | None = None
        self._folder = folder
        self._after = after
        self._tail = Tail(folder, skip=skip)
        self._recent: deque[float] = deque(maxlen=5)
        self._batch = 0.0
        self._first: tuple[int, float, float] | None = None  # epoch, batch and time of its first look at an epoch
        self._guess: float | None = None  # seconds of an epoch, by the batches of the one in progress

    def update(self) -> list[EpochRow]:
        """Read what is new; return the new rows of the history."""
        rows = self._tail.new_rows()
        for row in rows:
            self.epoch = row.epoch
            self.epochs = row.epochs or self.epochs
            found = row.map50_95
            if found is not None:
                self.map50_95 = found if self.map50_95 is None else max(self.map50_95, found)
            seconds = max(row.seconds or 0.0, 0.0)
            self.seconds += seconds
            self._recent.append(seconds)
        self._batch = self._within_epoch()
        return rows

    @property
    def fraction(self) -> float:
        """How much of the training is done, 0 to 1, the epoch in progress included."""
        return min((self.epoch + self._batch) / self.epochs, 1.0) if self.epochs else 0.0

    @property
    def epochs_left(self) -> float | None:
        """Epochs still to train, less what is done of the one in progress."""
        return None if self.epochs is None else max(self.epochs - self.epoch - self._batch, 0.0)

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training still to come, by the last epochs, or by the batches of the first; None before that."""
        epoch = self.epoch_seconds
        return None if epoch is None or self.epochs_left is None else self.epochs_left * epoch

    @property
    def epoch_seconds(self) -> float | None:
        """Seconds that an epoch takes, by the last ones, or by the batches of the first; None before that."""
        return median(self._recent) if self._recent else self._guess

    def _within_epoch(self) -> float:
        progress = load_object(TrialFolder(self._folder).training.progress)
        batch, batches, time = (number(progress, key) for key in ("batch", "batches", "time"))
        if whole(progress, "epoch") != self.epoch + 1 or batch is None or not batches or time is None:
            return 0.0
        if self._after is not None and time <= self._after:
            return 0.0
        self.epochs = whole(progress, "epochs") or self.epochs
        now, usual = whole(progress, "threads"), whole(progress, "threads_usual")
        self.threads = (now, usual) if now and usual else None
        if self._first is None or self._first[0] != self.epoch:
            began = number(progress, "started")
            self._first = (self.epoch, batch, time) if began is None else (self.epoch, 0.0, began)
        _, before, then = self._first
        if batch > before and time > then:
            self._guess = (time - then) / (batch - before) * batches
        return min(max(batch / batches, 0.0), 1.0)


def whole(record: object, key: str) -> int | None:
    """Return a count that a record has under a key, None where it has none."""
    found = value(record, key)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
