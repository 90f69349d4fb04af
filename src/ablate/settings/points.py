"""Insertion points and their kinds: what goes there, and whether a module can be it.

| kind | what goes there | forward |
|---|---|---|
| insert | a module that is added after a place | (B, C, H, W) -> (B, C, H, W) |
| block | a module in place of a layer that keeps the size of its map | (B, C, H, W) -> (B, C', H, W) |
| downsample | a module in place of a stride-2 convolution | (B, C, H, W) -> (B, C', ceil(H/2), ceil(W/2)) |
| upsample | a module in place of an upsampling | (B, C, H, W) -> (B, C, 2H, 2W) |
| fuse | a module in place of a concatenation | maps of one size -> (B, C', H, W) |
| head | a subclass of Detect in its place, or an adapter before it | maps -> maps of the same shapes |

A module's file says in `about.kind` which of these it can be. Which places of a network a point means:
`ablate.grafting.find_places`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HEAD_POINT = "detect"  # where the key `head` of a configuration puts its module
REPLACE_LAYER = "replace_layer"  # the layers of `insertion.at`, whatever they are

# What a constructor may ask for by name of the layer that it replaces.
FACTS = ("stride", "kernel_size", "repeats", "shortcut", "s", "k", "n", "replaced")
HEAD_FACTS = ("nc", "reg_max", "end2end", "ch", "replaced")

_LAYERS = re.compile(rf"({REPLACE_LAYER})?(layer)?(\d+(?:\+\d+)*)?")


@dataclass(frozen=True)
class Point:
    """An insertion point.

    Attributes:
        name: Its name on the command line.
        kind: What goes there, of `ablate.settings.about.KINDS`.
        inside: Points whose layers hold or are those of this one: both cannot be replaced.
    """

    name: str
    kind: str
    inside: tuple[str, ...] = ()

    @property
    def replaces(self) -> bool:
        """Whether what goes there takes the place of a layer."""
        return self.kind != "insert"

    def takes(self, kinds: Sequence[str] | None) -> bool:
        """Tell whether a module that can be of these kinds fits; None: its file does not say, and it is tried.

        A module of kind insert keeps the shape of a map, so it also replaces a block whose channels stay the same.
        """
        if kinds is None or self.kind in kinds:
            return True
        if self.name == REPLACE_LAYER:
            return bool({"insert", "downsample", "upsample", "fuse"} & set(kinds))
        return self.kind == "block" and "insert" in kinds


POINTS = {
    point.name: point
    for point in (
        Point("c3k2", "insert", inside=("c3k2_block", "bottleneck")),
        Point("head", "insert"),
        Point("psa", "insert", inside=("c2psa",)),
        Point("backbone_p3", "insert"),
        Point("backbone_p4", "insert"),
        Point("backbone_p5", "insert"),
        Point("neck_p3", "insert"),
        Point("neck_p4", "insert"),
        Point("neck_p5", "insert"),
        Point("c3k2_block", "block"),
        Point("bottleneck", "block", inside=("c3k2_block",)),
        Point("bottleneck_conv", "block", inside=("c3k2_block", "bottleneck")),
        Point("sppf", "block"),
        Point("c2psa", "block"),
        Point("psa_attention", "block", inside=("c2psa",)),
        Point("down", "downsample"),
        Point("down_backbone", "downsample", inside=("down",)),
        Point("down_neck", "downsample", inside=("down",)),
        Point("down_stem", "downsample"),
        Point("up", "upsample"),
        Point("fuse", "fuse"),
        Point(HEAD_POINT, "head"),
        Point(REPLACE_LAYER, "block"),
    )
}
_AFTER_LAYER = Point("layer", "insert")


def point_of(name: str) -> Point | None:
    """Return the point of an insertion by its name, such as ``down``, ``layer4+6`` or ``replace_layer6``."""
    if name in POINTS:
        return POINTS[name]
    match = _LAYERS.fullmatch(name)
    if match is None or not (match[1] or match[2]):
        return None
    return POINTS[REPLACE_LAYER] if match[1] else _AFTER_LAYER


def layers_of(place: str) -> tuple[str, tuple[int, ...]] | None:
    """Return the prefix and the layers of a place that names some, such as ``4+6``, ``layer4`` or ``replace_layer4``.

    None for any other place. The prefix is ``layer`` or ``replace_layer``.
    """
    match = _LAYERS.fullmatch(place)
    if match is None or match[3] is None:
        return None
    return match[1] or "layer", tuple(dict.fromkeys(map(int, match[3].split("+"))))


def points_for(kinds: Sequence[str]) -> list[str]:
    """Return the names of the points that take a module of one of these kinds."""
    return [point.name for point in POINTS.values() if point.takes(kinds)]
