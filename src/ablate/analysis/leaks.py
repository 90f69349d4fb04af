"""How many of the images that a sweep was judged on show what a training image shows, by the audit of the data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.analysis.comparison import Comparison
from ablate.analysis.variants import is_measured
from ablate.records.audit_record import AuditRecord, load_audit, split_of
from ablate.records.predictions import load_predictions, predictions_path
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord

TRAIN = "train"
PLACE = "images/"  # before the split in the name of an image
OF_FOLD = "images/val/"  # before the split that it comes from in the name of a fold's image


@dataclass(frozen=True)
class Leaks:
    """The leaks of one data set, as far as they reach what was judged.

    Attributes:
        data: Its name.
        split: The split that was judged; empty over folds.
        images: How many images were judged, by the audit.
        leaking: How many of them show what an image shows that was trained on when they were judged.
        pairs: Of such images.
        command: That shows them.
        problem: Why the audit says nothing, in words; empty where it does.
    """

    data: str
    split: str
    images: int
    leaking: int
    pairs: int
    command: str
    problem: str = ""


def leaks_of(comparison: Comparison) -> list[Leaks]:
    """The leaks that audits in the sweep's output folder found, for each data set and split that was judged.

    A data set without an audit, or without leaks, has no entry.
    """
    sweep = comparison.sweep
    measured = [record for record in sweep.trials if is_measured(record, comparison.metric)]
    by_data: dict[str, list[TrialRecord]] = {}
    for record in measured:
        if record.data is not None and record.data.fingerprint:
            by_data.setdefault(record.data.fingerprint, []).append(record)
    found = []
    for fingerprint, records in by_data.items():
        folder, command = sweep.folder.root.audit(fingerprint), _command(sweep, records[0])
        name = records[0].data.name if records[0].data else ""
        try:
            audit = load_audit(folder)
        except ValueError as error:
            found.append(Leaks(name, "", 0, 0, 0, command, f"{folder.record.name}: {error}"))
            continue
        if audit is None or audit.fingerprint != fingerprint:
            continue
        if any(record.fold is not None for record in records):
            found += _between_folds(sweep, audit, records, name, command)
            continue
        judged = dict.fromkeys([*(record.metrics.split for record in records), "test" if comparison.on_test else ""])
        found += [_between_splits(audit, split, name, command) for split in judged if split and split != TRAIN]
    return [one for one in found if one.leaking or one.problem]


def _between_splits(audit: AuditRecord, split: str, name: str, command: str) -> Leaks:
    pairs = [pair for pair in audit.leaks if set(pair.splits) == {TRAIN, split}]
    leaking = {image for pair in pairs for image in (pair.first, pair.second) if split_of(image) == split}
    return Leaks(name, split, audit.images.get(split, 0), len(leaking), len(pairs), command)


def _between_folds(
    sweep: Sweep, audit: AuditRecord, records: Sequence[TrialRecord], name: str, command: str
) -> list[Leaks]:
    """The pairs whose images are in different folds; none where it is not known which image is in which fold."""
    fold_of: dict[str, int] = {}
    for fold in sorted({record.fold for record in records if record.fold is not None}):
        for image in _judged_images(sweep, [record for record in records if record.fold == fold]):
            fold_of[PLACE + image.removeprefix(OF_FOLD)] = fold
    pairs = [
        pair
        for pair in audit.pairs
        if pair.first in fold_of and pair.second in fold_of and fold_of[pair.first] != fold_of[pair.second]
    ]
    leaking = {image for pair in pairs for image in (pair.first, pair.second)}
    return [Leaks(name, "", len(fold_of), len(leaking), len(pairs), command)]


def _judged_images(sweep: Sweep, records: Sequence[TrialRecord]) -> list[str]:
    """Names of the images that one of these trials was judged on: of the first whose predictions can be read."""
    for record in records:
        path = predictions_path(record, sweep.folder.trial(record.signature).path)
        try:
            if path is not None:
                return [str(image) for image in load_predictions(path).names.tolist()]
        except (OSError, ValueError):
            continue
    return []


def _command(sweep: Sweep, record: TrialRecord) -> str:
    """The command that audits the data set of a trial, with the words of the sweep's command that it needs.

    All words are quoted: a stranger may have written the records, and a reader pastes the command into a shell.
    """
    path = record.setting("data", "path")
    try:
        words = shlex.split(sweep.command)
    except ValueError:  # a quote without an end
        words = []
    own = [path] if isinstance(path, str) and path else [f"data={record.setting('data', 'name') or ''}"]
    kept = ("root=",) if own == [path] else ("data.", "root=")
    return shlex.join(["python", "-m", "ablate", "data", "audit", *own, *(w for w in words if w.startswith(kept))])
