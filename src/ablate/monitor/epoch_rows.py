"""One trial while it trains: the rows of its history as they appear, and its progress within an epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

from ablate.records.metrics import EpochRow
from ablate.settings.metric import MAP50_95, Metric
from ablate.storage.confined import LARGEST, open_plain, read_plain
from ablate.storage.json_text import parse_json
from ablate.storage.layout import TrialFolder

MARK = 256  # bytes before the offset by which a file is recognised


class BatchProgress(msgspec.Struct, frozen=True):
    """Content of `progress.json`: which batch of which epoch a training has begun.

    Attributes:
        epoch: The epoch, from 1.
        batch: The batch, from 1.
        batches: Batches in an epoch.
        time: When this was written, seconds since 1970.
        epochs: Epochs that will be trained.
        threads: Threads that the training uses now.
        threads_usual: Threads that it has on a quiet machine.
    """

    epoch: int
    batch: float
    batches: float
    time: float
    epochs: int | None = None
    threads: int | None = None
    threads_usual: int | None = None


def batch_progress(folder: Path) -> BatchProgress | None:
    """Return the progress that a trial's training wrote last; None where there is none that can be read."""
    try:
        return msgspec.json.decode(read_plain(TrialFolder(folder).training.progress), type=BatchProgress)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


class Tail:
    """The rows that appear in a trial's history.

    Args:
        folder: The trial's folder.
        skip: Leave out the rows that are there now, because they are of an earlier attempt that is not resumed.
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
            with open_plain(self._path) as file:
                file.seek(self._offset - len(self._mark))
                if file.read(len(self._mark)) != self._mark:
                    self._offset, self._mark = 0, b""
                    file.seek(0)
                text = file.read(LARGEST)
        except OSError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        self._mark = (self._mark + complete)[-MARK:]
        return [row for line in complete.splitlines() for row in self._unseen(line)]

    def _unseen(self, line: bytes) -> Iterator[EpochRow]:
        try:
            row = EpochRow(parse_json(line.decode(errors="replace")))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return
        if row.epoch > self._last:
            self._last = row.epoch
            yield row


class TrialProgress:
    """Progress of one trial while it trains.

    Args:
        folder: The trial's folder.
        epochs: How many it will train, as far as known before its files say so.
        skip: See `Tail`.
        after: Seconds since 1970; progress written then or earlier is of an earlier attempt.
        metric: The accuracy by which variants are compared.

    Attributes:
        epoch: Finished epochs.
        epochs: How many it will train, or None.
        accuracy: Of the best epoch so far, which has the highest mAP50-95; None before one has it.
        seconds: What the finished epochs took.
        threads: Threads that it uses now and what it has on a quiet machine, where these differ; else None.
    """

    def __init__(
        self,
        folder: Path,
        epochs: int | None = None,
        *,
        skip: bool = False,
        after: float | None = None,
        metric: Metric = MAP50_95,
    ) -> None:
        self.epoch = 0
        self.epochs = epochs
        self.accuracy: float | None = None
        self._metric = metric
        self._best = 0.0
        self.seconds = 0.0
        self.threads: tuple[int, int] | None = None
        self._folder = folder
        self._after = after
        self._tail = Tail(folder, skip=skip)
        self._recent: deque[float] = deque(maxlen=5)
        self._batch = 0.0
        self._first: BatchProgress | None = None  # as it was first seen in the epoch in progress
        self._guess: float | None = None  # seconds of an epoch, by the batches of the one in progress

    def update(self) -> list[EpochRow]:
        """Read what is new; return the new rows of the history."""
        rows = self._tail.new_rows()
        for row in rows:
            self.epoch = row.epoch
            self.epochs = row.epochs or self.epochs
            if row.map50_95 is not None and row.map50_95 >= self._best:
                self._best, self.accuracy = row.map50_95, row.value(self._metric)
            seconds = max(row.seconds or 0.0, 0.0)
            self.seconds += seconds
            self._recent.append(seconds)
        self._batch = self._within_epoch()
        return rows

    @property
    def fraction(self) -> float:
        """Share of the training that is done, 0 to 1, the epoch in progress included."""
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
        """Read how much of the epoch in progress is done, 0 to 1."""
        now = batch_progress(self._folder)
        if now is None or now.epoch != self.epoch + 1 or now.batches <= 0:
            return 0.0
        if self._after is not None and now.time <= self._after:
            return 0.0
        self.epochs = now.epochs or self.epochs
        self.threads = (now.threads, now.threads_usual) if now.threads and now.threads_usual else None
        if self._first is None or self._first.epoch != now.epoch:
            self._first = now
        seconds, batches = now.time - self._first.time, now.batch - self._first.batch
        if seconds > 0 and batches > 0:
            self._guess = seconds / batches * now.batches
        return min(max(now.batch / now.batches, 0.0), 1.0)
