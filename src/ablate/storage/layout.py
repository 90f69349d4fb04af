"""Names and places of all files below the output folder (`multirun/`): nothing else spells them.

multirun/trials/<signature>/     one trial, see `TrialFolder`
multirun/trials/<signature>.lock who trains it
multirun/sweeps/<name>/          one command, see `SweepFolder`
multirun/audits/<fingerprint>/   the audit of one data set, see `AuditFolder`
multirun/latency_matches/        stock networks that are as slow as a graft, see `MatchFile`
multirun/mlflow.db, mlartifacts  MLflow's store, where no other is asked for
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ablate.storage.confined import leads_out

TRIALS, SWEEPS, ARTIFACTS, AUDITS = "trials", "sweeps", "mlartifacts", "audits"
MATCHES = "latency_matches"
TRAINING: Final = "train"  # Ultralytics' folder within a trial's
LOG: Final = "train.log"
LAST: Final = f"{TRAINING}/weights/last.pt"
BEST: Final = f"{TRAINING}/weights/best.pt"
PREDICTIONS: Final = "evidence"  # a folder within Ultralytics'
SAMPLES: Final = "samples"
REPORT: Final = "comparison"
TEST_REPORT: Final = "comparison_test.csv"
REPORT_FORMS: Final = ("csv", "md", "tex", "ipynb")  # of the report, besides HTML
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
FOREIGN: Final = "last-of-"  # how the name of another trial's checkpoint begins that lay in this trial's place


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial; paths in its record are relative to it."""

    path: Path

    @property
    def signature(self) -> str:
        """The trial's signature, which is the folder's name."""
        return self.path.name

    @property
    def root(self) -> OutputFolder:
        """The output folder that it is in."""
        return OutputFolder(self.path.parent.parent)

    @property
    def lock(self) -> Path:
        """The file that says who trains this trial."""
        return self.path.with_suffix(".lock")

    @property
    def result(self) -> Path:
        """The trial's record."""
        return self.path / "result.json"

    @property
    def result_copy(self) -> Path:
        """The copy of the record, which speaks for it where it is damaged."""
        return self.path / "result.backup.json"

    @property
    def run_link(self) -> Path:
        """Which MLflow run has the record, and whether that is running, stopped or complete."""
        return self.path / "mlflow.json"

    @property
    def tries(self) -> Path:
        """When, where and from which epoch the trial was started."""
        return self.path / "tries.json"

    @property
    def groups(self) -> Path:
        """Which of the evaluated images belong together, as it was when the training began."""
        return self.path / "groups.json"

    @property
    def log(self) -> Path:
        """What the training printed."""
        return self.path / LOG

    @property
    def system(self) -> Path:
        """What the machine did while the trial trained: a line for each sample."""
        return self.path / "system.jsonl"

    @property
    def config(self) -> Path:
        """The settled configuration."""
        return self.path / "config.yaml"

    @property
    def model(self) -> Path:
        """The trained network as text."""
        return self.path / "model.txt"

    @property
    def parameter_groups(self) -> Path:
        """The optimizer's groups."""
        return self.path / "parameter_groups.json"

    @property
    def git_diff(self) -> Path:
        """How the user's repository differed from its commit."""
        return self.path / "git.diff"

    @property
    def samples(self) -> Path:
        """The folder of sample images."""
        return self.path / SAMPLES

    @property
    def training(self) -> TrainingFolder:
        """Ultralytics' folder."""
        return TrainingFolder(self.path / TRAINING)

    @property
    def last(self) -> Path:
        """The checkpoint that a training is continued from."""
        return self.path / LAST

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.path / BEST

    @property
    def test(self) -> Path:
        """How a checkpoint did on the test split."""
        return self.path / "test.json"

    def foreign(self, signature: str) -> Path:
        """Return where another trial's checkpoint is put that lay in this trial's place."""
        return self.path / f"{FOREIGN}{signature}.pt"

    def outlives_a_try(self, path: Path) -> bool:
        """Tell whether a file in this folder stays when the trial starts anew: it tells of the earlier tries."""
        return path in (self.log, self.tries, self.system) or path.name.startswith(FOREIGN)

    def kept_files(self, *, with_diff: bool) -> Iterator[Path]:
        """Yield the files worth keeping beside the record's artifacts, as far as they are there and of this folder."""
        diff = [self.git_diff] if with_diff else []
        for path in (self.result, self.config, self.model, self.parameter_groups, *diff, self.log):
            if path.is_file() and not leads_out(path, self.path):
                yield path

    def name_of(self, path: Path) -> str:
        """Return a file's path relative to this folder, as a record names it."""
        return path.relative_to(self.path).as_posix()


@dataclass(frozen=True)
class TrainingFolder:
    """Ultralytics' folder of one training."""

    path: Path

    @property
    def history(self) -> Path:
        """A line for each epoch."""
        return self.path / "history.jsonl"

    @property
    def progress(self) -> Path:
        """Where in an epoch the training is."""
        return self.path / "progress.json"

    @property
    def report(self) -> Path:
        """What the training really was, once it is over."""
        return self.path / "realised.json"

    @property
    def failure(self) -> Path:
        """The failure that a process of a distributed training met."""
        return self.path / "failure.json"

    @property
    def progress_draft(self) -> Path:
        """What becomes `progress`."""
        return self.path / f".progress.json.{os.getpid()}.tmp"

    def predictions(self, checkpoint: str) -> Path:
        """Return the file of a checkpoint's predictions on every image."""
        return self.path / predictions_name(checkpoint)


