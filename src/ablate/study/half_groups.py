"""Which validation images of a trial belong together, so that `judge=split` keeps them in one half."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from ablate.data.catalogue import DataSet
from ablate.data.data_errors import DataError
from ablate.data.datafile import read
from ablate.data.fold_sets import POOL, check_data_of_groups
from ablate.data.groups import ImageGroups, find_groups, groups_named
from ablate.settings.fold import GROUPS, RANDOM
from ablate.settings.trial_settings import TrialSettings

logger = logging.getLogger(__name__)


def groups_of_halves(settings: TrialSettings, data: DataSet) -> ImageGroups | None:
    """Return the groups of several images among those that a trial is evaluated on; None where none are known.

    They are those of the file that `split=` names, else those that an audit has found before. Images are called as the
    training's validator calls them.

    Raises:
        DataError: The file of `split=` cannot be read; a damaged audit is a warning in the log.
    """
    whole = data.fold.data if data.fold is not None else data
    groups = _known(settings, whole.fingerprint)
    if groups is None:
        return None
    if data.fold is None:
        place = f"images/{settings.train.split}/"
        named = {image: group for image, group in groups.groups.items() if image.startswith(place)}
    else:
        named = {
            image.replace(f"images/{split}/", f"images/val/{split}/", 1): group
            for split in POOL
            for image, group in groups.groups.items()
            if image.startswith(f"images/{split}/")
        }
    sizes = Counter(named.values())
    several = {image: group for image, group in named.items() if sizes[group] > 1}
    return ImageGroups(several, groups.source, groups.fingerprint) if several else None


def check_groups_of_halves(settings: TrialSettings, data: DataSet, groups: ImageGroups | None) -> None:
    """Check that the groups that `split=` asks for are of the images that a trial is evaluated on, and two or more.

    Raises:
        DataError: They name none of them, all of them are one group, or they are of another data set.
    """
    if groups is None:
        return
    check_data_of_groups(groups, data)
    top, split = data.yaml.parent, settings.train.split
    if not data.images.get(split):
        return  # a split that is not there is refused by `Trial.of`
    names = [image.path.relative_to(top).as_posix() for image in read(str(data.yaml)).images(split)]
    problem = ""
    if not groups.fingerprint and groups.groups.keys().isdisjoint(names):
        problem = f"it names none of the {len(names)} {split} images, such as {names[0]}"
    elif len({groups.group_of(name) for name in names}) < 2:
        problem = f"all {len(names)} {split} images are one group, which has no halves; split=random has"
    if problem:
        raise DataError(f"split={settings.command.split}: {problem}")


def _known(settings: TrialSettings, fingerprint: str) -> ImageGroups | None:
    split = settings.command.split
    if split not in (RANDOM, GROUPS):
        return groups_named(split)
    try:
        return find_groups(Path(settings.command.root).absolute(), fingerprint)
    except DataError as error:
        logger.warning("judge=split divides single images: %s", error)
        return None
