"""Accuracies of a trial: of its checkpoints, of single classes, and after each epoch."""

from __future__ import annotations

from typing import ClassVar, Final

from ablate.records.json_struct import JsonObject, JsonStruct, OpenObject, written
from ablate.settings.metric import MAP50_95, METRICS, Metric

# Names in an epoch's row of the accuracies on either half of the evaluated images (see `EpochRow.halves`).
HALVES: Final = tuple(f"{each.name}/half{half}" for each in METRICS.values() if each.is_of_halves for half in (1, 2))
# The same where the halves have whole groups of images.
GROUP_HALVES: Final = tuple(name.replace("/half", "/group_half") for name in HALVES)


class Metrics(JsonStruct, frozen=True, kw_only=True):
    """Accuracies of one checkpoint on one split, fractions from 0 to 1; None where nothing could be measured.

    Attributes:
        map50_95: Mean over the classes of the average precision, over IoU thresholds 0.5 to 0.95.
        map50, map75: The same at a threshold of 0.5 and 0.75.
        precision, recall: At the confidence of the best F1.
        map50_95_small, map50_95_medium, map50_95_large: By COCO's sizes of objects.
        epoch: The checkpoint's epoch, from 1.
        checkpoint: "best" or "last"; in words where they are of no single checkpoint (see `ablate.records.judged`).
        split: Whose images they were measured on.
    """

    map50_95: float | None = None
    map50: float | None = None
    precision: float | None = None
    recall: float | None = None
    map75: float | None = None
    map50_95_small: float | None = written(None)
    map50_95_medium: float | None = written(None)
    map50_95_large: float | None = written(None)
    epoch: int | None = None
    checkpoint: str | None = None
    split: str | None = None

    def value(self, metric: Metric) -> float | None:
        """The accuracy by this metric."""
        accuracy: float | None = getattr(self, metric.name)
        return accuracy


class ClassMetrics(JsonStruct, frozen=True, kw_only=True):
    """Accuracies of one class, fractions from 0 to 1, None where the split has no object of it; and its objects."""

    name: str = written("")
    map50_95: float | None = written(None)
    map50: float | None = written(None)
    map75: float | None = written(None)
    instances: int | None = None

    def value(self, metric: Metric) -> float | None:
        """The accuracy by this metric, which must be one that classes have."""
        accuracy: float | None = getattr(self, metric.name)
        return accuracy


_PLAIN = frozenset((float, int, type(None)))  # types of the values of an epoch, as JSON gives them


class EpochRow(OpenObject):
    """What one epoch gave: a line of history.jsonl.

    Every value is a number or null. Losses are named as Ultralytics names them (``train/box_loss``), learning rates
    by their parameter group (``lr/pg0``), accuracies on the halves of the images ``map50_95/half1``.
    """

    __slots__ = ()
    json_schema: ClassVar[JsonObject] = {
        "title": "EpochRow",
        "type": "object",
        "properties": {"epoch": {"type": "integer"}},
        "additionalProperties": {"type": ["number", "null"]},
        "required": ["epoch"],
    }

    def check(self) -> None:
        """Raise ValueError where a value is no number, or there is no epoch."""
        plain = _PLAIN.issuperset(map(type, self.content.values()))
        for name, value in () if plain else self.content.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"its {name} is no number")
        if not isinstance(self.content.get("epoch"), int):
            raise ValueError("it has no epoch")

    @property
    def epoch(self) -> int:
        """Its number, from 1."""
        epoch = self.content["epoch"]
        assert isinstance(epoch, int)
        return epoch

    @property
    def epochs(self) -> int | None:
        """How many are trained."""
        count = self.content.get("epochs")
        return count if isinstance(count, int) else None

    @property
    def time(self) -> float | None:
        """When it ended, seconds since 1970."""
        return self.number("time")

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return self.number("seconds")

    @property
    def map50_95(self) -> float | None:
        """Its mAP50-95; None where it was not evaluated."""
        return self.value(MAP50_95)

    def value(self, metric: Metric) -> float | None:
        """Its accuracy by this metric; None where it was not evaluated, or epochs do not record it."""
        return self.number(metric.name)

    def halves(self, metric: Metric, *, of_groups: bool = False) -> tuple[float | None, float | None]:
        """The accuracy on each half of the images (see `ablate.evaluation.image_halves`).

        Args:
            metric: Which accuracy.
            of_groups: On the halves that have whole groups of images.
        """
        half = f"{metric.name}/{'group_' if of_groups else ''}half"
        return self.number(f"{half}1"), self.number(f"{half}2")

    @property
    def fitness(self) -> float | None:
        """What the best epoch is chosen by; None where it was not evaluated."""
        return self.number("fitness")

    @property
    def batches(self) -> int | None:
        """How many it trained, where a time limit ends a training within an epoch."""
        count = self.content.get("batches")
        return count if isinstance(count, int) else None
