"""Which images one recording made, one after the other: by numbers in their names or times, and by their likeness.

Names alone say little: all images of a data set may be numbered. Two neighbours are of one recording where they are
more alike than images far apart in the same data set are.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from ablate.audit.confirming import thumbnail_correlation
from ablate.audit.features import ImageFeatures
from ablate.records.audit_record import Recording

LEAST_LIKE: Final = 0.6
"""Correlation of the thumbnails of two neighbours below which they are never taken for one recording."""

CHANCE: Final = 0.995
"""Part of the pairs far apart that are less alike than two neighbours of one recording."""

WHOLE_RUN: Final = 0.6
"""Part of a run's neighbours that are alike from which on the whole run is one recording."""

MOST_SECONDS: Final = 10.0
"""Between two photographs of one recording."""

FEWEST: Final = 3
"""Images of a recording."""

_RANDOM_PAIRS: Final = 4000
_EXPORTED = re.compile(r"(?:_(?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9A-Za-z]+$")
_NUMBERED = re.compile(r"(.*?)(\d{1,18})(\D*)$", re.DOTALL)


@dataclass(frozen=True)
class _Run:
    """Images that names or times put into one line: indices in order, and whether neighbours may be linked."""

    images: tuple[int, ...]
    may_link: tuple[bool, ...]
    reason: str


def neighbours(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the indices of images whose names follow each other, such as clip_0001.jpg and clip_0002.jpg."""
    for run in _by_name(names):
        for place, linked in enumerate(run.may_link):
            if linked:
                one, other = run.images[place : place + 2]
                yield min(one, other), max(one, other)


def find_recordings(
    names: Sequence[str], features: Sequence[ImageFeatures], same: Sequence[tuple[int, int]]
) -> tuple[Recording, ...]:
    """Return the recordings of a data set.

    Args:
        names: Of N images, `images/<split>/<name>`.
        features: Of the same images.
        same: Pairs of images, by index, that show the same.
    """
    runs = [*_by_name(names), *_by_time(features)]
    if not runs:
        return ()
    least = max(LEAST_LIKE, _chance(features, runs))
    twins = {(min(pair), max(pair)) for pair in same}
    several = len({run.images for run in runs if len(run.images) >= FEWEST}) > 1
    recordings = []
    for run in runs:
        pairs = list(pairwise(run.images))
        alike = [
            may
            and (
                (min(pair), max(pair)) in twins or thumbnail_correlation(features[pair[0]], features[pair[1]]) >= least
            )
            for may, pair in zip(run.may_link, pairs, strict=True)
        ]
        if several and pairs and sum(alike) >= WHOLE_RUN * len(pairs):
            alike = [True] * len(pairs)
        recordings += [
            Recording(tuple(names[index] for index in part), run.reason) for part in _parts(run.images, alike)
        ]
    return tuple(dict.fromkeys(recordings))


def _parts(images: Sequence[int], linked: Sequence[bool]) -> Iterator[list[int]]:
    part = [images[0]]
    for image, is_linked in zip(images[1:], linked, strict=True):
        if not is_linked:
            if len(part) >= FEWEST:
                yield part
            part = []
        part.append(image)
    if len(part) >= FEWEST:
        yield part


def _by_name(names: Sequence[str]) -> list[_Run]:
    """Runs of images whose names differ in a number only; the split is no part of a name."""
    runs: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for index, name in enumerate(names):
        path = PurePosixPath(*PurePosixPath(name).parts[2:])
        match = _NUMBERED.match(_EXPORTED.sub("", path.stem))
        if match:
            runs[str(path.parent), match[1], match[3]].append((int(match[2]), index))
    return [_run(sorted(run), f"names {prefix}...") for (_, prefix, _), run in runs.items() if len(run) > 1]


def _run(numbered: list[tuple[int, int]], reason: str) -> _Run:
    """A run of (number, index); neighbours whose numbers are much further apart than usual are not linked."""
    steps = np.diff([number for number, _ in numbered])
    usual = max(float(np.median(steps)), 1.0)
    return _Run(tuple(index for _, index in numbered), tuple(bool(step <= 5 * usual) for step in steps), reason)


def _by_time(features: Sequence[ImageFeatures]) -> list[_Run]:
    """Runs of photographs of one camera."""
    runs: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for index, each in enumerate(features):
        if not math.isnan(each.taken):
            runs[each.camera].append((each.taken, index))
    made = []
    for run in runs.values():
        run.sort()
        steps = np.diff([taken for taken, _ in run])
        if len(run) > 1 and np.any(steps > 0):  # a time of export is the same for all
            may_link = tuple(bool(step <= MOST_SECONDS) for step in steps)
            made.append(_Run(tuple(index for _, index in run), may_link, "times of one camera"))
    return made


def _chance(features: Sequence[ImageFeatures], runs: Sequence[_Run]) -> float:
    """How alike images are that are no neighbours: a high quantile of the correlation of random pairs."""
    random = np.random.default_rng(0)
    place = {index: (number, position) for number, run in enumerate(runs) for position, index in enumerate(run.images)}
    likeness = []
    for one, other in random.integers(0, len(features), (_RANDOM_PAIRS, 2)).tolist():
        run, position = place.get(one, (-1, 0))
        other_run, other_position = place.get(other, (-2, 0))
        is_near = run == other_run and (len(runs) > 1 or abs(position - other_position) < len(features) // 4)
        if one != other and not is_near:
            likeness.append(thumbnail_correlation(features[one], features[other]))
    return float(np.quantile(likeness, CHANCE)) if likeness else LEAST_LIKE
