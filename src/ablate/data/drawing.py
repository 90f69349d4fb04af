"""Drawing of the built-in data set's pictures, in integer arithmetic only.

Three rules make a picture the same on every machine, byte for byte:

- every random number comes from `numpy.random.RandomState`, whose stream NumPy has frozen;
- rotations are exact rational ones (tangent of the half angle), edges are smoothed by counting sub-pixels,
  colours are mixed with floor divisions: no cos, no square root, no library's rasteriser;
- a picture depends on its seed and style only, not on how many pictures are drawn.

Lengths are measured in units of 1/8 pixel, in which the centres of the 4 x 4 sub-pixels are odd numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

CLASSES: Final = ("circle", "square", "triangle", "star", "cross", "ring")
"""Names of the classes, in the order of their ids."""

VERSION: Final = 1
"""Goes up whenever the drawing changes, so that old and new pictures are never taken for each other."""

UNIT: Final = 8
"""Length units per pixel."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_SUB = 4  # sub-pixels per pixel and axis
_TURN = 29  # tangent of half a rotation is k / 29 with |k| <= 12: up to 44.96 degrees; quarter turns do the rest

# Outward normals of a pentagon's sides in 1/1024, the first pointing up. Written down, never computed.
_PENTAGON = ((0, -1024), (974, -316), (602, 828), (-602, 828), (-974, -316))


@dataclass(frozen=True)
class Style:
    """How crowded and how noisy the pictures are."""

    imgsz: int
    """Width and height in pixels."""
    objects: int
    """Most objects in one picture."""
    clutter: int
    """Most distractors in one picture."""
    noise: int
    """Amplitude of the pixel noise in grey levels."""
    occlusion: int
    """Largest hidden part of an object in per cent of its area."""


@dataclass(frozen=True)
class Picture:
    """One drawn picture and what is in it."""

    pixels: npt.NDArray[np.uint8]
    """(H, W, 3), red green blue."""
    boxes: tuple[tuple[int, int, int, int, int], ...]
    """(class, x1, y1, x2, y2) in 1/8 pixel: the shape with its hidden parts, cut at the picture's border."""


