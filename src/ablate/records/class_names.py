"""Class names are labels: what people see of them, and what metrics of them are called. Keys are class indices.

A data file may call its classes anything: ".", nothing at all, a paragraph, the same name twice. Two classes are the
same class where index and name are; everything that is shown or sent is made here, for all classes of a data set
together, because it has to tell them apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ablate.records.trial_record import TrialRecord
from ablate.safe_text import clipped, printable

MAX_LABEL = 60  # characters of a class name that are shown
MAX_METRIC = 100  # characters of a class name in a metric's name; MLflow has room for 250 with what stands before
INDEXED = re.compile(r"\d{3,}_")  # how a metric's name begins where the class name alone does not do


@dataclass(frozen=True)
class ClassName:
    """A class of a data set; equal to another where index and name are.

    Attributes:
        index: Its number in the data set, from 0.
        name: As the data file has it.
        label: For people: one line of printable characters, at most about `MAX_LABEL`, unlike that of any other class.
        metric: For MLflow: letters, digits, and ``_ - .`` and blanks, unlike that of any other class.
    """

    index: int
    name: str
    label: str = field(compare=False)
    metric: str = field(compare=False)


def class_names(names: Sequence[object]) -> tuple[ClassName, ...]:
    """Return the classes of a data set, in the order of their indices."""
    return _class_names(tuple(str(name) for name in names))


def recorded_classes(record: TrialRecord) -> tuple[ClassName, ...]:
    """Return the classes that a trial's record has accuracies of: entry i of its ``per_class`` is class i."""
    return class_names([entry.name for entry in record.per_class])


@lru_cache(maxsize=256)  # a thousand trials of a sweep have the same classes
def _class_names(names: tuple[str, ...]) -> tuple[ClassName, ...]:
    rows = zip(names, _labels(names), _metrics(names), strict=True)
    return tuple(ClassName(index, *row) for index, row in enumerate(rows))


def _labels(names: Sequence[str]) -> list[str]:
    labels = [clipped(printable(name), MAX_LABEL) or f"class {index}" for index, name in enumerate(names)]
    while repeated := {label for label, count in Counter(labels).items() if count > 1}:
        labels = [f"{label} #{index}" if label in repeated else label for index, label in enumerate(labels)]
    return labels


def _metrics(names: Sequence[str]) -> list[str]:
    """Return the names as they are in MLflow's characters; with their index first where that would not be safe."""
    plain = ["".join(c if c.isalnum() or c in "_-. " else "_" for c in name) for name in names]
    # Databases may compare without regard to case, and to how a letter is composed.
    counts = Counter(_folded(name) for name in plain)
    return [
        name if _is_safe(name) and counts[_folded(name)] == 1 else f"{index:03d}_{name[:MAX_LABEL].strip()}"
        for index, name in enumerate(plain)
    ]


def _is_safe(name: str) -> bool:
    """Tell whether a name can stand for itself: it is no path, fits, and is not taken for one with an index."""
    fits = 0 < len(name) <= MAX_METRIC and name == name.strip()
    return fits and name not in (".", "..") and INDEXED.match(name) is None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
