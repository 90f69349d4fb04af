"""`python -m ablate test`: measure a sweep's checkpoints on the sealed test split, once, and compare them there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from ablate import __version__
from ablate.console import print_line
from ablate.data.catalogue import DataSet, resolve
from ablate.data.data_settings import DataSettings
from ablate.data.plain_paths import plain_path
from ablate.errors import ConfigError, count
from ablate.execution.evaluate_on_test import EVALUATE, TestJob
from ablate.latency.sweep_latency import edited_since
from ablate.launching.jobs import Observer, Outcome
from ablate.launching.local import run_in_worker
from ablate.records.loading import load_sweep
from ablate.records.sweep_record import Sweep
from ablate.records.test_split import FINISHED as MEASURED
from ablate.records.test_split import (
    OPENED,
    Ledger,
    LedgerLine,
    TestEvaluation,
    append_line,
    load_test,
    read_ledger,
)
from ablate.records.trial_record import FINISHED, TrialRecord, short
from ablate.settings.judge import BEST, LAST
from ablate.storage.confined import inside
from ablate.storage.files import file_sha256
from ablate.storage.layout import OutputFolder
from ablate.storage.locking import Held, lock

MOST = 3  # trials that a message names


@dataclass(frozen=True)
class TestOptions:
    """The words of `ablate test`.

    Attributes:
        again: Open a test split that other checkpoints were measured on before.
        device: Where to measure; None: where the trials were trained.
        trust: Whether checkpoints may name what is no part of a network.
    """

    __test__ = False

    again: bool = False
    device: str | None = None
    trust: bool = False

    def command_on(self, sweep: str) -> str:
        """The command that has these words, without the output folder, which is a place on this machine."""
        words = ["again=true"] if self.again else []
        words += [f"device={self.device}"] if self.device else []
        words += ["trust_weights=true"] if self.trust else []
        return shlex.join(["python", "-m", "ablate", "test", sweep, *words])


@dataclass(frozen=True)
class _Opening:
    """The trials of a sweep on one data set, and their checkpoints' hashes by signature."""

    data: DataSet
    fingerprint: str
    trials: tuple[TrialRecord, ...]
    checkpoints: Mapping[str, str]


def open_test_split(directory: Path, options: TestOptions, console: Console) -> None:
    """Measure the judged checkpoints of a sweep on the test split of their data.

    What was measured before is not measured again. An opening that was interrupted is continued.

    Raises:
        ConfigError: A trial is not finished, a checkpoint is missing, the data has no test split, or that was opened
            before for other checkpoints.
    """
    sweep = load_sweep(directory)
    judge = sweep.manifest.analysis.judge
    checkpoint = LAST if judge == LAST else BEST
    openings = _openings(sweep, checkpoint)
    with ExitStack() as stack:
        ledger = _locked(sweep.folder.root, stack)
        for opening in openings:
            _check_sealed(ledger, opening, options)
        if ledger.damage:
            name = sweep.folder.root.test_ledger.name
            print_line(console, f"test: {name} was tampered with: {ledger.damage}", "yellow")
        for opening in openings:
            ledger = _measure(sweep, opening, checkpoint, options, console)
    if judge not in (BEST, LAST):
        print_line(console, f"test: judge={judge} has no single checkpoint; measured: that of the best epoch")
    for opening in openings:
        number = len(ledger.openings(opening.fingerprint))
        images = count(opening.data.images["test"], "image")
        times = "once" if number == 1 else f"{number} times"
        print_line(console, f"test split of {opening.data.name}, {images}, opened {times}")


def _locked(root: OutputFolder, stack: ExitStack) -> Ledger:
    """Return the ledger, which is this command's own until the stack is left.

    Raises:
        ConfigError: Another command has it, or it cannot be read or written.
    """
    try:
        with _telling(root.test_ledger):
            stack.enter_context(lock(root.test_ledger_lock))
            return read_ledger(root.test_ledger)
    except Held as error:
        raise ConfigError(f"test: another command measures on a test split of {root.path} now ({error})") from None


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Tell what the system refuses of the ledger, and of nothing else."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"test: {path}: {error.strerror or error}") from error


def _openings(sweep: Sweep, checkpoint: str) -> list[_Opening]:
    """Return what is to be measured, by data set; everything that can be checked before a line is written is."""
    by_data: dict[str, list[TrialRecord]] = {}
    for record in _finished(sweep):
        data = record.data
        if record.fold is not None:
            raise ConfigError(
                f"test: {record.name} was trained without a part of the images, for a cross-validation; train the "
                "variants on all of them first, which is the same command without folds="
            )
        if record.setting("train", "split") == "test":
            raise ConfigError(f"test: {record.name} was trained with train.split=test: nothing is held out")
        if data is None or not data.fingerprint:
            raise ConfigError(f"test: the record of {record.name} lacks its data's fingerprint")
        if problem := edited_since(record):
            raise ConfigError(f"test: {record.name}: {problem}")
        by_data.setdefault(data.fingerprint, []).append(record)
    openings = []
    for fingerprint, trials in by_data.items():
        settings = trials[0].config.get("data")
        if not isinstance(settings, dict):
            raise ConfigError(f"test: the record of {trials[0].name} lacks the settings of its data")
        found = resolve(DataSettings.from_plain(settings))
        if found.fingerprint != fingerprint:
            raise ConfigError(f"test: data {found.name} was changed since {trials[0].name} was trained on it")
        if not found.images.get("test"):
            raise ConfigError(f"test: data {found.name} has no test split; it has {', '.join(found.images)}")
        hashes = {record.signature: file_sha256(_file(sweep, record, checkpoint)) for record in trials}
        openings.append(_Opening(found, fingerprint, tuple(trials), hashes))
    return openings


