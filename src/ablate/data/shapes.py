"""The built-in data set: geometric shapes on textured ground, with clutter, occlusion and noise.

Drawn on first use, not downloaded, and the same on every machine, byte for byte (see `drawing`). Images are
PNG files whose data is stored, not compressed, so that no version of a compressor can change a byte.

A set lies in `<cache>/shapes/<hash of its spec>/`: images, labels, `data.yaml`, and a manifest with the
SHA-256 of each file. It is made in a folder beside and renamed, so it is there whole or not at all; several
processes may ask for it at once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ablate.data.cache import cache_dir, put_folder_in_place
from ablate.data.drawing import CLASSES, UNIT, VERSION, Picture, Style, draw

SPLITS: Final = ("train", "val")
MANIFEST: Final = "manifest.json"

_LIMITS: Final = {
    "train_images": (1, 1_000_000),
    "val_images": (1, 1_000_000),
    "imgsz": (32, 2048),
    "seed": (0, 2**32 - 1),
    "objects": (1, 40),
    "clutter": (0, 40),
    "noise": (0, 64),
    "occlusion": (0, 90),
}


@dataclass(frozen=True)
class ShapesSpec:
    """What a set of shapes consists of; equal specs give equal bytes.

    Raises:
        ValueError: a number out of its range; the message names the field, the value and the range.
    """

    train_images: int = 400
    """Images to learn from."""
    val_images: int = 100
    """Images to validate on."""
    imgsz: int = 128
    """Width and height of the images in pixels, 32 to 2048."""
    seed: int = 0
    """Seed of the generator, 0 to 2**32 - 1."""
    objects: int = 5
    """Most objects in one image, 1 to 40."""
    clutter: int = 2
    """Most distractors in one image (bars, blobs, half discs, arcs: of no class), 0 to 40."""
    noise: int = 8
    """Amplitude of the pixel noise in grey levels, 0 to 64."""
    occlusion: int = 20
    """Largest hidden part of an object in per cent of its area, 0 to 90."""

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"data.{name}={value} must be a whole number from {low} to {high}")

    @classmethod
    def from_options(cls, options: Mapping[str, int | None]) -> ShapesSpec:
        """Take a spec out of an option group; fields that are missing or null keep their defaults."""
        return cls(**{f.name: value for f in fields(cls) if (value := options.get(f.name)) is not None})

    @property
    def style(self) -> Style:
        """The part of the spec that a single picture depends on."""
        return Style(self.imgsz, self.objects, self.clutter, self.noise, self.occlusion)


def picture(spec: ShapesSpec, split: str, index: int) -> Picture:
    """Image `index` (from 0, it may lie beyond the spec's number of images) of the split "train" or "val"."""
    return draw(spec.style, (spec.seed, SPLITS.index(split), index))


def ensure(spec: ShapesSpec) -> Path:
    """Return the folder of the set, which is drawn first if it is missing, partial or damaged.

    Every file is compared with the manifest each time (about 1 GB/s).

    Raises:
        OSError: the cache folder cannot be written.
    """
    identity = json.dumps({"version": VERSION, **asdict(spec)}, sort_keys=True)
    folder = cache_dir() / "shapes" / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(spec, fresh)
        fresh.chmod(0o755)
        put_folder_in_place(fresh, folder, is_whole)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a set's files are all there and have the SHA-256 that its manifest says."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed: dict[str, str] = manifest["files"]
        return bool(listed) and all(_sha256(folder / name) == digest for name, digest in listed.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def digest(folder: Path) -> str:
    """SHA-256 over a set's file names and bytes as its manifest has them: one number for the whole set."""
    listed: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    return hashlib.sha256("".join(f"{listed[name]}  {name}\n" for name in sorted(listed)).encode()).hexdigest()


def encode_label(made: Picture) -> str:
    """A picture's YOLO label: lines `class x_center y_center width height`, lengths in parts of the image."""
    size = made.pixels.shape[0] * UNIT
    return "".join(
        f"{cls} {(x1 + x2) / (2 * size):.6f} {(y1 + y2) / (2 * size):.6f} "
        f"{(x2 - x1) / size:.6f} {(y2 - y1) / size:.6f}\n"
        for cls, x1, y1, x2, y2 in made.boxes
    )


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of (H, W, 3) bytes in stored blocks: the same bytes from every zlib."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # the first byte of a row is its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    stream = [b"\x78\x01"]
    for start in range(0, len(raw), 0xFFFF):
        block = raw[start : start + 0xFFFF]
        is_last = start + 0xFFFF >= len(raw)
        stream += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    stream.append(struct.pack(">I", zlib.adler32(raw)))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(stream)) + chunk(b"IEND", b"")


def _files(spec: ShapesSpec) -> Iterator[tuple[str, bytes]]:
    """Relative names and contents of all of a set's files."""
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    yield "data.yaml", f"train: images/train\nval: images/val\nnames:\n{names}".encode()
    for split, count in zip(SPLITS, (spec.train_images, spec.val_images), strict=True):
        for index in range(count):
            made = picture(spec, split, index)
            yield f"images/{split}/{index:06d}.png", encode_png(made.pixels)
            yield f"labels/{split}/{index:06d}.txt", encode_label(made).encode()


def _write(spec: ShapesSpec, folder: Path) -> None:
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    listed = {}
    for name, content in _files(spec):
        (folder / name).write_bytes(content)
        listed[name] = hashlib.sha256(content).hexdigest()
    manifest = {"version": VERSION, "spec": asdict(spec), "files": listed}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
