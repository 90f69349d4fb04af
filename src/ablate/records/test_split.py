"""What was measured on the test split, and the ledger of its openings.

A test split answers once. Whoever measures on it twice, with other networks, can choose between the answers; so every
opening is a line of `test_ledger.jsonl` in the output folder, written before anything is measured. Each line has the
hash of the one before it: a line that was changed or taken from the middle breaks the chain. The last lines can be
removed unseen, except that each `test.json` names the line that it belongs to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from ablate.errors import count
from ablate.records.json_struct import ABSENT, JsonStruct, from_json, to_json, written
from ablate.records.metrics import ClassMetrics, Metrics
from ablate.records.trial_record import Record, TrialRecord
from ablate.settings.judge import LAST
from ablate.storage.confined import read_plain
from ablate.storage.files import atomic_write_bytes, atomic_write_json
from ablate.storage.json_text import parse_json
from ablate.storage.layout import OutputFolder, TrialFolder

OPENED, FINISHED = "opened", "finished"


class LedgerLine(JsonStruct, frozen=True, kw_only=True):
    """A line of the ledger.

    Attributes:
        event: "opened" before anything is measured, "finished" once all checkpoints are.
        time: ISO time.
        sweep: Name of the sweep.
        data: Fingerprint of the data set.
        data_name: Its name.
        checkpoints: SHA-256 of the checkpoint by trial's signature.
        command: That opened it, without the output folder; empty where an older version did.
        version: Of ablate.
        previous: `hash` of the line before; empty in the first one.
        hash: SHA-256 of all other fields.
    """

    event: Annotated[str, msgspec.Meta(pattern=f"^({OPENED}|{FINISHED})$")]
    time: str
    sweep: str
    data: str
    data_name: str = written("")
    checkpoints: dict[str, str]
    command: str = ""
    version: str = ""
    previous: str
    hash: str = written("")

    @property
    def own_hash(self) -> str:
        """The hash that it should have."""
        content = to_json(msgspec.structs.replace(self, hash=""))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Ledger:
    """The lines that can be read.

    Attributes:
        lines: In their order.
        damage: What was changed after it was written, in words; empty where the chain holds.
    """

    lines: tuple[LedgerLine, ...] = ()
    damage: str = ""

    def openings(self, data: str) -> list[LedgerLine]:
        """Each opening of the test split of the data with this fingerprint."""
        return [line for line in self.lines if line.event == OPENED and line.data == data]

    def opening_of(self, data: str, checkpoints: Mapping[str, str]) -> LedgerLine | None:
        """The opening that measured, or was to measure, all of these checkpoints."""
        return next((o for o in self.openings(data) if checkpoints.items() <= o.checkpoints.items()), None)

    def is_finished(self, opening: LedgerLine) -> bool:
        """Whether all checkpoints of an opening were measured."""
        return any(
            line.event == FINISHED and line.data == opening.data and line.checkpoints == opening.checkpoints
            for line in self.lines
        )


def read_ledger(path: Path) -> Ledger:
    """Read a ledger; a missing one is empty. Raises OSError where it cannot be read."""
    try:
        texts = read_plain(path).decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return Ledger()
    lines: list[LedgerLine] = []
    damage, previous = "", ""
    for number, text in enumerate(texts, start=1):
        try:
            line = from_json(parse_json(text), LedgerLine)
        except ValueError:
            damage = damage or f"line {number} cannot be read"
            continue
        if line.hash != line.own_hash:
            damage = damage or f"line {number} was changed"
        elif line.previous != previous:
            damage = damage or f"a line before line {number} was changed or removed"
        previous = line.hash
        lines.append(line)
    return Ledger(tuple(lines), damage)


def append_line(path: Path, line: LedgerLine) -> LedgerLine:
    """Add a line to a ledger, whole or not at all; the caller holds its lock. Return it with its hashes."""
    try:
        before = read_plain(path)
    except FileNotFoundError:
        before = b""
    lines = read_ledger(path).lines
    line = msgspec.structs.replace(line, previous=lines[-1].hash if lines else "")
    line = msgspec.structs.replace(line, hash=line.own_hash)
    if before and not before.endswith(b"\n"):
        before += b"\n"
    atomic_write_bytes(path, before + json.dumps(to_json(line)).encode() + b"\n")
    return line


class TestEvaluation(JsonStruct, frozen=True, kw_only=True):
    """How a trial's checkpoint did on the test split: `test.json`.

    Attributes:
        signature: Of the trial.
        checkpoint: "best" or "last".
        sha256: Of the checkpoint.
        data: Fingerprint of the data set.
        opening: `hash` of the ledger's line.
        images: How many were evaluated.
        metrics, per_class: Accuracies, over all classes and of each.
        predictions: On every image, relative to the trial's folder.
        time: ISO time.
    """

    __test__ = False

    signature: str
    checkpoint: str
    sha256: str
    data: str
    opening: str
    images: int
    metrics: Metrics
    per_class: tuple[ClassMetrics, ...] = ABSENT
    predictions: str
    time: str = ""


def save_test(folder: TrialFolder, evaluation: TestEvaluation) -> None:
    """Write how a trial did on the test split. Raises OSError when the disk refuses."""
    atomic_write_json(folder.test, to_json(evaluation))


def load_test(folder: TrialFolder) -> TestEvaluation | None:
    """Read how a trial did on the test split; None where that is not there, damaged, or another trial's."""
    try:
        text = read_plain(folder.test).decode("utf-8", errors="replace")
        evaluation = from_json(parse_json(text), TestEvaluation)
    except (OSError, ValueError):
        return None
    return evaluation if evaluation.signature == folder.signature else None


