"""Reading an Ultralytics data file: where its images are, split by split, and what the classes are called."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import yaml

from ablate.data.cache import cache_dir
from ablate.data.data_errors import DataError, NotDownloaded
from ablate.data.images import IMAGE_SUFFIXES, OTHER_SUFFIXES
from ablate.storage.plain_values import Plain

SPLITS: Final = ("train", "val", "test")


@dataclass(frozen=True)
class Image:
    """One image of a split and the label file that belongs to it (which may not exist)."""

    name: str
    """Path below the folder that all images of the split share, with forward slashes."""
    path: Path
    label: Path


@dataclass(frozen=True)
class DataFile:
    """An Ultralytics data file, read and checked, without a look at its images."""

    path: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Path, ...]]
    """Absolute folders, lists (.txt) or images of each split; "test" only where it exists."""
    extra: dict[str, object] = field(default_factory=dict)
    """Keys besides the usual ones that a trainer may look at (`channels`, `kpt_shape`)."""
    channels: int = 3
    """Channels of the images as a network receives them."""
    kpt_shape: Sequence[int] | None = None
    """Number of key points of each box and columns of each, in a data file for poses."""
    warnings: tuple[str, ...] = ()

    @property
    def pose_columns(self) -> int:
        """Columns of key points behind each box of a label file."""
        count, dimensions = self.kpt_shape or (0, 0)
        return int(count) * int(dimensions)

    def images(self, split: str) -> list[Image]:
        """The images of a split, in order of their paths.

        Raises:
            DataError: there are none, or a listed one does not exist.
        """
        paths = sorted({path for entry in self.splits[split] for path in _expand(entry)})
        if not paths:
            where = ", ".join(str(entry) for entry in self.splits[split])
            others = self.other_images(split)
            what = f"; {others[0]} and its like are not read" if others else ""
            raise DataError(f"{self.path}: split '{split}' has no images in {where}{what}")
        shared = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 - 100 000 of them
        start = len(shared.rstrip("/\\")) + 1
        return [Image(p[start:].replace(os.sep, "/"), Path(p), Path(_label_of(p))) for p in paths]

    def other_images(self, split: str) -> list[str]:
        """Names of images in a split's folders whose suffix Ultralytics does not know (`a.gif`), in order."""
        folders = [entry for entry in self.splits[split] if entry.is_dir()]
        return sorted(os.path.basename(p) for f in folders for p in _files(f) if _suffix(p) in OTHER_SUFFIXES)  # noqa: PTH119

    def listed_again(self, split: str) -> list[str]:
        """Images that a split's folders and lists name more than once, in order; they are taken once."""
        times = Counter(path for entry in self.splits[split] for path in _expand(entry))
        return sorted(path for path, count in times.items() if count > 1)

    def has_lists(self) -> bool:
        """Whether a split is given by anything but folders."""
        return not all(entry.is_dir() for entries in self.splits.values() for entry in entries)


def read(path: str) -> DataFile:
    """Read the data file at `path`, or the one of that name that Ultralytics ships (`coco8.yaml`).

    Raises:
        DataError: it is missing, empty, no data file, or a split's folder does not exist.
        NotDownloaded: the same of a data set that can be downloaded.
    """
    file = locate(path)
    content = _load(file)
    classes = _classes(file, content)
    if "val" not in content and "validation" in content:
        content["val"] = content["validation"]
    for split in ("train", "val"):
        if not content.get(split):
            raise DataError(f"{file}: key '{split}' is missing: a folder of images, a .txt list, or a list of these")
    entries = {s: _entries(file, s, content[s]) for s in SPLITS if content.get(s)}
    root = _root(file, content, entries)
    splits = {s: tuple(_absolute(root, entry) for entry in listed) for s, listed in entries.items()}
    notes = []
    for split, paths in list(splits.items()):
        missing = next((path for path in paths if not path.exists()), None)
        if missing is None:
            continue
        if split == "test":
            notes.append(f"split 'test' is left out: {missing} does not exist")
            del splits[split]
        elif content.get("download"):
            raise NotDownloaded(f"data set {file.name} is not on this machine ({missing} does not exist)")
        else:
            raise DataError(f"{file}: split '{split}' does not exist: {missing}")
    extra = {key: content[key] for key in ("channels", "kpt_shape", "flip_idx") if content.get(key) is not None}
    channels = extra.get("channels", 3)
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise DataError(f"{file}: 'channels' must be a whole number of at least 1, not {channels!r}")
    return DataFile(file, classes, splits, extra, channels, content.get("kpt_shape"), tuple(notes))


def locate(path: str) -> Path:
    """Find a data file: as a path from here, or by its bare name among those that Ultralytics ships.

    Raises:
        DataError: there is none; names that look alike are proposed.
    """
    file = Path(path).expanduser()
    if file.is_file():
        return file.resolve()
    if file.is_dir():
        raise DataError(f"data.path={path} is a folder; give the data file (.yaml) in it")
    shipped = _shipped()
    if path in shipped:
        return shipped[path]
    beside = sorted(file.parent.glob("*.y*ml")) if file.parent.is_dir() else []
    names = {file.stem.lower(): str(file) for file in beside}
    if file.parent == Path():
        names = {Path(name).stem.lower(): name for name in shipped} | names
    alike = difflib.get_close_matches(file.stem.lower(), names, n=1)
    hint = f"; did you mean {names[alike[0]]}?" if alike else ""
    raise DataError(f"data.path={path}: no such data file{hint}")


def _shipped() -> dict[str, Path]:
    """The data files in the installed Ultralytics, by name, without importing it."""
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "cfg" / "datasets"
    return {file.name: file for file in sorted(folder.glob("*.yaml"))}


