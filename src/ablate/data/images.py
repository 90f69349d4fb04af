"""Which image files a training can use: Ultralytics' own check, and what comes after it, before anything is trained.

Ultralytics drops an image that its check (`ultralytics.data.utils.check_image`) refuses, with a line in a log; an
image that passes the check and then cannot be decoded ends a training in its middle. Both are asked here by the same
means, Pillow and OpenCV, so that the answers agree; neither torch nor ultralytics is imported.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

IMAGE_SUFFIXES: Final = frozenset(
    ("avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
)
"""What Ultralytics takes for an image, by the end of its name in lower case."""

OTHER_SUFFIXES: Final = frozenset(
    ("arw", "cr2", "exr", "gif", "hdr", "ico", "j2k", "jfif", "jif", "jpe", "jxl", "nef", "pbm", "pgm", "pnm", "ppm",
     "psd", "svg", "tga")
)  # fmt: skip
"""Images by the end of their name that Ultralytics passes over."""

MIN_SIDE: Final = 10
"""Ultralytics drops images with a side of fewer pixels."""

_FORMATS = IMAGE_SUFFIXES | {"jpeg2000"}  # what an image may be by its content, as Pillow names it
_BY_PILLOW = frozenset(("avif", "heic", "heif"))  # suffixes that Ultralytics has Pillow decode
_SCAN = b"\xff\xda"  # begins a scan of a JPEG; among its pixels no other byte than 0 follows an ff
_SOME_PIXELS = 600  # bytes
_HEIF_PLUGIN = "pi_heif"  # what Ultralytics looks for where Pillow alone knows no such image
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_lock = threading.Lock()
_loud: list[int] = []  # OpenCV's level of logging before it was made quiet


def image_problem(content: bytes, path: Path, channels: int = 3) -> str:
    """Why a training cannot use an image file, in words; empty where it can.

    PNG is checked by its checksums and end, JPEG by its end and its headers, which is all that stops a decoder; other
    formats are decoded.

    Args:
        content: the file's bytes.
        path: its name, whose suffix decides how it is decoded.
        channels: of the network's input; 1 and 3 are converted to.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        return "the file is empty"
    try:
        with _opened(content) as image:
            width, height = image.size
            kind = image.format or ""
            if kind.lower() not in _FORMATS:
                return f"a format that is not read: {kind}"
            if min(width, height) < MIN_SIDE:
                return f"{width}x{height} pixels, at least {MIN_SIDE}x{MIN_SIDE} are needed"
            frames = getattr(image, "n_frames", 1)
            if frames * width * height > _most_pixels():
                return f"{frames} frames with more than {_most_pixels():,} pixels"
            image.verify()
        if kind == "PNG" and len(content) < content.rfind(b"IEND") + 8:
            return "damaged or cut off: its end is missing"
        if kind == "JPEG" and content[-2:] != b"\xff\xd9":
            with _opened(content) as image:
                image.load()  # an odd end is not always damage: Ultralytics decodes these and writes them anew
    except Image.DecompressionBombError:
        return f"more than {_most_pixels():,} pixels, which Pillow does not open"
    except (UnidentifiedImageError, ImportError):  # the second where Ultralytics, once imported, opens images
        needs_plugin = content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and find_spec(_HEIF_PLUGIN) is None
        return "HEIF, which needs the package pi-heif" if needs_plugin else "not an image that can be read"
    except Exception as error:  # Ultralytics drops an image whatever its check raises
        return f"damaged or cut off: {error}"
    suffix = path.suffix.lower().lstrip(".")
    if kind == "JPEG" and suffix not in _BY_PILLOW:
        if content[-2:] != b"\xff\xd9" or _is_decoded_jpeg(content, channels):
            return ""
        return "JPEG that cannot be decoded (a damaged header)"
    if kind in {"JPEG", "PNG"} or _is_decoded(content, suffix, channels):
        return ""
    return f"{kind} that cannot be decoded (damaged, cut off, or of an unusual kind)"