@dataclass(frozen=True)
class TestedTrial:
    """What a trial's checkpoint does on the test split, and on the validation images."""

    __test__ = False

    evaluation: TestEvaluation
    validation: Metrics


@dataclass(frozen=True)
class TestResults:
    """What is on disk of a sweep's test split, which was opened.

    Attributes:
        ledger: Of the output folder.
        trials: By signature; a trial that was not measured, or was trained anew since, has none. There are none where
            an opening was interrupted before it had measured a checkpoint.
        outdated: Signatures of those that were trained anew since.
    """

    __test__ = False

    ledger: Ledger
    trials: Mapping[str, TestedTrial]
    outdated: tuple[str, ...] = ()

    def openings_for(self, signatures: Iterable[str]) -> list[LedgerLine]:
        """The openings that named the checkpoints of any of these trials."""
        wanted = set(signatures)
        return [line for line in self.ledger.lines if line.event == OPENED and wanted & line.checkpoints.keys()]


def load_test_results(root: OutputFolder, records: Sequence[Record]) -> TestResults | None:
    """Read what a sweep's trials did on the test split; None where no test split was opened for them.

    Args:
        root: The output folder.
        records: Of the trials, with the accuracies that they have on disk.
    """
    trials: dict[str, TestedTrial] = {}
    outdated = []
    for record in records:
        folder = root.trial(record.signature)
        if not isinstance(record, TrialRecord) or not folder.test.is_file() or (one := load_test(folder)) is None:
            continue
        if record.finished and one.time and record.finished > one.time:
            outdated.append(record.signature)
        else:
            validation = record.metrics_last if one.checkpoint == LAST else record.metrics
            trials[record.signature] = TestedTrial(one, validation)
    try:
        ledger = read_ledger(root.test_ledger)
    except OSError as error:
        ledger = Ledger(damage=f"it cannot be read ({error.strerror})")
    results = TestResults(ledger, trials, tuple(outdated))
    return results if trials or results.openings_for(record.signature for record in records) else None


def openings_note(number: int, damage: str) -> str:
    """What tables of a test split that is no longer sealed say of it; empty where it was opened once."""
    parts = [f"the test split has been opened {count(number, 'time')}"] if number > 1 else []
    parts += [f"its ledger was tampered with: {damage}"] if damage else []
    return "; ".join(parts)
