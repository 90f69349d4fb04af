"""Whether two images show the same: they are laid over each other and compared block by block.

Local features that agree give the transform (RANSAC, Fischler and Bolles 1981, by OpenCV); then the correlation of the
grey levels within each block of the common area decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from ablate.audit.features import Bytes, ImageFeatures

MOST_BITS: Final = 64
"""Bits of 256 that may differ between the descriptors of one place in two images."""

MOST_BITS_NEAR: Final = 80
"""The same where a transform lays the two near each other."""

REFINING: Final = (12.0, 6.0)
"""Distances in pixels within which features are matched again by the transform that was found."""

LEAST_INLIERS: Final = 6
LEAST_OVERLAP: Final = 0.2
"""Part of the smaller image that the other has to show as well."""

BLOCKS: Final = 7
"""Blocks along a side of the common area, were it a square."""

SMALLEST_BLOCK: Final = 12
"""Pixels along a side."""

FEWEST_BLOCKS: Final = 5
"""Blocks with structure that the common area needs."""

LEAST_AGREEING: Final = 0.6
"""Part of the blocks with structure that have to agree."""

BLOCK_CORRELATION: Final = 0.7
"""Correlation of grey levels from which a block agrees."""

LEAST_MEDIAN: Final = 0.8
"""Median correlation of the blocks that it takes."""

HALF: Final = 0.5
SMALL: Final = (0.85, 0.9)
"""Agreeing part and median correlation that it takes where less than half of the smaller image is common."""

LEAST_CORRELATION: Final = 0.5
"""Correlation of two thumbnails from which on the images are laid over each other as they are."""

LARGEST_SCALE: Final = 2.5
"""Of one image relative to the other, as they are compared."""

MOST_STRETCH: Final = 1.6
"""Scale along one direction relative to that across it: where only the width was changed."""

Points = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """How two images that show the same lie on each other.

    Attributes:
        agreement: Part of the blocks of the common area that agree.
        correlation: Median correlation of these blocks.
        overlap: Common area as part of the smaller image.
        transform: From pixels of the first image, as it is compared, to pixels of the second, (2, 3).
        is_mirrored: Whether one is the mirror image of the other.
    """

    agreement: float
    correlation: float
    overlap: float
    transform: Matrix
    is_mirrored: bool


def likeness(
    first: ImageFeatures, second: ImageFeatures, images: Callable[[], tuple[Bytes, Bytes] | None], is_mirrored: bool
) -> Likeness | None:
    """Return how two images lie on each other; None where they do not show the same.

    Args:
        first: Features of the first.
        second: Features of the second.
        images: Returns both as they are compared, (H, W) each; None where one cannot be read. Only called where it is
            worth a look.
        is_mirrored: Whether the first is compared as its mirror image.
    """
    matrices = _transforms(first, second, is_mirrored)
    both = images() if matrices else None
    best = None
    for matrix in matrices if both else ():
        assert both is not None
        laid = _laid(both, matrix, is_mirrored)
        if laid is not None and (best is None or laid.agreement > best.agreement):
            best = laid
        if best is not None and best.agreement > 0.9:
            break
    return best


def thumbnail_correlation(first: ImageFeatures, second: ImageFeatures, is_mirrored: bool = False) -> float:
    """Return the correlation of the grey levels of two thumbnails, -1 to 1; 0 where one is flat."""
    one = (first.thumbnail[:, ::-1] if is_mirrored else first.thumbnail).astype(np.float64)
    one, two = one - one.mean(), second.thumbnail - second.thumbnail.mean()
    spread = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum()) / spread if spread > 0 else 0.0


def _transforms(first: ImageFeatures, second: ImageFeatures, is_mirrored: bool) -> list[Matrix]:
    """Transforms from the first image to the second that may be right."""
    possible = []
    matrix = _by_local_features(first, second, is_mirrored)
    if matrix is not None:
        possible.append(matrix)
    if thumbnail_correlation(first, second, is_mirrored) >= LEAST_CORRELATION:
        x, y = second.width / first.width, second.height / first.height
        possible.append(np.array([[-x, 0, second.width - x], [0, y, 0]] if is_mirrored else [[x, 0, 0], [0, y, 0.0]]))
    return possible


def _by_local_features(first: ImageFeatures, second: ImageFeatures, is_mirrored: bool) -> Matrix | None:
    bits = first.mirrored_bits if is_mirrored else first.bits
    if min(len(bits), len(second.bits)) < LEAST_INLIERS:
        return None
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(bits, second.bits)
    pairs = [(m.queryIdx, m.trainIdx) for m in matches if m.distance <= MOST_BITS]
    if len(pairs) < LEAST_INLIERS:
        return None
    here, there = np.array(pairs).T
    matrix = _agreed(first.places[here], second.places[there], 4.0)
    for radius in REFINING:
        if matrix is None:
            return None
        here, there = _near(first, second, bits, matrix, radius)
        matrix = _agreed(first.places[here], second.places[there], radius / 2)
    return matrix if matrix is not None and _is_possible(matrix, is_mirrored) else None


def _agreed(start: Points, end: Points, distance: float) -> Matrix | None:
    """The affine transform that most points agree on, within a distance in pixels; None where too few do."""
    if len(start) < LEAST_INLIERS:
        return None
    matrix, inliers = cv2.estimateAffine2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=distance, maxIters=1500)
    return None if matrix is None or int(inliers.sum()) < LEAST_INLIERS else np.asarray(matrix, np.float64)


def _near(
    first: ImageFeatures, second: ImageFeatures, bits: Bytes, matrix: Matrix, radius: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Local features that a transform lays near each other and that look alike: indices of both."""
    moved = first.places @ matrix[:, :2].T + matrix[:, 2]
    apart = ((moved[:, None] - second.places[None]) ** 2).sum(-1)
    here, there = np.nonzero(apart <= radius**2)
    differ = np.bitwise_count(bits[here] ^ second.bits[there]).sum(1)
    order = np.argsort(differ, kind="stable")
    order = order[differ[order] <= MOST_BITS_NEAR]
    _, best = np.unique(here[order], return_index=True)
    return here[order[best]], there[order[best]]


