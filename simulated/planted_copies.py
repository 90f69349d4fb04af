"""Images that are made from another one, as they occur in data sets: what an audit has to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np

Image = np.ndarray
"""(H, W, 3), uint8."""


def recompressed(image: Image, random: np.random.Generator) -> Image:
    """JPEG of quality 25 to 60."""
    quality = int(random.integers(25, 61))
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def cropped(image: Image, random: np.random.Generator) -> Image:
    """A window without 10 to 20 % of the width and of the height, anywhere."""
    height, width = image.shape[:2]
    part = 1 - random.uniform(0.1, 0.2, 2)
    rows, columns = int(height * part[0]), int(width * part[1])
    top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
    return image[top : top + rows, left : left + columns]


def shifted(image: Image, random: np.random.Generator) -> Image:
    """Moved by 5 to 15 % of each side; black where it was not."""
    height, width = image.shape[:2]
    x, y = random.uniform(0.05, 0.15, 2) * random.choice([-1, 1], 2) * (width, height)
    return cv2.warpAffine(image, np.array([[1, 0, x], [0, 1, y]]), (width, height))


def mirrored(image: Image, random: np.random.Generator) -> Image:
    """Left and right exchanged."""
    return image[:, ::-1]


def upside_down(image: Image, random: np.random.Generator) -> Image:
    """Top and bottom exchanged."""
    return image[::-1]


def quarter_turned(image: Image, random: np.random.Generator) -> Image:
    """Turned by 90 degrees, either way."""
    return np.rot90(image, int(random.choice([1, 3])))


def gamma(image: Image, random: np.random.Generator) -> Image:
    """Gamma of 0.5 to 0.75, or of 1.3 to 2."""
    power = random.uniform(0.5, 0.75) if random.random() < 0.5 else random.uniform(1.3, 2)
    return np.uint8(255 * (image / 255) ** power)


def recoloured(image: Image, random: np.random.Generator) -> Image:
    """Hue turned by up to 40 degrees, less contrast, brighter or darker."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + random.uniform(-20, 20)) % 180
    turned = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR).astype(np.float32)
    return np.uint8(np.clip(turned * random.uniform(0.7, 0.95) + random.uniform(-20, 40), 0, 255))


def resized(image: Image, random: np.random.Generator) -> Image:
    """A half to three quarters of the size; or 1.5 times."""
    scale = random.choice([0.5, 0.6, 0.75, 1.5])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def noisy(image: Image, random: np.random.Generator) -> Image:
    """Normal noise with a standard deviation of 4 to 10 grey levels."""
    return np.uint8(np.clip(image + random.normal(0, random.uniform(4, 10), image.shape), 0, 255))


def neighbour_frame(image: Image, random: np.random.Generator) -> Image:
    """The next frame of a recording: the camera has moved by 1 to 4 %, a patch by itself, new noise, other light."""
    height, width = image.shape[:2]
    x, y = random.uniform(0.01, 0.04, 2) * random.choice([-1, 1], 2) * (width, height)
    moved = cv2.warpAffine(image, np.array([[1, 0, x], [0, 1, y]]), (width, height), borderMode=cv2.BORDER_REFLECT)
    rows, columns = height // 4, width // 4
    top, left = random.integers(0, height - rows, 2), random.integers(0, width - columns, 2)
    moved[top[1] : top[1] + rows, left[1] : left[1] + columns] = image[
        top[0] : top[0] + rows, left[0] : left[0] + columns
    ]
    return np.uint8(np.clip(moved * random.uniform(0.9, 1.1) + random.normal(0, 3, moved.shape), 0, 255))


def mixed(image: Image, random: np.random.Generator) -> Image:
    """Cropped, mirrored, gamma, recompressed: all four."""
    return recompressed(gamma(mirrored(cropped(image, random), random), random), random)


KINDS: Final[Mapping[str, Callable[[Image, np.random.Generator], Image]]] = {
    "recompressed": recompressed, "cropped": cropped, "shifted": shifted, "mirrored": mirrored,
    "upside down": upside_down, "quarter turned": quarter_turned, "gamma": gamma, "recoloured": recoloured,
    "resized": resized, "noisy": noisy, "neighbour frame": neighbour_frame, "mixed": mixed,
}  # fmt: skip
