"""BCCD, blood cells under the microscope: from its public archive (Pascal VOC) to a YOLO data set.

364 images of 640 x 480 pixels, three classes, in the source's own splits. MIT licence.
Source: github.com/Shenggan/BCCD_Dataset. Two of its boxes have no area; they stay and are warned about.
"""

from __future__ import annotations

import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from ablate.data.cache import put_folder_in_place
from ablate.data.data_errors import DataError

CLASSES: Final = ("WBC", "RBC", "Platelets")
SPLITS: Final = ("train", "val", "test")
DATA_FILE: Final = "bccd.yaml"

_PART = 1 << 20  # bytes that are read at a time
_LARGEST = 1 << 28  # bytes that we are willing to unpack; the source has 8 MB


def fetch(url: str, folder: Path, timeout: float = 60.0) -> None:
    """Download the archive at `url`, convert it, and put the data set in `folder` in one step.

    Args:
        url: a zip archive of the source repository (http, https or file).
        folder: where the data set will lie; a folder there is left alone if it is whole.
        timeout: seconds without an answer until the server is given up.

    Raises:
        DataError: the address cannot be read, or does not hold what the source holds.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        archive = work / "source.zip"
        with archive.open("wb") as file:
            for part in _downloaded(url, timeout):
                file.write(part)
        fresh = work / "set"
        fresh.mkdir()
        convert(archive, fresh, url)
        put_folder_in_place(fresh, folder, lambda place: (place / DATA_FILE).is_file())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _downloaded(url: str, timeout: float) -> Iterator[bytes]:
    """Yield what is at an address, part by part.

    Raises:
        DataError: It cannot be read; what its parts are written to is no part of that.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            while part := answer.read(_PART):
                yield part
    except (OSError, ValueError) as error:
        reason = str(error) if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise DataError(
            f"{url}: the download failed ({reason}); data.path=<data file> takes a copy of yours"
        ) from error


def convert(archive: Path, folder: Path, origin: str | None = None) -> None:
    """Turn the source's zip archive into images, labels and a data file in `folder`.

    Args:
        archive: a zip with `BCCD/JPEGImages`, `BCCD/Annotations` and `BCCD/ImageSets/Main` at any depth.
        folder: an empty folder.
        origin: what to call the archive in messages.

    Raises:
        DataError: it is no zip archive, or a file in it is missing or not as expected.
    """
    origin = origin or str(archive)
    try:
        with zipfile.ZipFile(archive) as source:
            if sum(info.file_size for info in source.infolist()) > _LARGEST:
                raise DataError(f"{origin}: the archive is larger than {_LARGEST >> 20} MB, it cannot be BCCD")
            lists = [n for n in source.namelist() if n.endswith("BCCD/ImageSets/Main/train.txt")]
            if len(lists) != 1:
                raise DataError(f"{origin}: the archive has no BCCD/ImageSets/Main/train.txt")
            base = lists[0].removesuffix("ImageSets/Main/train.txt")
            for split in SPLITS:
                (folder / "images" / split).mkdir(parents=True)
                (folder / "labels" / split).mkdir(parents=True)
                for stem in source.read(f"{base}ImageSets/Main/{split}.txt").decode().split():
                    label = voc_to_yolo(source.read(f"{base}Annotations/{stem}.xml"), f"{stem}.xml")
                    (folder / "labels" / split / f"{Path(stem).name}.txt").write_text(label, encoding="utf-8")
                    image = source.read(f"{base}JPEGImages/{stem}.jpg")
                    (folder / "images" / split / f"{Path(stem).name}.jpg").write_bytes(image)
            for info in source.infolist():
                if info.filename.removesuffix("LICENSE") == base.removesuffix("BCCD/"):
                    (folder / "LICENSE").write_bytes(source.read(info))
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{origin}: this is not the archive of BCCD ({error})") from error
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    splits = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    (folder / DATA_FILE).write_text(
        f"# BCCD, converted from {origin} (MIT licence)\n{splits}names:\n{names}", encoding="utf-8"
    )


def voc_to_yolo(content: bytes, name: str) -> str:
    """A Pascal VOC annotation as a YOLO label: lines `class x_center y_center width height`.

    Raises:
        DataError: it is not such an annotation, or of a class that BCCD does not have.
    """
    try:
        root = ElementTree.fromstring(content)
        width, height = (float(_text(root, f"size/{side}")) for side in ("width", "height"))
        rows = []
        for thing in root.iter("object"):
            cls = CLASSES.index(_text(thing, "name"))
            x1, y1, x2, y2 = (float(_text(thing, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
            box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            rows.append(f"{cls} " + " ".join(f"{value:.6f}" for value in box))
    except (ElementTree.ParseError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{name}: this is not an annotation of BCCD ({error})") from error
    return "\n".join(rows)


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text.strip()