def _load(file: Path) -> Plain:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: this is not a data file (not UTF-8 text)") from error
    except OSError as error:
        raise DataError(f"{file}: the data file cannot be read ({error.strerror})") from error
    if not text.strip():
        raise DataError(f"{file}: the data file is empty; it needs 'train', 'val' and 'names'")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise DataError(f"{file}{where}: the data file is not YAML ({problem})") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: this is not a data file; it needs the keys 'train', 'val' and 'names'")
    return content


def _classes(file: Path, content: Plain) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if names is None and isinstance(count, int) and count > 0:
        return tuple(f"class_{index}" for index in range(count))
    if not names:
        raise DataError(f"{file}: key 'names' is missing: a list of class names, or a mapping from 0, 1, ...")
    if not isinstance(names, list | dict):
        raise DataError(f"{file}: 'names' must be a list of class names, or a mapping from 0, 1, ..., not {names!r}")
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        by_id = {int(key): str(value) for key, value in names.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: the keys of 'names' must be the class ids 0, 1, ...") from error
    if sorted(by_id) != list(range(len(names))):
        raise DataError(f"{file}: 'names' must number {len(names)} classes 0 to {len(names) - 1}")
    if isinstance(count, int) and count != len(by_id):
        raise DataError(f"{file}: 'nc' says {count} classes, 'names' has {len(by_id)}")
    return tuple(by_id[index] for index in range(len(by_id)))


def _entries(file: Path, split: str, value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in listed):
        raise DataError(f"{file}: '{split}' must be a folder, a .txt list, or a list of these, not {value!r}")
    return tuple(listed)


def _root(file: Path, content: Plain, entries: dict[str, tuple[str, ...]]) -> Path:
    """The folder that the splits are relative to: Ultralytics' rule, beside the file, then the caches."""
    entry = content.get("path")
    if not entry:
        return file.parent
    if not isinstance(entry, str):
        raise DataError(f"{file}: 'path' must be a folder, not {entry!r}")
    path = Path(entry).expanduser()
    if path.is_absolute():
        return path
    bases = [Path.cwd(), file.parent, datasets_dir(), *_ultralytics_datasets()]
    roots = [base / path for base in bases]
    for root in roots:
        if all(_absolute(root, entry).exists() for split in ("train", "val") for entry in entries[split]):
            return root
    return next((root for root in roots if root.is_dir()), datasets_dir() / path)


def datasets_dir() -> Path:
    """Where downloaded data sets go."""
    return cache_dir() / "datasets"


def _ultralytics_datasets() -> Iterator[Path]:
    """The folder for data sets in Ultralytics' own settings, which are read, never written."""
    mac = Path.home() / "Library" / "Application Support"
    usual = mac if sys.platform == "darwin" else Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    chosen = os.environ.get("YOLO_CONFIG_DIR")
    for base in (Path(chosen), usual) if chosen else (usual,):
        try:
            text = (base.expanduser() / "Ultralytics" / "settings.json").read_text(encoding="utf-8")
            yield Path(json.loads(text)["datasets_dir"])
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _absolute(root: Path, entry: str) -> Path:
    path = Path(os.path.abspath(root / entry))  # noqa: PTH100 - resolve() would follow links
    if not path.exists() and entry.startswith("../"):  # exports that take the file's folder for the root's child
        return Path(os.path.abspath(root / entry[3:]))  # noqa: PTH100
    return path


def _expand(entry: Path) -> Iterator[str]:
    """Absolute paths of the images in a folder (with subfolders) or a .txt list."""
    if entry.is_dir():
        yield from (path for path in _files(entry) if _is_image(path))
    elif _is_image(entry.name):
        yield str(entry)
    else:
        yield from _listed(entry)


def _files(top: Path) -> Iterator[str]:
    """Absolute paths of the files below a folder, but for hidden ones; a link to a folder above is not followed."""
    above: dict[str, tuple[str, ...]] = {
        str(top): (os.path.realpath(top),)
    }  # real paths of a folder and of those that lead to it
    for folder, below, names in os.walk(top, followlinks=True):
        trail = above.pop(folder)
        for name in list(below):
            path = f"{folder}{os.sep}{name}"
            real = os.path.realpath(path) if os.path.islink(path) else f"{trail[-1]}{os.sep}{name}"  # noqa: PTH114
            if name.startswith(".") or real in trail:
                below.remove(name)
            else:
                above[path] = (*trail, real)
        yield from (f"{folder}{os.sep}{name}" for name in names if not name.startswith("."))


def _listed(entry: Path) -> Iterator[str]:
    try:
        lines = entry.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{entry}: the list of images cannot be read") from error
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or not _is_image(name):
            continue
        # Ultralytics: `./` is beside the list, anything else is from here; we then look beside the list, too.
        bases = [entry.parent] if name.startswith("./") else [Path.cwd(), entry.parent]
        paths = [os.path.abspath(base / name) for base in bases]  # noqa: PTH100
        image = next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113
        if image is None:
            raise DataError(f"{entry}, line {number}: image {paths[0]} does not exist")
        yield image


def _is_image(name: str) -> bool:
    return _suffix(name) in IMAGE_SUFFIXES


def _suffix(name: str) -> str:
    """What follows the last dot of a file's name, in lower case; empty where there is no dot."""
    _, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot else ""


def _label_of(image: str) -> str:
    """Ultralytics' rule: the last folder `images` becomes `labels`, the suffix .txt."""
    sep = os.sep
    return f"{sep}labels{sep}".join(image.rsplit(f"{sep}images{sep}", 1)).rpartition(".")[0] + ".txt"
