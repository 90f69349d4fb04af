"""One trial: its settings, its data, its identity, and its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablate.data.catalogue import DataSet
from ablate.data.data_use import ImagesUsed, images_used
from ablate.errors import ConfigError
from ablate.records.checkpoint_origin import checkpoint_signature
from ablate.records.loading import DamagedRecordError, load_record
from ablate.records.store_address import recorded
from ablate.records.trial_record import DataSummary, TrialHeader, TrialRecord
from ablate.settings.signature import Identity, identify
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.layout import OutputFolder, TrialFolder
from ablate.study.fold_data import DataFinder, find_data
from ablate.training.history import history
from ablate.training.trainer_arguments import trained_classes


@dataclass(frozen=True)
class Trial:
    """One trial's settings with its data and its identity.

    Attributes:
        settings: What is trained, and how.
        data: The data set as it is on disk; of a trial with a fold that fold.
        identity: Names and hashes.
    """

    settings: TrialSettings
    data: DataSet
    identity: Identity

    @classmethod
    def of(cls, settings: TrialSettings, data: DataSet | None = None) -> Trial:
        """Find the data of some settings and hash both.

        Raises:
            ConfigError: The data set has not the split that is to be evaluated on.
        """
        data = data if data is not None else find_data(settings)
        if settings.fold is not None:
            assert data.fold is not None, "the data of a fold are those that `find_data` finds"
            settings = replace(settings, fold=replace(settings.fold, assignment=data.fold.assignment))
        split = settings.train.split
        if split == "test" and not data.images.get(split):
            raise ConfigError(f"train.split=test: {data.name} has no such split; valid: {', '.join(data.images)}")
        return cls(settings, data, identify(settings, data.fingerprint))

    @property
    def folder(self) -> Path:
        """Where everything about this trial is."""
        return self.files.path

    @property
    def files(self) -> TrialFolder:
        """The places of all files about this trial."""
        return OutputFolder(Path(self.settings.command.root).absolute()).trial(self.identity.signature)

    @property
    def images_used(self) -> ImagesUsed:
        """How many images an epoch trains and evaluates on."""
        return images_used(self.data, self.settings.train.fraction, self.settings.train.split)

    def record(self) -> TrialRecord | None:
        """Return this trial's record if it is on disk and whole."""
        try:
            return load_record(self.folder)
        except (FileNotFoundError, DamagedRecordError):
            return None

    def epochs_done(self) -> int:
        """Return how many epochs of an unfinished trial can be resumed; 0 where it has no checkpoint, or another's."""
        last = self.files.last
        resumable = last.is_file() and checkpoint_signature(last) in (None, self.identity.signature)  # None: not whole
        return len(history(self.files.training)) if resumable else 0

    def header(self) -> TrialHeader:
        """Return the part of a record that is known before anything ran."""
        identity, data = self.identity, self.data
        return TrialHeader(
            signature=identity.signature,
            name=identity.name,
            variant=identity.variant,
            variant_key=identity.variant_key,
            comparison_key=identity.comparison_key,
            factors=identity.factors,
            seed=identity.seed,
            fold=identity.fold,
            config=recorded(self.settings.to_plain()),
            data=DataSummary(
                name=data.name,
                classes=tuple(trained_classes(self.settings, data)),
                images=dict(data.images),
                instances=dict(data.instances),
                warnings=tuple(data.warnings),
                fingerprint=data.fingerprint,
                root=str(data.yaml.parent),
            ),
        )


def of_each_fold(trial: Trial, finder: DataFinder) -> list[Trial]:
    """Return the trials of all folds, given that of the first one; without folds the trial alone."""
    settings, fold = trial.settings, trial.settings.fold
    if fold is None:
        return [trial]
    others = [replace(settings, fold=replace(fold, index=index)) for index in range(1, fold.folds)]
    return [trial, *(Trial.of(each, finder.find(each)) for each in others)]


def data_warnings(trials: Sequence[Trial]) -> list[str]:
    """What is odd in the data of these trials, each once; with the data set's name where there are several."""
    sets = {trial.data.fingerprint: trial.data for trial in trials}
    lines = [
        (f"data {data.name}" if len(sets) > 1 else "data", line) for data in sets.values() for line in data.warnings
    ]
    return [f"{what}: {line}" for what, line in lines]
