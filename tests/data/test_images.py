from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablate.data.images import image_problem, quiet_decoders

NOISE = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
RGB = Image.fromarray(NOISE)
FORMATS = {"avif": "AVIF", "bmp": "BMP", "jp2": "JPEG2000", "jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP"}


def encoded(kind: str, image: Image.Image = RGB, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def damaged() -> dict[str, bytes]:
    """Files of each format, whole, cut off in several places, with something behind, and with one byte changed."""
    files = {"empty.png": b"", "text.jpg": b"this is no image", "web.html.png": b"<!doctype html><html></html>" * 9}
    for suffix, kind in FORMATS.items():
        content = encoded(kind)
        files |= {
            f"whole.{suffix}": content,
            f"third.{suffix}": content[: len(content) // 3],
            f"last1.{suffix}": content[:-1],
            f"last4.{suffix}": content[:-4],
            f"trail.{suffix}": content + b"\0\0and more",
            f"byte.{suffix}": flipped(content, len(content) // 2),
        }
    return files


def with_preview() -> bytes:
    """A JPEG that has another one in its EXIF, as cameras write them."""
    preview = b"Exif\0\0" + encoded("JPEG", RGB.resize((16, 16)))
    content = encoded("JPEG")
    return content[:2] + b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview + content[2:]


def damaged_jpegs() -> dict[str, bytes]:
    """JPEGs with a whole end, and damage in headers, among pixels, and in the headers among the pixels."""
    rng = np.random.RandomState(1)
    smooth = Image.fromarray(NOISE).resize((32, 32)).resize((160, 128))
    files = {"preview.jpg": with_preview(), "preview.png": with_preview()}
    for name, options in {"one": {}, "many": {"progressive": True}, "cmyk": {"mode": "CMYK"}}.items():
        whole = encoded("JPEG", smooth.convert(options.pop("mode", "RGB")), **options)
        header = whole.index(b"\xff\xda") + 14
        for number in range(60):
            first, last = (2, header) if number % 2 else (header, len(whole) - 2)
            content = bytearray(whole)
            place = rng.randint(first, last)
            size = (1, 300)[number % 3 == 0]
            content[place : place + size] = rng.bytes(size)
            files[f"{name}{number}.jpg"] = bytes(content[: len(whole) - 2]) + b"\xff\xd9"
    return files


def unusual() -> dict[str, bytes]:
    """Sound files of modes, sizes and formats that some decoders do not know, or that are named as another one."""
    floats = Image.fromarray(np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64))
    deep = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    pages = {"save_all": True, "append_images": [RGB.rotate(90)]}
    files = {f"{mode}.png": encoded("PNG", RGB.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA")}
    files |= {f"{mode}.tif": encoded("TIFF", RGB.convert(mode)) for mode in ("1", "L", "P", "CMYK", "LAB", "I", "RGBA")}
    files |= {
        "cmyk.jpg": encoded("JPEG", RGB.convert("CMYK")),
        "16bit.png": encoded("PNG", deep),
        "16bit.tif": encoded("TIFF", deep),
        "float.tif": encoded("TIFF", floats),
        "pages.tif": encoded("TIFF", **pages),
        "animated.webp": encoded("WEBP", **pages),
        "animated.png": encoded("PNG", **pages),
        "gif.jpg": encoded("GIF"),
        "gif.tif": encoded("GIF"),
        "ppm.png": encoded("PPM"),
        "ico.png": encoded("ICO"),
        "tga.png": encoded("TGA"),
        "png.jpg": encoded("PNG"),
        "webp.jpg": encoded("WEBP"),
        "avif.jpg": encoded("AVIF"),
        "jpeg.avif": encoded("JPEG"),
        "tiff.png": encoded("TIFF"),
        "9x64.png": encoded("PNG", RGB.resize((9, 64))),
        "64x9.jpg": encoded("JPEG", RGB.resize((64, 9))),
        "10x10.png": encoded("PNG", RGB.resize((10, 10))),
        "phone.heic": b"\0\0\0\x1cftypheic" + bytes(100),
        "map.png": encoded("PNG", Image.new("1", (13400, 13400), 1)),
    }
    return files


def is_used_by_ultralytics(path: Path) -> bool:
    """Whether its check lets an image pass and its reading then gives pixels: what trains is both."""
    from ultralytics.data.utils import check_image
    from ultralytics.utils.patches import imread

    try:
        check_image(str(path))
    except Exception:
        return False
    return imread(path) is not None


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics installs no plugin for HEIF, as in a worker of ours."""
    from ultralytics.utils import checks

    monkeypatch.setattr(checks, "AUTOINSTALL", False)


@pytest.mark.usefixtures("offline")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("make", [damaged, damaged_jpegs, unusual])
def test_what_can_be_used_is_what_ultralytics_checks_and_reads(
    make: Callable[[], dict[str, bytes]], tmp_path: Path
) -> None:
    files = make()
    with quiet_decoders():
        problems = {name: image_problem(content, tmp_path / name) for name, content in files.items()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    used = {name for name in files if is_used_by_ultralytics(tmp_path / name)}
    assert {name for name, problem in problems.items() if not problem} == used
    assert 15 < len(used) < len(files) - 10


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.png", b"", "the file is empty"),
        ("a.png", b"no image", "not an image that can be read"),
        ("a.png", encoded("PNG", RGB.resize((9, 9))), "9x9 pixels, at least 10x10 are needed"),
        ("a.jpg", encoded("GIF"), "a format that is not read: GIF"),
        ("a.png", flipped(encoded("PNG"), 5000), "checksum"),
        ("a.png", encoded("PNG")[:-4], "its end is missing"),
        ("a.jpg", encoded("JPEG")[:1000], "damaged or cut off"),
        ("a.jpg", flipped(encoded("JPEG"), encoded("JPEG").index(b"\xff\xc4") + 4), "JPEG that cannot be decoded"),
        ("a.tif", encoded("TIFF")[:9000], "TIFF that cannot be decoded"),
        ("a.heic", b"\0\0\0\x1cftypheic" + bytes(100), "needs the package pi-heif"),
        ("a.png", encoded("PNG", Image.new("1", (13400, 13400))), "more than 178,956,970 pixels"),
    ],
)
def test_the_reason_is_given_in_words(name: str, content: bytes, what: str) -> None:
    with quiet_decoders():
        assert what in image_problem(content, Path(name))


def test_decoders_are_as_loud_as_before_and_print_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import cv2
    import ultralytics.utils  # which opens images for Pillow from now on

    before = cv2.utils.logging.getLogLevel()
    with quiet_decoders():
        for name, content in (damaged() | damaged_jpegs()).items():
            image_problem(content, Path(name))
    assert cv2.utils.logging.getLogLevel() == before
    assert "".join(capfd.readouterr()) == ""
    assert not caplog.records
    assert not ultralytics.utils.LOGGER.disabled