def _is_possible(matrix: Matrix, is_mirrored: bool) -> bool:
    """Whether a transform may be that of a copy: no more than some scale, little stretched, mirrored as asked."""
    large, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    is_turned_over = bool(np.linalg.det(matrix[:, :2]) < 0)
    is_scaled = large <= LARGEST_SCALE and small >= 1 / LARGEST_SCALE and large <= MOST_STRETCH * small
    return bool(is_scaled and is_turned_over == is_mirrored)


def _laid(images: tuple[Bytes, Bytes], matrix: Matrix, is_mirrored: bool) -> Likeness | None:
    """How the images agree where a transform lays them; None where they do not."""
    one, two = images
    height, width = two.shape
    moved = cv2.warpAffine(one, matrix, (width, height), flags=cv2.INTER_LINEAR)
    common = cv2.warpAffine(np.full_like(one, 255), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
    area = abs(float(np.linalg.det(matrix[:, :2]))) * one.size
    overlap = float(common.sum()) / min(area, float(two.size))
    if overlap < LEAST_OVERLAP:
        return None
    side = max(round(np.sqrt(common.sum()) / BLOCKS), SMALLEST_BLOCK)
    moved, two = (cv2.GaussianBlur(each, (5, 5), 0).astype(np.float32) for each in (moved, two))
    correlations = _block_correlations(moved, two, common, side)
    if len(correlations) < FEWEST_BLOCKS:
        return None
    agreement, correlation = float((correlations >= BLOCK_CORRELATION).mean()), float(np.median(correlations))
    least, least_median = SMALL if overlap < HALF else (LEAST_AGREEING, LEAST_MEDIAN)
    if agreement < least or correlation < least_median:
        return None
    return Likeness(agreement, correlation, min(overlap, 1.0), matrix, is_mirrored)


def _block_correlations(
    one: npt.NDArray[np.float32], two: npt.NDArray[np.float32], common: npt.NDArray[np.bool_], side: int
) -> npt.NDArray[np.float64]:
    """Correlation of the grey levels in each block that is common to both images and has structure, (B,)."""
    rows, columns = one.shape[0] // side, one.shape[1] // side

    def blocks(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        cut = image[: rows * side, : columns * side].astype(np.float64)
        return cut.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows * columns, side * side)

    whole = blocks(common.astype(np.float32)).mean(1) > 0.98
    a, b = (each - each.mean(1, keepdims=True) for each in (blocks(one)[whole], blocks(two)[whole]))
    spread_a, spread_b = a.std(1), b.std(1)
    has_structure = np.maximum(spread_a, spread_b) > 3.0
    product = (a * b).mean(1)
    return np.asarray((product / np.maximum(spread_a * spread_b, 1e-6))[has_structure])
