"""From the config group `data` to a data set that can be trained on: found, checked, counted, fingerprinted.

Knows three kinds: the built-in shapes (drawn on first use), BCCD (fetched and converted by us), and any
Ultralytics data file, of one's own or shipped with Ultralytics. Imports neither torch nor ultralytics.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ablate.data import bccd, shapes
from ablate.data.data_errors import DataError, NotDownloaded
from ablate.data.data_settings import DataSettings
from ablate.data.datafile import DataFile, datasets_dir, is_shipped, locate, read
from ablate.data.scanning import passed_over, scan
from ablate.data.view import ensure_view
from ablate.safe_text import escaped

__all__ = ["DataError", "DataSet", "FoldOf", "NotDownloaded", "check", "fetch", "fingerprint_on_disk", "resolve"]


@dataclass(frozen=True)
class DataSet:
    """A data set whose every file has been checked."""

    name: str
    yaml: Path
    """Absolute path of a data file for Ultralytics, in our cache: nothing is written beside the source."""
    classes: list[str]
    images: dict[str, int]
    """Images per split that a training can use: train, val and, where there is one, test."""
    instances: dict[str, int]
    """Boxes of these images per split."""
    fingerprint: str
    """SHA-256 (hex) over class names, splits, label and image contents, wherever they lie."""
    warnings: list[str] = field(default_factory=list)
    """What is odd but no error, one sentence each: images that are left out, boxes without area, copies."""
    instances_per_class: dict[str, list[int]] = field(default_factory=dict)
    """Boxes per split and class."""
    source: Path = Path()
    """The data file that was asked for."""
    channels: int = 3
    """Channels of the images as a network receives them."""
    fold: FoldOf | None = None
    """Of which data set this is a fold; None for one as its files divide it."""


@dataclass(frozen=True)
class FoldOf:
    """What a fold is a fold of (see `ablate.data.fold_sets`)."""

    data: DataSet
    """The whole data set, with its own splits."""
    index: int
    """Which fold is evaluated on, from 0."""
    assignment: str
    """Hash of which image is in which fold."""


def check(data: DataSettings) -> None:
    """Look at the data file and the folders it names, but at no image: milliseconds, for an early error.

    Raises:
        DataError: it is missing, empty, no data file, or a split's folder does not exist.
        NotDownloaded: the same of a data set that `fetch` can get.
    """
    if data.is_shapes:
        _spec(data)
    else:
        _read(data)


def resolve(data: DataSettings, download: bool = False) -> DataSet:
    """Find, check and count a data set.

    The first call reads every file (about 1 GB/s); later ones compare names, sizes and times only.

    Args:
        data: which one.
        download: get a data set that is not on this machine, instead of an error.

    Raises:
        DataError: one line that names the file (and line) at fault; also for a data set that could be downloaded by a
            script of its data file's, where the user has not asked for it.
        NotDownloaded: it is not on this machine and `download` is false.
    """
    try:
        file = _file(data)
    except NotDownloaded as error:
        if not _may_fetch(data):
            asked = "its own download script runs only where data.download=true asks for it"
            raise DataError(f"{error}; {asked}") from error
        if not download:
            raise
        fetch(data)
        file = _file(data)
    images = {split: file.images(split) for split in file.splits}
    scanned = scan(file, images)
    return DataSet(
        name=data.name,
        yaml=ensure_view(file, scanned.usable(images), scanned.fingerprint, scanned.state),
        classes=list(file.classes),
        images=scanned.images,
        instances=scanned.instances,
        fingerprint=scanned.fingerprint,
        warnings=[*scanned.warnings, *passed_over(file, images)],
        instances_per_class=scanned.per_class,
        source=file.path,
        channels=file.channels,
    )


def fingerprint_on_disk(data: DataSettings) -> str:
    """Fingerprint of a data set as it is on disk now, for whoever asks whether it is still what a trial was given.

    Costs two `stat` per image while nothing has changed, one reading of the whole set after a change; no view is made.

    Args:
        data: which one.

    Raises:
        DataError: a file is missing or damaged now.
        NotDownloaded: the data set is not on this machine.
    """
    file = _file(data)
    return scan(file, {split: file.images(split) for split in file.splits}).fingerprint


def fetch(data: DataSettings) -> None:
    """Get a data set from its public address into the cache: it is there whole afterwards, or not at all.

    Raises:
        DataError: it has no public address, or the download failed.
    """
    if data.is_shapes:
        shapes.ensure(_spec(data))
    elif data.url is not None and data.is_fetched:
        bccd.fetch(data.url, datasets_dir() / "bccd")
    else:
        _fetch_with_ultralytics(locate(_path(data)))


def _may_fetch(data: DataSettings) -> bool:
    """Whether a data set may be got: it is ours or Ultralytics', or the user lets the data file run its script."""
    return data.is_fetched or data.download or is_shipped(locate(_path(data)))


