"""Pairs of images that may show the same: without a comparison of every image with every other.

Two ways: whole images whose hashes differ in few bits, and images that share local features. Both sort: bits of a hash
or of a descriptor are the key of a table, and what has equal keys meets there (Indyk and Motwani, Approximate nearest
neighbors, STOC 1998; Norouzi et al., Fast search in Hamming space with multi-index hashing, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ablate.audit.features import ImageFeatures

TABLES: Final = 10
KEY_BITS: Final = 22
MOST_IN_BUCKET: Final = 40
"""Features with one key above which they are of no particular image."""

LEAST_SHARED: Final = 3
"""Local features that two images have in common from which on they are compared."""

MOST_PARTNERS: Final = 12
"""Images that one is compared with for their local features, those with the most in common first."""

HASH_BITS: Final = 10
"""Bits of 64 that may differ between the hashes of two images that are compared."""

Pairs = npt.NDArray[np.int64]


def candidate_pairs(features: Sequence[ImageFeatures]) -> Pairs:
    """Return the pairs of images that may show the same, (P, 3): first < second, and 1 where one is mirrored.

    Args:
        features: Of N images.
    """
    local = [_by_local_features(features, is_mirrored) for is_mirrored in (False, True)]
    hashes = [_by_hash(features, is_mirrored) for is_mirrored in (False, True)]
    return np.unique(np.concatenate([*local, *hashes]), axis=0)


def _by_local_features(features: Sequence[ImageFeatures], is_mirrored: bool) -> Pairs:
    number = len(features)
    owners = np.repeat(np.arange(number), [len(each.bits) for each in features])
    if not len(owners):
        return np.zeros((0, 3), np.int64)
    codes = [np.concatenate([each.bits for each in features])]
    if is_mirrored:
        codes.append(np.concatenate([each.mirrored_bits for each in features]))
    bits = np.random.default_rng(0)
    shared, times = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for _ in range(TABLES):
        chosen = bits.choice(256, KEY_BITS, replace=False)
        met = _meetings([_keys(code, chosen) for code in codes], owners, number)
        pairs, again = np.unique(np.concatenate([shared, met]), return_inverse=True)
        weights = np.concatenate([times, np.ones(len(met), np.int64)])
        shared, times = pairs, np.bincount(again, weights, len(pairs)).astype(np.int64)
    enough = times >= LEAST_SHARED
    first, second = _foremost(shared[enough] // number, shared[enough] % number, times[enough])
    return np.stack([first, second, np.full(len(first), int(is_mirrored))], 1)


def _keys(code: npt.NDArray[np.uint8], chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The chosen bits of each descriptor as a number, (F,)."""
    keys = np.zeros(len(code), np.int64)
    for place, bit in enumerate(chosen):
        keys |= ((code[:, bit // 8] >> (7 - bit % 8)) & 1).astype(np.int64) << place
    return keys


def _meetings(keys: list[npt.NDArray[np.int64]], owners: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    """The pairs of images with a feature of one key each, as first * number + second; as often as they meet.

    Args:
        keys: Of the features of all images; then those of the mirror images, which only meet features of others.
        owners: The image of each feature.
        number: Of images.
    """
    count = len(owners)
    key = np.concatenate(keys)
    order = np.argsort(key, kind="stable")
    key, owner, is_mirror = key[order], np.concatenate([owners] * len(keys))[order], order >= count
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    sizes = np.diff(np.r_[starts, len(key)])
    size_here = np.repeat(sizes, sizes)
    met = []
    for step in range(1, MOST_IN_BUCKET):
        here = np.flatnonzero((key[step:] == key[:-step]) & (size_here[step:] <= MOST_IN_BUCKET))
        if not len(here):
            break
        first, second = owner[here], owner[here + step]
        distinct = first != second
        if len(keys) > 1:
            distinct &= is_mirror[here] != is_mirror[here + step]
        first, second = first[distinct], second[distinct]
        met.append(np.minimum(first, second) * number + np.maximum(first, second))
    return np.concatenate(met) if met else np.zeros(0, np.int64)


def _foremost(first: Pairs, second: Pairs, times: Pairs) -> tuple[Pairs, Pairs]:
    """The pairs that are among the most frequent ones of either of their images."""
    ends = np.concatenate([first, second])
    order = np.lexsort((-np.concatenate([times, times]), ends))
    sorted_ends = ends[order]
    starts = np.flatnonzero(np.r_[True, sorted_ends[1:] != sorted_ends[:-1]]) if len(order) else np.zeros(0, np.int64)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    chosen = np.unique(order[rank < MOST_PARTNERS] % max(len(first), 1))
    return first[chosen], second[chosen]


def _by_hash(features: Sequence[ImageFeatures], is_mirrored: bool) -> Pairs:
    """Pairs whose hashes differ in at most `HASH_BITS` bits: they agree in one of eleven parts of them."""
    rows = np.array([index for index, each in enumerate(features) if not each.is_flat], np.int64)
    plain = np.array([features[index].hash for index in rows], np.uint64)
    other = np.array([features[index].mirrored_hash for index in rows], np.uint64) if is_mirrored else plain
    close_pairs = []
    edges = np.linspace(0, 64, HASH_BITS + 2).astype(int)
    for low, high in pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        one, two = (plain >> np.uint64(low)) & mask, (other >> np.uint64(low)) & mask
        for here, there in _equal(one, two):
            close = np.bitwise_count(plain[here] ^ other[there]) <= HASH_BITS
            first, second = rows[here[close]], rows[there[close]]
            close_pairs.append(np.stack([np.minimum(first, second), np.maximum(first, second)], 1)[first != second])
    pairs = np.unique(np.concatenate(close_pairs), axis=0) if close_pairs else np.zeros((0, 2), np.int64)
    return np.column_stack([pairs, np.full(len(pairs), int(is_mirrored))])


def _equal(one: npt.NDArray[np.uint64], two: npt.NDArray[np.uint64]) -> Iterator[tuple[Pairs, Pairs]]:
    """Yield the indices of equal numbers in two arrays, a part at a time."""
    order = np.argsort(two, kind="stable")
    values = two[order]
    low, high = np.searchsorted(values, one, "left"), np.searchsorted(values, one, "right")
    for start in range(0, len(one), 4096):
        lengths = (high - low)[start : start + 4096]
        here = np.repeat(np.arange(start, start + len(lengths)), lengths)
        offset = np.arange(len(here)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield here, order[low[here] + offset]
