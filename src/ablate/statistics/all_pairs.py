"""All variants against one another: which pairs differ, and letters for those that cannot be told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from ablate.statistics.interval import Interval
from ablate.statistics.paired import Key, paired_differences
from ablate.statistics.resampled import Samples, of_seeds
from ablate.statistics.sign_flip import sign_flip

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


class Pair(NamedTuple):
    """Two variants by index, the first minus the second over the seeds that both have; `p_value` is not corrected."""

    first: int
    second: int
    interval: Interval
    p_value: float


def all_pairs(
    accuracy: Sequence[Mapping[Key, float]],
    *,
    is_skewed: bool = False,
    samples: Callable[[Sequence[Key], Sequence[float]], Samples] = of_seeds,
) -> list[Pair]:
    """Paired t-tests of all pairs of variants, to be corrected by Holm over all pairs.

    Tukey's range test would gain a little power from one common variance, but its error rate rests on all differences
    having the same variance over seeds (sphericity); a variant with unstable training breaks that. Each pair's own
    variance and Holm's correction need neither this nor independence.

    Args:
        accuracy: For each variant seed -> metric.
        is_skewed: Take the larger of Student's p-value and that of the sign-flip test.
        samples: The shared seeds and their differences -> what is tested; over folds their means.

    Returns:
        The pairs that can be tested: with two shared seeds or more, and differences that vary.
    """
    made = []
    for first, second in combinations(range(len(accuracy)), 2):
        tested = samples(*paired_differences(accuracy[first], accuracy[second]))
        interval, p_value = tested.interval(), tested.p_value
        if interval is not None and p_value is not None:
            exact = sign_flip(tested.values) if is_skewed else None
            made.append(Pair(first, second, interval, max(p_value, exact or 0.0)))
    return made


def letters(count: int, apart: Sequence[tuple[int, int]]) -> list[str]:
    """Compact letter display of so many variants: two share a letter if and only if they are not told apart.

    By inserting and absorbing (Piepho 2004, Journal of Computational and Graphical Statistics 13, 456-466).

    Args:
        count: Variants, the best one first so that it has the first letter.
        apart: Pairs of indices that are told apart.

    Returns:
        The letters of each variant, such as "ab"; empty texts where more letters are needed than there are.
    """
    columns = [frozenset(range(count))]
    for first, second in apart:
        split = []
        for column in columns:
            split += [column - {first}, column - {second}] if {first, second} <= column else [column]
        columns = [one for one in dict.fromkeys(split) if not any(one < other for other in split)]
        if len(columns) > len(ALPHABET):
            return [""] * count
    columns.sort(key=lambda column: sorted(column))
    return ["".join(ALPHABET[i] for i, column in enumerate(columns) if index in column) for index in range(count)]