def _finished(sweep: Sweep) -> list[TrialRecord]:
    """Return the sweep's records, all of which must be finished."""
    finished = [t for t in sweep.trials if isinstance(t, TrialRecord) and t.status == FINISHED and t.is_ours]
    ended = {record.signature for record in finished}
    names = {record.signature: record.name for record in sweep.trials} | dict(sweep.manifest.names)
    open_ones = [names.get(s) or short(s) for s in sweep.signatures if s not in ended]
    if open_ones or not finished:
        more = f" and {len(open_ones) - MOST} more" if len(open_ones) > MOST else ""
        which = f": {', '.join(open_ones[:MOST])}{more}" if open_ones else ""
        number = f"{len(open_ones)} of {len(sweep.signatures)} trials of {sweep.name} are not finished{which}"
        raise ConfigError(f"test: {number}; a test split is opened once, for all: python -m ablate status {sweep.name}")
    return finished


def _file(sweep: Sweep, record: TrialRecord, checkpoint: str) -> Path:
    folder = sweep.folder.trial(record.signature)
    path = inside(folder.path, folder.last if checkpoint == LAST else record.artifacts.best or folder.best)
    if path is None or not path.is_file():
        raise ConfigError(f"test: the checkpoint of {record.name} is not there: {path or record.artifacts.best}")
    return path


def _check_sealed(ledger: Ledger, opening: _Opening, options: TestOptions) -> None:
    """Refuse a test split that was opened for other checkpoints.

    Raises:
        ConfigError: It was.
    """
    before = ledger.openings(opening.fingerprint)
    if not before or options.again or ledger.opening_of(opening.fingerprint, opening.checkpoints):
        return
    last = before[-1]
    raise ConfigError(
        f"test: the test split of {opening.data.name} was opened before ({count(len(before), 'time')}) for other "
        f"checkpoints, last at {last.time} by sweep {last.sweep}; again=true opens it again, and every table says so"
    )


def _measure(sweep: Sweep, opening: _Opening, checkpoint: str, options: TestOptions, console: Console) -> Ledger:
    """Measure what was not measured yet; the ledger has a line before and after. Return it as it is then."""
    path = sweep.folder.root.test_ledger
    with _telling(path):
        ledger = read_ledger(path)
        line = ledger.opening_of(opening.fingerprint, opening.checkpoints)
        if line is None:
            line = append_line(path, _line(OPENED, sweep, opening, options))
    jobs = []
    for record in opening.trials:
        folder = sweep.folder.trial(record.signature)
        if _measured(sweep, record, opening) is None:
            jobs.append(
                TestJob(
                    folder=plain_path(folder.path),
                    record=record,
                    checkpoint=checkpoint,
                    path=plain_path(_file(sweep, record, checkpoint)),
                    sha256=opening.checkpoints[record.signature],
                    opening=line.hash,
                    data_file=opening.data.yaml,
                    data=opening.fingerprint,
                    device=options.device,
                    trust=options.trust,
                )
            )
    if jobs:
        print_line(console, f"test: measuring {count(len(jobs), 'checkpoint')} on {opening.data.name}'s test split")
        outcomes = run_in_worker(EVALUATE, jobs, Observer(end=lambda index, end: _say(console, jobs[index], end)))
        if failed := [o for o in outcomes if o.failure]:
            more = "; the same command, given again, goes on: the split counts as opened once"
            raise ConfigError(f"test: {count(len(failed), 'checkpoint')} not measured: {failed[0].message}{more}")
    with _telling(path):
        if not ledger.is_finished(line) and dict(opening.checkpoints) == line.checkpoints:
            append_line(path, _line(MEASURED, sweep, opening, options))
        return read_ledger(path)


def _line(event: str, sweep: Sweep, opening: _Opening, options: TestOptions) -> LedgerLine:
    return LedgerLine(
        event=event,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        sweep=sweep.name,
        data=opening.fingerprint,
        data_name=opening.data.name,
        checkpoints=dict(opening.checkpoints),
        command=options.command_on(sweep.folder.path.name),
        version=__version__,
        previous="",
    )


def _say(console: Console, job: TestJob, outcome: Outcome) -> None:
    if not outcome.failure:
        print_line(console, f"test: {job.record.name}, {count(outcome.result, 'image')}")


def _measured(sweep: Sweep, record: TrialRecord, opening: _Opening) -> TestEvaluation | None:
    """Return what is on disk of a checkpoint; None where it is of another one, or of other data."""
    found = load_test(sweep.folder.trial(record.signature))
    if found is None or found.sha256 != opening.checkpoints[record.signature] or found.data != opening.fingerprint:
        return None
    return found