def _spec(data: DataSettings) -> shapes.ShapesSpec:
    try:
        return shapes.ShapesSpec.from_options(data.options)
    except ValueError as error:
        raise DataError(str(error)) from error


def _path(data: DataSettings) -> str:
    if not data.path or data.path == "???":
        raise DataError("data.path is missing: data=custom needs data.path=<an Ultralytics data file>")
    return data.path


def _file(data: DataSettings) -> DataFile:
    """The data file of a config group, read; the built-in shapes are drawn where they are not there yet."""
    return read(str(shapes.ensure(_spec(data)) / "data.yaml")) if data.is_shapes else _read(data)


def _read(data: DataSettings) -> DataFile:
    if data.is_fetched:
        local = datasets_dir() / "bccd" / bccd.DATA_FILE
        if not local.is_file():
            raise NotDownloaded(
                f"data set {data.name} is not on this machine: it comes from {data.url}, "
                "or give a copy of yours with data.path=<data file>"
            )
        return read(str(local))
    return read(_path(data))


# Run by another Python, whose Ultralytics has its settings and its folder for data sets in places of ours.
_FETCH = """
import sys
from pathlib import Path
try:
    from ultralytics.data import utils
    utils.DATASETS_DIR = Path(sys.argv[2])
    utils.check_det_dataset(sys.argv[1])
except KeyboardInterrupt:
    sys.exit(130)
except Exception as error:  # a data file's own script may raise anything
    Path(sys.argv[3]).write_text(str(error) or type(error).__name__, encoding="utf-8")
    sys.exit(1)
"""


def _fetch_with_ultralytics(file: Path) -> None:
    """Let Ultralytics run a data file's download, away from the user's settings and folders.

    What it prints is progress, for a terminal; why it failed is in the error.
    """
    target = datasets_dir()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as work:
        for name in ("data", "settings", "here"):
            (Path(work) / name).mkdir()
        output = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
        done = subprocess.run(
            [sys.executable, "-P", "-c", _FETCH, str(file), f"{work}/data", f"{work}/why"],
            cwd=f"{work}/here",
            env={**os.environ, "YOLO_CONFIG_DIR": f"{work}/settings", "MPLCONFIGDIR": f"{work}/settings"},
            stdout=output,
            stderr=output,
            check=False,
        )
        if done.returncode:
            raise DataError(f"{file.name}: the download failed ({_reason(Path(work) / 'why', done.returncode)})")
        for made in (Path(work) / "data").iterdir():
            if made.is_dir():
                shutil.rmtree(target / made.name, ignore_errors=True)
                made.rename(target / made.name)


def _reason(file: Path, code: int) -> str:
    """Return why a download failed, in one line."""
    try:
        words = file.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return f"its process ended with code {code}"
    return escaped(" ".join(words).lstrip("\u274c\u26a0\ufe0f "), 200)  # Ultralytics' pictures
