"""Align a modified network with a stock one: which layer of the one is which layer of the other.

Not by number, which one inserted layer shifts for all that follow, but by sequence: the alignment with the highest
score (Needleman and Wunsch, 1970) over the layers' classes, arguments, repeats, and the layers that they read. What a
layer reads is known once its sources are aligned, so the alignment is repeated with that of the round before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ablate.importing.network_file import IMAGE, Layer, NetworkFile

_ROUNDS = 4
_GAP = -1.0  # a layer of one network that the other has not
_SAME = 6.0  # class, repeats and arguments
_CLASS = 3.0  # the class alone; its equal arguments add up to 1, equal repeats 1
_SOURCES = 2.0  # both read the same layers
_NEVER = -1e9


@dataclass(frozen=True)
class Alignment:
    """Which layers of a modified network are which of a stock one.

    Attributes:
        stock: The stock network.
        other: The modified one.
        pairs: For each layer of the modified network the number of its stock layer; None for one that was added.
    """

    stock: NetworkFile
    other: NetworkFile
    pairs: tuple[int | None, ...]

    @cached_property
    def stock_of(self) -> dict[int, int]:
        """The stock layer of each layer that has one."""
        return {index: stock for index, stock in enumerate(self.pairs) if stock is not None}

    @cached_property
    def layer_of(self) -> dict[int, int]:
        """The layer of each stock layer that is still there."""
        return {stock: index for index, stock in self.stock_of.items()}

    def meaning(self, source: int) -> int | None:
        """Return the stock layer whose output a layer of the modified network passes on, through what was inserted.

        None where it is a map that the stock network has not, such as a concatenation that was added.
        """
        return _meaning(self.other.layers, self.pairs, source)

    @cached_property
    def likeness(self) -> float:
        """How much of the stock network the modified one still is, 0 to 1, less a part for each added layer."""
        total = 0.0
        for index, stock in self.stock_of.items():
            ours, modified = self.stock.layers[stock], self.other.layers[index]
            total += 1.0 if ours.same == modified.same else 0.7 if ours.name == modified.name else 0.25
        added = sum(pair is None for pair in self.pairs)
        return max(0.0, total - 0.15 * added) / len(self.stock.layers)


def align(stock: NetworkFile, other: NetworkFile) -> Alignment:
    """Align a modified network with a stock one."""
    pairs: tuple[int | None, ...] = (None,) * len(other.layers)
    scores = [
        [_score(stock.layers, other.layers, i, j) for j in range(len(other.layers))] for i in range(len(stock.layers))
    ]
    for number in range(_ROUNDS):
        after = _align(stock.layers, other.layers, scores, pairs if number else None)
        if after == pairs:
            break
        pairs = after
    return Alignment(stock, other, pairs)


def is_kin(one: str, another: str) -> bool:
    """Tell whether a name holds another, as ``C3k2_EMA`` holds ``C3k2``, and ``BiFPN_Concat2`` ``Concat``."""
    short, long = sorted((_letters(one), _letters(another)), key=len)
    return len(short) >= 3 and short in long


def _align(
    stock: Sequence[Layer],
    other: Sequence[Layer],
    scores: Sequence[Sequence[float]],
    before: tuple[int | None, ...] | None,
) -> tuple[int | None, ...]:
    meant = [[_meaning(other, before, source) for source in layer.sources] if before else [] for layer in other]
    rows, columns = len(stock) + 1, len(other) + 1
    best = [[0.0] * columns for _ in range(rows)]
    step = [[""] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            if i == j == 0:
                continue
            options = []
            if i and j:
                score = scores[i - 1][j - 1] + _same_sources(stock[i - 1], other[j - 1], meant[j - 1])
                options.append((best[i - 1][j - 1] + score, "match"))
            if j:
                options.append((best[i][j - 1] + _GAP, "added"))
            if i:
                options.append((best[i - 1][j] + _GAP, "removed"))
            best[i][j], step[i][j] = max(options, key=lambda option: option[0])
    pairs: list[int | None] = [None] * len(other)
    i, j = rows - 1, columns - 1
    while i or j:
        if step[i][j] == "match":
            i, j = i - 1, j - 1
            pairs[j] = i
        elif step[i][j] == "added":
            j -= 1
        else:
            i -= 1
    return tuple(pairs)


def _same_sources(ours: Layer, modified: Layer, meant: Sequence[int | None]) -> float:
    """Return what is added to a score where both layers read the same, as far as the round before tells."""
    common = set(ours.sources) & {source for source in meant if source is not None}
    return _SOURCES * len(common) / max(len(ours.sources), len(modified.sources))


def _score(stock: Sequence[Layer], other: Sequence[Layer], i: int, j: int) -> float:
    """Return how well a stock layer and a layer of the modified network are one, whatever they read."""
    ours, modified = stock[i], other[j]
    is_head = i == len(stock) - 1
    if is_head != (j == len(other) - 1) or ours.many != modified.many:
        return _NEVER  # the head is the head, and what joins maps is no layer of one map
    if ours.same == modified.same:
        return _SAME
    if ours.name == modified.name:
        equal = sum(a == b for a, b in zip(ours.arguments, modified.arguments, strict=False))
        return (
            _CLASS + (ours.repeats == modified.repeats) + equal / max(len(ours.arguments), len(modified.arguments), 1)
        )
    return _replacement(ours, modified)


def _replacement(ours: Layer, modified: Layer) -> float:
    """Return how likely a layer of another class stands in the place of a stock layer."""
    score = 3.0 if is_kin(ours.name, modified.name) else 0.0
    if ours.width is not None and ours.width == modified.width:
        score += 1.5
    if ours.repeats == modified.repeats:
        score += 0.5
    if ours.many:
        score += 1.0  # there is little else that reads several maps
    elif not score or (_is_stock_like(modified) and _role(ours) != _role(modified)):
        score -= 2.0
    return score


def _meaning(layers: Sequence[Layer], pairs: Sequence[int | None], source: int) -> int | None:
    for _ in range(len(layers)):
        if source == IMAGE:
            return IMAGE
        if pairs[source] is not None:
            return pairs[source]
        if layers[source].many:
            return None
        source = layers[source].sources[0]
    return None


def _role(layer: Layer) -> str:
    if layer.halves:
        return "down"
    return layer.name if layer.name.startswith("nn.") or layer.name == "Conv" else "block"


def _is_stock_like(layer: Layer) -> bool:
    """Whether a layer's class is one whose role is known by its name."""
    return layer.name == "Conv" or layer.name.startswith(("nn.", "C2", "C3", "SPP"))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nn."))
