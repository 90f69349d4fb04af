"""What components do together, paired by seed: interactions of two, and the gain of all against the sum of the gains.

Accuracies come as subset -> seed -> metric; a subset says of each component whether it is there. Each result is a list
over the seeds that all subsets involved have, so that Student's interval over it has the error of its own (see
`factorial_model`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeAlias

from ablate.statistics.paired import Key

Subset = tuple[bool, ...]
Accuracies: TypeAlias = Mapping[Subset, Mapping[Key, float]]
Fair = Callable[[Subset, Subset], bool]


class TwoComponents(NamedTuple, Generic[Key]):
    """Two components with and without one another.

    Attributes:
        seeds: Shared by all subsets, ascending, (n,).
        first_alone, first_with: What the first adds without the second and with it, (n,) each.
        second_alone, second_with: What the second adds without the first and with it, (n,) each.
        settings: Settings of the other components that these are means over; 0 where there is none.
    """

    seeds: list[Key]
    first_alone: list[float]
    first_with: list[float]
    second_alone: list[float]
    second_with: list[float]
    settings: int

    @property
    def interaction(self) -> list[float]:
        """What both together give beyond the sum of what each adds alone, (n,)."""
        return [together - alone for together, alone in zip(self.first_with, self.first_alone, strict=True)]


class Gains(NamedTuple, Generic[Key]):
    """The gain of all components together, and the sum of the gains of each alone, over the same seeds, (n,) each."""

    seeds: list[Key]
    together: list[float]
    summed: list[float]


def two_components(
    accuracy: Accuracies[Key], first: int, second: int, *, fair: Fair = lambda one, other: True
) -> TwoComponents[Key]:
    """Effects of two components with and without one another, means over the settings of the other components.

    Args:
        accuracy: In any unit.
        first: Index of a component.
        second: Index of another.
        fair: Whether two subsets may be compared.
    """
    squares = []
    for subset in accuracy:
        if subset[first] and subset[second]:
            square = [_changed(subset, {first: a, second: b}) for a in (False, True) for b in (False, True)]
            if all(one in accuracy for one in square) and all(fair(one, square[0]) for one in square[1:]):
                squares.append(square)
    seeds = _shared(accuracy, [subset for square in squares for subset in square])
    neither, one_second, one_first, both = (
        [sum(accuracy[square[i]][seed] for square in squares) / len(squares) for seed in seeds] for i in range(4)
    )
    return TwoComponents(
        seeds,
        _minus(one_first, neither),
        _minus(both, one_second),
        _minus(one_second, neither),
        _minus(both, one_first),
        len(squares),
    )


def gains(accuracy: Accuracies[Key]) -> Gains[Key]:
    """The gain of all components together and the sum of their single gains; no seeds where a subset is missing."""
    count = len(next(iter(accuracy), ()))
    nothing = (False,) * count
    alone = [_changed(nothing, {index: True}) for index in range(count)]
    subsets = [nothing, *alone, (True,) * count]
    if count < 2 or any(subset not in accuracy for subset in subsets):
        return Gains([], [], [])
    seeds = _shared(accuracy, subsets)
    base = accuracy[nothing]
    return Gains(
        seeds,
        [accuracy[subsets[-1]][seed] - base[seed] for seed in seeds],
        [sum(accuracy[one][seed] - base[seed] for one in alone) for seed in seeds],
    )


def _changed(subset: Subset, marks: Mapping[int, bool]) -> Subset:
    return tuple(marks.get(index, mark) for index, mark in enumerate(subset))


def _shared(accuracy: Accuracies[Key], subsets: Sequence[Subset]) -> list[Key]:
    """Seeds that all these subsets have, ascending."""
    return sorted(set.intersection(*(set(accuracy[subset]) for subset in subsets))) if subsets else []


def _minus(more: Sequence[float], less: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(more, less, strict=True)]
