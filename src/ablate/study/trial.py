"""One trial: its settings, its data, its identity, and its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.data.catalogue import DataSet, resolve
from ablate.errors import ConfigError
from ablate.records.checkpoint_origin import checkpoint_signature
from ablate.records.records import (
    SCHEMA,
    DamagedRecordError,
    load_record,
)
from ablate.records.store_address import recorded
from ablate.settings.signature import Identity, identify
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.plain_values import Plain
from ablate.training.history import history
from ablate.training.trainer_arguments import trained_classes

LOG = "train.log"
LAST = "train/weights/last.pt"
TRIES = "tries.json"  # when, where and from which epoch this trial was started


@dataclass(frozen=True)
class Trial:
    """One trial's settings with its data and its identity.

    Attributes:
        settings: What is trained, and how.
        data: The data set as it is on disk.
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
        data = data if data is not None else resolve(settings.data)
        split = settings.train.split
        if split == "test" and not data.images.get(split):
            raise ConfigError(f"train.split=test: {data.name} has no such split; valid: {', '.join(data.images)}")
        return cls(settings, data, identify(settings, data.fingerprint))

    @cached_property
    def config(self) -> Plain:  # transition: read `settings`
        """The settings as plain values."""
        return self.settings.to_plain()

    @property
    def folder(self) -> Path:
        """Where everything about this trial is."""
        return Path(self.settings.command.root).absolute() / "trials" / self.identity.signature

    @property
    def lock(self) -> Path:
        """The file that says who trains this trial."""
        return self.folder.with_suffix(".lock")

    def record(self) -> dict[str, Any] | None:
        """Return this trial's record if it is on disk and whole."""
        try:
            return load_record(self.folder)
        except (FileNotFoundError, DamagedRecordError):
            return None

    def epochs_done(self) -> int:
        """Return how many epochs an unfinished trial can go on from; 0 where it has no checkpoint, or another's."""
        last = self.folder / LAST
        own = last.is_file() and checkpoint_signature(last) in (None, self.identity.signature)  # None: not whole
        return len(history(self.folder)) if own else 0

    def header(self) -> dict[str, Any]:
        """Return the part of a record that is known before anything ran."""
        identity = self.identity
        return {
            "schema": SCHEMA,
            "signature": identity.signature,
            "name": identity.name,
            "variant": identity.variant,
            "variant_key": identity.variant_key,
            "comparison_key": identity.comparison_key,
            "factors": identity.factors,
            "seed": identity.seed,
            "config": recorded(self.settings.to_plain()),
            "data": {
                "name": self.data.name,
                "classes": trained_classes(self.settings, self.data),
                "images": dict(self.data.images),
                "instances": dict(self.data.instances),
                "warnings": list(self.data.warnings),
                "fingerprint": self.data.fingerprint,
                "root": str(self.data.yaml.parent),
            },
        }


def data_warnings(trials: Sequence[Trial]) -> list[str]:
    """What is odd in the data of these trials, each once; with the data set's name where there are several."""
    sets = {trial.data.fingerprint: trial.data for trial in trials}
    lines = [
        (f"data {data.name}" if len(sets) > 1 else "data", line) for data in sets.values() for line in data.warnings
    ]
    return [f"{what}: {line}" for what, line in lines]


def tries_of(record: Mapping[str, Any]) -> int:
    """Return how often a recorded trial was started."""
    return len(record.get("tries") or [])
