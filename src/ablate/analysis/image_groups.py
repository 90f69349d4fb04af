"""Which groups of images an interval over images draws whole: those that an audit found, or those of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ablate.analysis.variant_row import Row
from ablate.data.data_errors import DataError
from ablate.data.groups import AUDIT, ImageGroups, find_groups, groups_named
from ablate.errors import AblateError, ConfigError, count
from ablate.records.predictions import Predictions
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord

FEWEST_GROUPS = 5  # simulated clips: the interval over five covers 91 %; two or three are no sample
AUTO, NONE = "auto", "none"  # those that an audit found; single images


class UnfitGroups(AblateError, ValueError):
    """Groups that an interval cannot be computed over; the message says why."""


def check_groups(text: str) -> None:
    """Check the value of `groups=`: auto, none, or a file of groups.

    Raises:
        ConfigError: It is none of these.
    """
    if text in (AUTO, NONE):
        return
    try:
        groups_named(text)
    except DataError as error:
        raise ConfigError(f"groups={error}. valid: {AUTO}, {NONE}, or a file of groups") from error


def groups_for(sweep: Sweep, record: TrialRecord) -> ImageGroups | None:
    """The groups of the images that a trial was evaluated on; None where single images are drawn.

    Raises:
        DataError: The file cannot be read, or is of another data set.
    """
    if sweep.groups == AUTO:
        fingerprint = record.data.fingerprint if record.data else None
        return find_groups(sweep.folder.root.path, fingerprint) if fingerprint else None
    return None if sweep.groups == NONE else groups_named(sweep.groups)


def numbered_groups(groups: ImageGroups | None, predictions: Predictions) -> np.ndarray | None:
    """The number of the group of each image, (I,); None where single images are drawn, as each is its own group."""
    if groups is None:
        return None
    numbers = groups.numbered(predictions.names.tolist())
    return numbers if len(np.unique(numbers)) < len(numbers) or groups.source != AUDIT else None


def fit_groups(groups: ImageGroups | None, predictions: Predictions) -> np.ndarray | None:
    """As `numbered_groups`, where an interval can be computed over them.

    Raises:
        UnfitGroups: A file names none of the images, or the groups are too few.
    """
    numbers = numbered_groups(groups, predictions)
    names = predictions.names.tolist()
    if groups is not None and groups.source != AUDIT and groups.groups.keys().isdisjoint(names):
        raise UnfitGroups(f"{groups.source} names none of the {len(names)} images, such as {names[0]}")
    if numbers is not None and (number := len(np.unique(numbers))) < FEWEST_GROUPS:
        raise UnfitGroups(f"{count(number, 'group')} of images are too few; at least {FEWEST_GROUPS}")
    return numbers


def drawn_again(rows: Sequence[Row], kind: str = "validation images") -> str:
    """What the intervals over images of these rows drew again: images, groups of them, or either."""
    in_groups = [
        row.difference.image_groups is not None for row in rows if row.difference and row.difference.over_images
    ]
    if not any(in_groups):
        return kind
    return f"groups of {kind}" if all(in_groups) else f"{kind}, or groups of them"
