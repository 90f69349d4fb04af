"""The data of a trial: a data set as its files divide it, or a fold of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from ablate.data.catalogue import DataSet, resolve
from ablate.data.data_errors import DataError
from ablate.data.data_settings import DataSettings
from ablate.data.fold_sets import Division, divided, fold_set
from ablate.data.groups import ImageGroups, find_groups, groups_named
from ablate.errors import count
from ablate.settings.fold import GROUPS, RANDOM
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.study.half_groups import check_groups_of_halves


@dataclass
class DataFinder:
    """Finds the data of trials, each data set and each fold of it once.

    Attributes:
        download: Get a data set that is not on this machine, instead of an error.
    """

    download: bool = False
    _sets: dict[str, DataSet] = field(default_factory=dict)
    _divisions: dict[str, Division] = field(default_factory=dict)
    _folds: dict[tuple[str, int], DataSet] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)

    def find(self, settings: TrialSettings) -> DataSet:
        """Return the data set that some settings name, or the fold of it.

        Raises:
            DataError: It is missing or damaged, or cannot be divided so.
        """
        key = repr(settings.data)
        if key not in self._sets:
            data = resolve(settings.data, download=self.download)
            if settings.fold is None:
                check_groups_of_halves(settings, data, _groups(settings, data))
            self._sets[key] = data
        data = self._sets[key]
        if settings.fold is None:
            return data
        if key not in self._divisions:
            self._divisions[key] = divided(data, settings.fold.folds, _groups(settings, data))
            if settings.command.split == RANDOM and (apart := _apart(settings, self._divisions[key])):
                self._warnings.append(apart)
        place = key, settings.fold.index
        if place not in self._folds:
            self._folds[place] = fold_set(self._divisions[key], settings.fold.index)
        return self._folds[place]

    @property
    def notes(self) -> list[str]:
        """How each data set is divided into folds, in words."""
        return [*(f"folds={len(it.sizes)}: {it.in_words}" for it in self._divisions.values()), *self._warnings]


def find_data(settings: TrialSettings) -> DataSet:
    """Return the data of one trial; see `DataFinder.find`."""
    return DataFinder().find(settings)


def _groups(settings: TrialSettings, data: DataSet) -> ImageGroups | None:
    """Return the groups of images that a fold keeps whole; None where each image is on its own."""
    command = settings.command
    if command.split == RANDOM:
        return None
    if command.split != GROUPS:
        return groups_named(command.split)
    found = find_groups(Path(command.root).absolute(), data.fingerprint)
    if found is None:
        root = "" if command.root == Config().root else f" root={shlex.quote(command.root)}"
        raise DataError(
            f"split=groups: {data.name} was not audited, which finds the groups; run first: "
            f"python -m ablate data audit {_words(settings.data)}{root}"
        )
    return found


def _apart(settings: TrialSettings, division: Division) -> str:
    """Say that folds of single images divide groups that an audit has found; empty where they do not."""
    try:
        groups = find_groups(Path(settings.command.root).absolute(), division.data.fingerprint)
    except DataError:  # damaged, and not asked for
        groups = None
    folds_of: dict[str, set[int]] = {}
    for image, fold in zip(division.images, division.fold_of.tolist(), strict=True):
        if groups is not None:
            folds_of.setdefault(groups.group_of(image.name), set()).add(fold)
    apart = sum(len(folds) > 1 for folds in folds_of.values())
    if not apart:
        return ""
    groups_are = count(apart, "group of images that belong together is", "groups of images that belong together are")
    return (
        f"data {division.data.name}: {groups_are} in several folds (found by the audit); split=groups keeps them whole"
    )


def _words(data: DataSettings) -> str:
    """Return the words of a command that name a data set."""
    usual = option_file("data", data.name)
    if data.path is not None and data.path != usual.get("path"):
        return shlex.join(["data=custom", f"data.path={data.path}"])
    changed = [f"data.{key}={value}" for key, value in data.options.items() if value != usual.get(key)]
    return shlex.join([f"data={data.name}", *changed])