def _most_pixels() -> int:
    """Pixels from which on Pillow takes an image for an attack."""
    from PIL import Image

    return 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize)


def decoders() -> str:
    """What the answers depend on besides the files: another Pillow, or a plugin for it, may read other images."""
    import PIL

    return f"Pillow {PIL.__version__}, {_HEIF_PLUGIN}: {find_spec(_HEIF_PLUGIN) is not None}"


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep off the terminal what Pillow and OpenCV print about odd files, which `image_problem` says.

    The libraries below OpenCV write to the terminal themselves, so nothing reaches stderr meanwhile. Ultralytics, once
    imported, opens images for Pillow, and its log has two lines for each that is none.
    """
    log = logging.getLogger("ultralytics")
    was_disabled, log.disabled = log.disabled, True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stderr.flush()
        terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            log.disabled = was_disabled
            with _lock:
                while _loud:
                    sys.modules["cv2"].utils.logging.setLogLevel(_loud.pop())


def _quiet_opencv() -> Any:
    """OpenCV, imported by the first image that needs it; as quiet as `quiet_decoders` asks."""
    import cv2

    with _lock:
        level = cv2.utils.logging.setLogLevel(0)
        if level:
            _loud.append(level)
    return cv2


def _opened(content: bytes) -> Any:
    """The image, opened as Ultralytics does: with the plugin for HEIF where Pillow alone knows no such image."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        if find_spec(_HEIF_PLUGIN) is None:
            raise
        import_module(_HEIF_PLUGIN).register_heif_opener()
        return Image.open(io.BytesIO(content))


def _is_decoded(content: bytes, suffix: str, channels: int) -> bool:
    """Whether an image comes out of the decoder that Ultralytics gives it to (`ultralytics.utils.patches.imread`)."""
    import numpy as np

    cv2 = _quiet_opencv()
    data = np.frombuffer(content, np.uint8)
    flags = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)
    try:
        if suffix in _BY_PILLOW:
            with _opened(content) as image:
                image.convert("RGB")
            return True
        if suffix in {"tif", "tiff"} and channels != 1:
            whole, frames = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
            if whole and frames[0].ndim == 3:
                return True
        return cv2.imdecode(data, flags) is not None
    except Exception:  # whatever a decoder raises, there is no image
        return False


def _is_decoded_jpeg(content: bytes, channels: int) -> bool:
    """Whether OpenCV decodes a JPEG with a whole end; cheap, since damage among the pixels does not stop a decoder.

    What stops it stands in the headers. Those of a JPEG with one scan stand before its pixels: where Pillow begins to
    decode these, OpenCV does. One with several scans has headers among its pixels and is decoded, at an eighth of its
    size, and so is one that Pillow does not begin with.
    """
    import numpy as np

    pixels = _first_scan(content)
    if pixels is not None and content.find(_SCAN, pixels) < 0 and _is_begun(content[: pixels + _SOME_PIXELS]):
        return True
    cv2 = _quiet_opencv()
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 if channels == 1 else cv2.IMREAD_REDUCED_COLOR_8
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags) is not None
    except cv2.error:
        return False


def _is_begun(beginning: bytes) -> bool:
    """Whether Pillow decodes the beginning of a JPEG, and then finds nothing wrong but that the rest is missing."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(beginning)) as image:
            image.draft(None, (image.width // 8, image.height // 8))
            image.load()
    except OSError as error:
        return "truncated" in str(error)
    except Exception:  # whatever a decoder raises
        return False
    return True


def _first_scan(content: bytes) -> int | None:
    """Where a JPEG's first scan begins, by the lengths of the segments before it; None where these do not tell.

    A preview within a segment, as cameras put one into EXIF, has scans of its own, which do not count.
    """
    place = 2
    while content[place : place + 1] == b"\xff":
        if content[place : place + 2] == _SCAN:
            return place + 2
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None