def draw(style: Style, seed: tuple[int, ...]) -> Picture:
    """Draw the picture that belongs to a seed (whole numbers from 0 to 2**32 - 1)."""
    rng = np.random.RandomState([VERSION, *seed])
    canvas = _Canvas(rng, style)
    n_objects = _pick(rng, (style.objects + 1) // 2, style.objects)
    n_clutter = _pick(rng, style.clutter // 3, style.clutter)
    above = _pick(rng, 0, n_clutter // 2)  # some distractors lie on top
    for _ in range(n_clutter - above):
        canvas.place(_CLUTTER)
    for _ in range(n_objects):
        canvas.place(CLASSES)
    for _ in range(above):
        canvas.place(_CLUTTER)
    return Picture(canvas.finish(), tuple(canvas.boxes))


def _pick(rng: np.random.RandomState, low: int, high: int) -> int:
    """A whole number from low to high, both included, 64 bits wide on every system."""
    return int(rng.randint(low, high + 1, dtype=np.int64))


def _colour(rng: np.random.RandomState, low: int, high: int) -> IntArray:
    return np.asarray(rng.randint(low, high + 1, size=3, dtype=np.int64))


# --- outlines: which points (u right, v down, from the centre) lie inside a shape of radius r ---


def _circle(u: IntArray, v: IntArray, r: int) -> BoolArray:
    return u * u + v * v <= r * r


def _square(u: IntArray, v: IntArray, r: int) -> BoolArray:
    return 5 * np.maximum(np.abs(u), np.abs(v)) <= 4 * r


def _triangle(u: IntArray, v: IntArray, r: int) -> BoolArray:
    return (2 * v <= r) & (97 * np.abs(u) - 56 * v <= 56 * r)  # 97/56 for the root of 3


def _star(u: IntArray, v: IntArray, r: int) -> BoolArray:
    # A pentagram is what at least four of its five lines, 0.309 r off centre, have on their inner side.
    inside = np.zeros(u.shape, dtype=np.int64)
    for nx, ny in _PENTAGON:
        inside += 1000 * (-nx * u - ny * v) <= 309 * 1024 * r
    return inside >= 4


def _cross(u: IntArray, v: IntArray, r: int) -> BoolArray:
    a, b = np.abs(u), np.abs(v)
    return (np.maximum(a, b) <= r) & (10 * np.minimum(a, b) <= 3 * r)


def _ring(u: IntArray, v: IntArray, r: int) -> BoolArray:
    d = u * u + v * v
    return (d <= r * r) & (3 * d >= r * r)


def _bar(u: IntArray, v: IntArray, r: int) -> BoolArray:
    return (np.abs(u) <= r) & (9 * np.abs(v) <= r)


def _half(u: IntArray, v: IntArray, r: int) -> BoolArray:
    return _circle(u, v, r) & (v >= 0)


def _arc(u: IntArray, v: IntArray, r: int) -> BoolArray:
    return _ring(u, v, r) & (v >= u)


def _blob(u: IntArray, v: IntArray, r: int) -> BoolArray:
    inside = np.zeros(u.shape, dtype=np.bool_)
    for cx, cy, cr in ((-4, -2, 5), (3, -4, 4), (2, 4, 5)):  # three discs, in tenths of r
        inside |= _circle(10 * u - cx * r, 10 * v - cy * r, cr * r)
    return inside


_OUTLINES: Final[dict[str, Callable[[IntArray, IntArray, int], BoolArray]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "bar": _bar,
    "half": _half,
    "arc": _arc,
    "blob": _blob,
}
_CLUTTER: Final = ("bar", "bar", "half", "arc", "blob")


class _Canvas:
    """A picture being drawn: pixels, who owns each pixel, and how much of each object is still to be seen."""

    def __init__(self, rng: np.random.RandomState, style: Style) -> None:
        self.rng = rng
        self.style = style
        self.size = style.imgsz
        self.pixels = self._ground()
        self.owner = np.full((self.size, self.size), -1, dtype=np.int64)
        self.area: list[int] = []  # of each object, in pixels, what lies beyond the border too
        self.boxes: list[tuple[int, int, int, int, int]] = []

    def place(self, kinds: tuple[str, ...], attempts: int = 8) -> None:
        """Draw one shape of a random kind where it hides no object too much; none when there is no room."""
        for _ in range(attempts):
            if self._try(kinds[_pick(self.rng, 0, len(kinds) - 1)]):
                return

    def finish(self) -> npt.NDArray[np.uint8]:
        """Add the noise of the sensor and return (H, W, 3) bytes."""
        if self.style.noise:
            raw = np.frombuffer(self.rng.bytes(2 * self.pixels.size), dtype=np.uint8).astype(np.int64)
            triangular = raw[: self.pixels.size] - raw[self.pixels.size :]  # -255 to 255
            self.pixels += (triangular * self.style.noise // 256).reshape(self.pixels.shape)
        return np.clip(self.pixels, 0, 255).astype(np.uint8)

    def _ground(self) -> IntArray:
        """A slope between two colours with cloudy texture of two grain sizes: (H, W, 3)."""
        rng, n = self.rng, self.size
        first = _colour(rng, 50, 200)
        second = np.clip(first + _colour(rng, -45, 45), 0, 255)
        across, down = _pick(rng, -8, 8), _pick(rng, -8, 8)
        x = np.arange(n, dtype=np.int64).reshape(1, -1)
        y = x.reshape(-1, 1)
        slope = across * (2 * x - n) + down * (2 * y - n) + 16 * n  # 0 to 32 n
        ground: IntArray = first + (second - first) * slope[..., None] // (32 * n)
        for cell, strength in ((n // 4, 26), (n // 16, 12)):
            grain = self._cloud(cell)
            ground += grain[..., None] * (_colour(rng, strength // 2, strength)) // 256
        return ground

    def _cloud(self, cell: int) -> IntArray:
        """Random values on a lattice of `cell` pixels, interpolated linearly: (H, W) from -256 to 256."""
        n = self.size
        knots = self.rng.randint(-256, 257, size=(n // cell + 2, n // cell + 2), dtype=np.int64)
        index, part = np.divmod(np.arange(n, dtype=np.int64), cell)
        rows = knots[index] * (cell - part)[:, None] + knots[index + 1] * part[:, None]
        both = rows[:, index] * (cell - part) + rows[:, index + 1] * part
        return np.asarray(both // (cell * cell), dtype=np.int64)

    def _try(self, kind: str) -> bool:
        rng, limit = self.rng, self.size * UNIT
        small, large = self.size // 14, self.size // 4
        # The product of two numbers favours the small, as in natural images.
        radius = UNIT * small + (large - small) * UNIT * _pick(rng, 0, 32) * _pick(rng, 8, 32) // 1024
        if kind == "bar":
            radius = radius * 3 // 2
        cx, cy = _pick(rng, 0, limit), _pick(rng, 0, limit)
        angle, quarter = _pick(rng, -12, 12), _pick(rng, 0, 3)
        reach = radius * 6 // 5  # the corners of a square lie at 1.13 radii
        left, top = (cx - reach) // UNIT, (cy - reach) // UNIT
        side = 2 * reach // UNIT + 2
        inside = _rasterise(kind, cx - left * UNIT, cy - top * UNIT, radius, (angle, quarter), side)

        cover = inside.reshape(side, _SUB, side, _SUB).sum(axis=(1, 3), dtype=np.int64)  # 0 to 16
        window, seen = self._cut(left, top, cover)
        solid = seen >= _SUB * _SUB // 2
        area = int((cover >= _SUB * _SUB // 2).sum())
        if not self._visible_enough(window, solid, area):
            return False
        colours = self._colours(window, solid)
        if colours is None:
            return False

        offset = max(self.size // 64, 1)
        ground, shadow = self._cut(left + offset, top + offset, cover)
        self.pixels[ground] -= self.pixels[ground] * shadow[..., None] // (4 * _SUB * _SUB)
        self._paint(window, seen, colours)
        self.owner[window][solid] = len(self.boxes) if kind in CLASSES else -1
        if kind in CLASSES:
            self.area.append(area)
            self.boxes.append((CLASSES.index(kind), *_extent(inside, left, top, limit)))
        return True

    def _cut(self, left: int, top: int, cover: IntArray) -> tuple[tuple[slice, slice], IntArray]:
        """Where a shape's window lies on the canvas, and the part of its coverage that is on it."""
        (x1, x2), (y1, y2) = (np.clip((start, start + len(cover)), 0, self.size) for start in (left, top))
        return (slice(y1, y2), slice(x1, x2)), cover[y1 - top : y2 - top, x1 - left : x2 - left]

    def _visible_enough(self, window: tuple[slice, slice], solid: BoolArray, area: int) -> bool:
        """Whether the new shape, and all objects under it, would still show the part that must be seen."""
        must_show = 100 - self.style.occlusion
        if int(solid.sum()) * 100 < area * max(must_show, 60):  # what the border cuts off
            return False
        if not self.boxes:
            return True
        before = np.bincount(self.owner.ravel() + 1, minlength=len(self.boxes) + 1)[1:]
        hidden = np.bincount(self.owner[window][solid] + 1, minlength=len(self.boxes) + 1)[1:]
        left = (before - hidden) * 100
        return bool(np.all((hidden == 0) | (left >= must_show * np.array(self.area))))

    def _colours(self, window: tuple[slice, slice], solid: BoolArray) -> tuple[IntArray, IntArray] | None:
        """Two colours to shade between, apart from what lies behind; None when eight draws find none."""
        inside = self.pixels[window][solid]
        behind = inside.sum(axis=0) // max(len(inside), 1)
        for _ in range(8):
            colour = _colour(self.rng, 15, 240)
            if int(np.abs(colour - behind).max()) >= 45:
                return colour, np.clip(colour + _colour(self.rng, -30, 30), 0, 255)
        return None

    def _paint(self, window: tuple[slice, slice], cover: IntArray, colours: tuple[IntArray, IntArray]) -> None:
        """Lay the shape over the window: a slope between the colours, mixed by sub-pixel coverage."""
        height, width = cover.shape
        first, second = colours
        across = self.rng.randint(0, 2, dtype=np.int64)
        ramp = np.arange(width if across else height, dtype=np.int64).reshape((1, -1) if across else (-1, 1))
        slope = np.broadcast_to(ramp, cover.shape)[..., None]
        fill = first + (second - first) * slope // max(width if across else height, 1)
        behind = self.pixels[window]
        behind += (fill - behind) * cover[..., None] // (_SUB * _SUB)


def _rasterise(kind: str, cx: int, cy: int, radius: int, turn: tuple[int, int], side: int) -> BoolArray:
    """Sub-pixels of a window of `side` pixels that lie inside the shape: (4 side, 4 side)."""
    angle, quarter = turn
    centres = np.arange(side * _SUB, dtype=np.int64) * 2 + 1
    x, y = (centres - cx).reshape(1, -1), (centres - cy).reshape(-1, 1)
    for _ in range(quarter):
        x, y = y, -x
    cos, sin, scale = _TURN**2 - angle**2, 2 * _TURN * angle, _TURN**2 + angle**2
    return _OUTLINES[kind](cos * x + sin * y, cos * y - sin * x, radius * scale)


def _extent(inside: BoolArray, left: int, top: int, limit: int) -> tuple[int, int, int, int]:
    """The tight box around a window's sub-pixels in units, cut at the picture's border: x1, y1, x2, y2."""
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    step = UNIT // _SUB
    box = (
        left * UNIT + int(columns[0]) * step,
        top * UNIT + int(rows[0]) * step,
        left * UNIT + (int(columns[-1]) + 1) * step,
        top * UNIT + (int(rows[-1]) + 1) * step,
    )
    x1, y1, x2, y2 = (min(max(value, 0), limit) for value in box)
    return x1, y1, x2, y2
