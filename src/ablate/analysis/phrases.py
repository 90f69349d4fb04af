"""Phrases that findings, captions and tables share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from ablate.analysis.number_format import points
from ablate.errors import count as count
from ablate.records.replicate import Replicate
from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names in a row; behind the first few, how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def joined(names: Iterable[str]) -> str:
    """All names in a row, the last with 'and'."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def limited(texts: Sequence[str], most: int, noun: str = "") -> str:
    """The first few of texts between semicolons, and how many more there are, of what (in the singular)."""
    rest = len(texts) - most
    more = f"; and {count(rest, f'more {noun}') if noun else f'{rest} more'}" if rest > 0 else ""
    return "; ".join(texts[:most]) + more


def number_of(replicates: Collection[Replicate]) -> str:
    """How many seeds there are, and with folds how many of these: '3 seeds', '3 seeds x 5 folds'."""
    seeds = {replicate.seed for replicate in replicates}
    folds = {replicate.fold for replicate in replicates if replicate.fold is not None}
    if not folds:
        return count(len(seeds), "seed")
    text, pairs = f"{count(len(seeds), 'seed')} x {count(len(folds), 'fold')}", len(seeds) * len(folds)
    return text if len(replicates) == pairs else f"{text}, {len(replicates)} of {pairs}"


def trials_of(replicates: Collection[Replicate]) -> str:
    """How many seeds there are, or trials where there are folds: '3 seeds', '8 trials'."""
    return count(len(replicates), "seed" if unit_of(replicates) == "seed" else "trial")


def unit_of(replicates: Collection[Replicate]) -> str:
    """What tests take these replicates to be several of, in a word: seeds, or folds where there are some."""
    return "seed" if all(replicate.fold is None for replicate in replicates) else "fold"


def units_of(replicates: Collection[Replicate]) -> int:
    """How many seeds there are, or folds where there are some."""
    folds = {replicate.fold for replicate in replicates if replicate.fold is not None}
    return len(folds or {replicate.seed for replicate in replicates})


def named(replicates: Sequence[Replicate]) -> str:
    """Replicates by name: 'seeds 0, 2', or with folds 'seed 0 fold 3, seed 2 fold 3'."""
    if unit_of(replicates) == "seed":
        return f"seed{'s' * (len(replicates) > 1)} {listed(replicate.seed for replicate in replicates)}"
    return listed(f"seed {replicate.seed} fold {replicate.fold}" for replicate in replicates)


def minus(text: str) -> str:
    """Typographic minus signs before numbers, but not in exponents or inside words."""
    return re.sub(r"(?<![\w.])-(?=\.?\d)", "\N{MINUS SIGN}", text)


def span(texts: Iterable[str]) -> str:
    """The first and the last of texts that rise, as 'a to b'; one of them where they are the same."""
    ascending = list(texts)
    return ascending[0] if ascending[0] == ascending[-1] else f"{ascending[0]} to {ascending[-1]}"


def probability_text(probability: float) -> str:
    """A probability, such as '0.73'; never 0 or 1, which no sample shows."""
    if probability > 0.995:
        return "> 0.99"
    return "< 0.01" if probability < 0.005 else f"{probability:.2f}"


def points_text(difference: float) -> str:
    """A difference, such as '+1.80 points'."""
    return f"{points(difference)} points"


def interval_text(low: float, high: float, level: float = LEVEL) -> str:
    """An interval of a difference, such as '95% CI +1.52 to +2.08'."""
    return f"{level:.0%} CI {points(low)} to {points(high)}"


def estimate_text(estimate: float, interval: Interval | None, *more: str) -> str:
    """A difference, its interval and what follows: '+1.80 points (95% CI +1.52 to +2.08, p 0.01)'."""
    bounds = interval_text(interval.low, interval.high) if interval else "no CI"
    return f"{points_text(estimate)} ({', '.join((bounds, *more))})"
