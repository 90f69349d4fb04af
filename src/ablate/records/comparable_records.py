"""Records of finished trials on disk that were configured as a command's trials are, but for graft, loss and seed."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from ablate.records.loading import DamagedRecordError, load_record
from ablate.records.trial_record import FINISHED, TrialRecord
from ablate.storage.confined import open_plain
from ablate.storage.layout import OutputFolder, TrialFolder

HEAD = 4096  # bytes of a record in which its comparison key stands, so that other records are not read whole
MOST = 300  # records that are read: the newest


def comparable_records(root: Path, keys: Collection[str]) -> list[TrialRecord]:
    """Return the finished trials of these comparison keys, each signature once.

    Args:
        root: The command's output folder; those beside it are searched too.
        keys: Comparison keys of the command's trials.
    """
    wanted = [key.encode() for key in keys]
    trials: dict[str, tuple[float, TrialFolder]] = {}
    for folder in _output_folders(root):
        for trial in folder.trial_folders():
            head = _head(trial.result)
            if trial.signature not in trials and any(key in head for key in wanted):
                trials[trial.signature] = (trial.result.stat().st_mtime, trial)
    newest = sorted(trials.values(), key=lambda one: one[0], reverse=True)[:MOST]
    records = []
    for _, trial in newest:
        with contextlib.suppress(FileNotFoundError, DamagedRecordError):
            record = load_record(trial.path)
            if record.status == FINISHED and record.is_ours and record.comparison_key in keys:
                records.append(record)
    return records


def _output_folders(root: Path) -> Iterator[OutputFolder]:
    """Yield the output folder and those beside it, whose folders of trials are no links."""
    yield OutputFolder(root)
    with contextlib.suppress(OSError):
        for path in sorted(root.parent.iterdir()):
            folder = OutputFolder(path)
            if path != root and not path.is_symlink() and folder.trials.is_dir() and not folder.trials.is_symlink():
                yield folder


def _head(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with open_plain(path) as file:
            return file.read(HEAD)
    except OSError:
        return b""