def located(sweep: Path) -> Path:
    """Return the absolute path of a sweep's folder beside its trials, where `sweeps` is a link too."""
    path = Path(os.path.abspath(sweep))  # noqa: PTH100 - resolve() would follow links
    return path if (path.parent.parent / TRIALS).is_dir() and not path.is_symlink() else path.resolve()


def report_name(form: str) -> str:
    """Return the name of the comparison's file in a form, such as "csv"."""
    return f"{REPORT}.{form}"


def predictions_name(checkpoint: str) -> str:
    """Return the file of a checkpoint's predictions, relative to the training's folder."""
    return f"{PREDICTIONS}/{checkpoint}.npz"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep."""

    path: Path

    @property
    def root(self) -> OutputFolder:
        """The output folder that it is in."""
        return OutputFolder(self.path.parent.parent)

    @property
    def manifest(self) -> Path:
        """Which trials the sweep consists of."""
        return self.path / "sweep.json"

    @property
    def latency(self) -> Path:
        """Latency of its variants."""
        return self.path / "latency.json"

    @property
    def driver_log(self) -> Path:
        """Log messages of the commands that ran the sweep."""
        return self.path / "driver.log"

    @property
    def image_intervals(self) -> Path:
        """Intervals over images, which take long to compute."""
        return self.path / "image_intervals.json"

    @property
    def test_intervals(self) -> Path:
        """The same on the test split."""
        return self.path / "image_intervals_test.json"

    @property
    def stamp(self) -> Path:
        """What the report beside it was made from; a command that writes another one removes it."""
        return self.path / ".reported"

    def report(self, form: str) -> Path:
        """Return the comparison in a form, such as "csv"."""
        return self.path / report_name(form)

    def trial(self, signature: str) -> TrialFolder:
        """Return the folder of a trial."""
        return self.root.trial(signature)


@dataclass(frozen=True)
class AuditFolder:
    """The folder of the audit of one data set."""

    path: Path

    @property
    def groups(self) -> Path:
        """Which images belong together."""
        return self.path / "groups.json"

    @property
    def record(self) -> Path:
        """What the audit found."""
        return self.path / "audit.json"

    @property
    def page(self) -> Path:
        """The same with pictures."""
        return self.path / "audit.html"


@dataclass(frozen=True)
class MatchFile:
    """Which stock network is as slow as a graft.

    Attributes:
        folder: That of all matches.
        key: Of the graft, its network and its setting.
    """

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """What was measured."""
        return self.folder / f"{self.key}.json"

    @property
    def copy(self) -> Path:
        """Its copy, which speaks for it where it is damaged."""
        return self.folder / f"{self.key}.backup.json"


@dataclass(frozen=True)
class OutputFolder:
    """The folder that all results go to, `root=`."""

    path: Path

    @property
    def trials(self) -> Path:
        """The folder of all trials."""
        return self.path / TRIALS

    @property
    def sweeps(self) -> Path:
        """The folder of all sweeps."""
        return self.path / SWEEPS

    @property
    def database(self) -> Path:
        """The SQLite file of MLflow's store."""
        return self.path / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """The files of MLflow's runs."""
        return self.path / ARTIFACTS

    @property
    def tracking_lock(self) -> Path:
        """Held by the command that looks for runs, or makes one."""
        return self.path / ".tracking.lock"

    @property
    def publishing_lock(self) -> Path:
        """Of which commands hold one byte for each trial that they send."""
        return self.path / ".publishing.lock"

    @property
    def test_ledger(self) -> Path:
        """A line for each time that the test split of some data was opened."""
        return self.path / "test_ledger.jsonl"

    @property
    def test_ledger_lock(self) -> Path:
        """Held by the command that evaluates on test splits."""
        return self.path / ".test_ledger.lock"

    @property
    def written_in_place(self) -> tuple[Path, ...]:
        """The files of this folder that are changed where they are, instead of being replaced."""
        beside = (self.database.with_name(f"{self.database.name}-{end}") for end in ("wal", "shm", "journal"))
        return (self.database, *beside, self.tracking_lock, self.publishing_lock)

    def probe(self) -> Path:
        """Return a file to write and remove, to see whether anything can be kept; it does not exist."""
        return self.path / f".writable-{os.getpid()}-{secrets.token_hex(4)}"

    def trial(self, signature: str) -> TrialFolder:
        """Return the folder of a trial."""
        return TrialFolder(self.trials / signature)

    def sweep(self, name: str) -> SweepFolder:
        """Return the folder of a sweep."""
        return SweepFolder(self.sweeps / name)

    def audit(self, fingerprint: str) -> AuditFolder:
        """Return the folder of the audit of the data set with a fingerprint."""
        return AuditFolder(self.path / AUDITS / fingerprint[:16])

    @property
    def matches_lock(self) -> Path:
        """Held by the command that measures a latency to be matched."""
        return self.path / MATCHES / ".lock"

    def match(self, key: str) -> MatchFile:
        """Return the file of the stock network that is as slow as the graft with a key."""
        return MatchFile(self.path / MATCHES, key)

    def trial_folders(self) -> Iterator[TrialFolder]:
        """Yield all trials' folders by name; what is not called by a signature, or is a link, is none."""
        for path in sorted(self.trials.iterdir()) if self.trials.is_dir() else ():
            if _SIGNATURE.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                yield TrialFolder(path)

    def sweep_folders(self) -> Iterator[SweepFolder]:
        """Yield all sweeps' folders; a link is none."""
        for path in self.sweeps.iterdir() if self.sweeps.is_dir() else ():
            if (folder := SweepFolder(path)).manifest.is_file() and not path.is_symlink():
                yield folder
