"""What two images are compared by: a hash of the whole image, and local features, also of the mirrored image.

The hash is of the signs of low frequencies (Zauner, Implementation and benchmarking of perceptual image hash functions,
2010). The local features are ORB (Rublee et al., ORB: an efficient alternative to SIFT or SURF, ICCV 2011), by OpenCV.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

VERSION: Final = 1
"""Goes up when features change; older ones in the cache are then not used."""

SIDE: Final = 384
"""Longer side in pixels of an image as it is compared."""

FEATURES: Final = 200
"""Most local features of an image."""

THUMBNAIL: Final = 32
"""Width and height of a thumbnail in pixels."""

_FLAT: Final = 2.0  # grey levels of standard deviation below which an image shows nothing
_HEAD = struct.Struct("<HHH?dQQ20s")

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageFeatures:
    """What an image is compared by.

    Attributes:
        width, height: Of the image as it is compared, in pixels.
        is_flat: Whether it shows nothing: one colour.
        taken: When the photograph was taken, seconds, by its EXIF data; NaN where it does not say.
        camera: The camera, shortened; empty where the EXIF data do not say.
        hash, mirrored_hash: Signs of 64 low frequencies, of the image and of its mirror image.
        thumbnail: (THUMBNAIL, THUMBNAIL), uint8, grey.
        places: x and y of each local feature in pixels, (F, 2), float32.
        bits: Descriptor of each local feature, (F, 32), uint8.
        mirrored_bits: Descriptor of the same place in the mirror image, (F, 32), uint8.
    """

    width: int
    height: int
    is_flat: bool
    taken: float
    camera: str
    hash: int
    mirrored_hash: int
    thumbnail: Bytes
    places: npt.NDArray[np.float32]
    bits: Bytes
    mirrored_bits: Bytes

    def packed(self) -> bytes:
        """Return the same as bytes."""
        head = (self.width, self.height, len(self.places), self.is_flat, self.taken, self.hash, self.mirrored_hash)
        arrays = (self.thumbnail, self.places.astype(np.float16), self.bits, self.mirrored_bits)
        camera = self.camera.encode("ascii", "replace")[:20]
        return _HEAD.pack(*head, camera) + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)

    @classmethod
    def unpacked(cls, content: bytes) -> ImageFeatures:
        """Return what was packed.

        Raises:
            ValueError, struct.error: The bytes are something else.
        """
        width, height, number, is_flat, taken, whole, mirrored, camera = _HEAD.unpack_from(content)
        sizes = (THUMBNAIL * THUMBNAIL, 4 * number, 32 * number, 32 * number)
        ends = np.cumsum((_HEAD.size, *sizes))
        if ends[-1] != len(content):
            raise ValueError(f"{len(content)} bytes in place of {ends[-1]}")
        parts = [np.frombuffer(content[start:end], np.uint8) for start, end in pairwise(ends)]
        return cls(
            width, height, is_flat, taken, camera.rstrip(b"\0").decode("ascii"), whole, mirrored,
            parts[0].reshape(THUMBNAIL, THUMBNAIL), parts[1].view(np.float16).astype(np.float32).reshape(-1, 2),
            parts[2].reshape(-1, 32), parts[3].reshape(-1, 32),
        )  # fmt: skip


def features_of(content: bytes) -> ImageFeatures | None:
    """Return what an image file is compared by; None where it cannot be decoded."""
    image = grey_image(content)
    if image is None:
        return None
    height, width = image.shape
    mirror = np.ascontiguousarray(image[:, ::-1])
    thumbnail = np.asarray(cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
    places, bits, mirrored_bits = _local_features(image, mirror)
    taken, camera = _photograph(content)
    is_flat = float(image.std()) < _FLAT
    hashes = (_hash(thumbnail), _hash(thumbnail[:, ::-1]))
    return ImageFeatures(width, height, is_flat, taken, camera, *hashes, thumbnail, places, bits, mirrored_bits)


def grey_image(content: bytes) -> Bytes | None:
    """Return an image file as it is compared, (H, W): grey, turned as EXIF says, the longer side `SIDE` pixels.

    None where it cannot be decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as opened:
            longer = max(opened.size)
            image = cv2.imdecode(np.frombuffer(content, np.uint8), _reduced(longer))
            if image is None:  # such as AVIF
                image = np.asarray(ImageOps.exif_transpose(opened).convert("L"))
    except Exception:  # whatever a decoder raises, there is no image
        return None
    scale = SIDE / max(image.shape)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=way), dtype=np.uint8)


def _reduced(longer: int) -> int:
    """OpenCV's flag by which a JPEG is decoded at a part of its size, still larger than it is compared."""
    parts = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
    return next((flag for part, flag in parts.items() if longer // part >= SIDE), cv2.IMREAD_GRAYSCALE)


def _local_features(image: Bytes, mirror: Bytes) -> tuple[npt.NDArray[np.float32], Bytes, Bytes]:
    """Places and descriptors of the local features, and those of the same places in the mirror image."""
    smooth, smooth_mirror = (cv2.GaussianBlur(each, (5, 5), 0) for each in (image, mirror))
    orb = cv2.ORB.create(nfeatures=FEATURES, scaleFactor=1.25, nlevels=5, fastThreshold=5)
    points = orb.detect(smooth, None)
    points, bits = orb.compute(smooth, points)
    if bits is None:
        nothing = np.zeros((0, 32), np.uint8)
        return np.zeros((0, 2), np.float32), nothing, nothing
    width = image.shape[1]
    turned = [
        cv2.KeyPoint(width - 1 - p.pt[0], p.pt[1], p.size, (180 - p.angle) % 360, p.response, p.octave, index)
        for index, p in enumerate(points)
    ]
    turned, mirrored_bits = orb.compute(smooth_mirror, turned)
    if mirrored_bits is None:
        mirrored_bits = np.zeros((0, 32), np.uint8)
    kept = [p.class_id for p in turned]
    places = np.array([points[index].pt for index in kept], np.float32).reshape(-1, 2)
    return places.astype(np.float16).astype(np.float32), bits[kept], mirrored_bits  # as from the cache


def _hash(thumbnail: Bytes) -> int:
    """Whether each of 64 low frequencies of a thumbnail is above their median, as the bits of a number."""
    low = cv2.dct(np.ascontiguousarray(thumbnail, dtype=np.float32))[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")


def _photograph(content: bytes) -> tuple[float, str]:
    """When an image was taken, in seconds, and by which camera, as its EXIF data say: NaN and nothing otherwise."""
    from PIL import ExifTags, Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            exif = image.getexif()
            details: Any = exif.get_ifd(ExifTags.IFD.Exif)
        text = str(details.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime) or "")
        part = str(details.get(ExifTags.Base.SubsecTimeOriginal) or "").strip()
        seconds = datetime.strptime(text.strip("\0 "), "%Y:%m:%d %H:%M:%S").timestamp()
        fraction = float(f"0.{part}") if part.isascii() and part.isdecimal() else 0.0
        return seconds + fraction, str(exif.get(ExifTags.Base.Model) or "").strip("\0 ")
    except Exception:  # EXIF data of strangers
        return float("nan"), ""
