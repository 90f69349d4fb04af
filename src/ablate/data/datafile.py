"""Reading an Ultralytics data file: where its images are, split by split, and what the classes are called."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from unicodedata import category

from ablate.data.cache import cache_dir
from ablate.data.data_errors import DataError, NotDownloaded
from ablate.data.image_listing import files_below, images_in, suffix_of
from ablate.data.images import OTHER_SUFFIXES
from ablate.safe_text import escaped
from ablate.storage.plain_values import Plain
from ablate.storage.yaml_files import YamlFileError, read_mapping

SPLITS: Final = ("train", "val", "test")
MOST_CLASSES: Final = 50_000
MOST_CHANNELS: Final = 1_000
MOST_SHOWN: Final = 100  # characters of a value in a message


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
        paths = sorted({path for entry in self.splits[split] for path in images_in(entry)})
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
        return sorted(os.path.basename(p) for f in folders for p in files_below(f) if suffix_of(p) in OTHER_SUFFIXES)  # noqa: PTH119

    def listed_again(self, split: str) -> list[str]:
        """Images that a split's folders and lists name more than once, in order; they are taken once."""
        times = Counter(path for entry in self.splits[split] for path in images_in(entry))
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
        missing = next((path for path in paths if not _exists(path)), None)
        if missing is None:
            continue
        if split == "test":
            notes.append(f"split 'test' is left out: {missing} does not exist")
            del splits[split]
        elif content.get("download"):
            raise NotDownloaded(f"data set {file.name} is not on this machine ({missing} does not exist)")
        else:
            raise DataError(f"{file}: split '{split}' does not exist: {missing}")
    extra = _extra(file, content)
    channels = content.get("channels") or 3
    return DataFile(file, classes, splits, extra, channels, content.get("kpt_shape"), tuple(notes))


def locate(path: str) -> Path:
    """Find a data file: as a path from here, or by its bare name among those that Ultralytics ships.

    Raises:
        DataError: there is none; names that look alike are proposed.
    """
    file = _of_user(path)
    if os.path.isfile(file):  # noqa: PTH113 - False, no error, for what cannot be a path
        return file.resolve()
    if os.path.isdir(file):  # noqa: PTH112
        raise DataError(f"data.path={path} is a folder; give the data file (.yaml) in it")
    shipped = _shipped()
    if path in shipped:
        return shipped[path]
    beside = sorted(file.parent.glob("*.y*ml")) if os.path.isdir(file.parent) else []  # noqa: PTH112
    names = {file.stem.lower(): str(file) for file in beside}
    if file.parent == Path():
        names = {Path(name).stem.lower(): name for name in shipped} | names
    alike = difflib.get_close_matches(file.stem.lower(), names, n=1)
    hint = f"; did you mean {names[alike[0]]}?" if alike else ""
    raise DataError(f"data.path={path}: no such data file{hint}")


def is_shipped(file: Path) -> bool:
    """Whether a data file is one of those that Ultralytics ships."""
    return file in _shipped().values()


def _shipped() -> dict[str, Path]:
    """The data files in the installed Ultralytics, by name, without importing it."""
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "cfg" / "datasets"
    return {file.name: file.resolve() for file in sorted(folder.glob("*.yaml"))}


def _load(file: Path) -> Plain:
    try:
        content = read_mapping(file, of_hydra=False)
    except YamlFileError as error:
        raise DataError(f"{error}; a data file has the keys 'train', 'val' and 'names'") from error
    if not content:
        raise DataError(f"{file}: the data file is empty; it needs 'train', 'val' and 'names'")
    return content


def _classes(file: Path, content: Plain) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if count is not None and not (type(count) is int and 1 <= count <= MOST_CLASSES):
        raise DataError(f"{file}: 'nc' must be a number of classes, 1 to {MOST_CLASSES}, not {_value(count)}")
    if names is None and count is not None:
        return tuple(f"class_{index}" for index in range(count))
    if names is None or names in ({}, []):
        raise DataError(f"{file}: key 'names' is missing: a list of class names, or a mapping from 0, 1, ...")
    if not isinstance(names, list | dict):
        kind = "a list of class names, or a mapping from 0, 1, ..."
        raise DataError(f"{file}: 'names' must be {kind}, not {_value(names)}")
    if len(names) > MOST_CLASSES:
        raise DataError(f"{file}: 'names' has {len(names)} classes, more than {MOST_CLASSES}")
    by_id = _by_id(file, dict(enumerate(names)) if isinstance(names, list) else names)
    if count is not None and count != len(by_id):
        raise DataError(f"{file}: 'nc' says {count} classes, 'names' has {len(by_id)}")
    return tuple(by_id[index] for index in range(len(by_id)))


def _by_id(file: Path, names: Mapping[object, object]) -> dict[int, str]:
    """The names of classes by their ids, 0 to one less than their number."""
    by_id: dict[int, str] = {}
    for key, name in names.items():
        if type(key) is not int and not (isinstance(key, str) and key.isascii() and key.isdecimal()):
            raise DataError(f"{file}: the keys of 'names' must be the class ids 0, 1, ..., not {_value(key)}")
        if not isinstance(name, str | int | float) or not _is_line(str(name)):
            raise DataError(f"{file}: 'names': class {key} must have a name of one line, not {_value(name)}")
        by_id[int(key)] = str(name)
    if sorted(by_id) != list(range(len(names))):
        raise DataError(f"{file}: 'names' must number {len(names)} classes 0 to {len(names) - 1}")
    return by_id


def _extra(file: Path, content: Plain) -> dict[str, object]:
    """The keys besides the usual ones that a trainer may look at, checked."""
    extra = {key: content[key] for key in ("channels", "kpt_shape", "flip_idx") if content.get(key) is not None}
    channels = extra.get("channels", 3)
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        where = f"{file}: 'channels' must be a whole number, 1 to {MOST_CHANNELS}"
        raise DataError(f"{where}, not {_value(channels)}")
    for key, needs in (("kpt_shape", "two numbers: of key points, and of their columns"), ("flip_idx", "numbers")):
        value = extra.get(key, [1, 1])
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= MOST_CLASSES for item in value):
            raise DataError(f"{file}: '{key}' must be a list of {needs}, not {_value(value)}")
    if "kpt_shape" in extra and len(content["kpt_shape"]) != 2:
        raise DataError(f"{file}: 'kpt_shape' must be two numbers, not {_value(content['kpt_shape'])}")
    return extra


def _value(value: object) -> str:
    """A value in a message, shortened where it is long."""
    return escaped(repr(value), MOST_SHOWN)


def _entries(file: Path, split: str, value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and _is_line(entry) for entry in listed):
        raise DataError(f"{file}: '{split}' must be a folder, a .txt list, or a list of these, not {_value(value)}")
    return tuple(listed)


def _is_line(text: str) -> bool:
    """Whether a text is one line with something in it, such as a name or a path."""
    return bool(text.strip()) and not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - False, no error, for what cannot be a path


def _root(file: Path, content: Plain, entries: dict[str, tuple[str, ...]]) -> Path:
    """The folder that the splits are relative to: Ultralytics' rule, beside the file, then the caches."""
    entry = content.get("path")
    if not entry:
        return file.parent
    if not isinstance(entry, str) or not _is_line(entry):
        raise DataError(f"{file}: 'path' must be a folder, not {_value(entry)}")
    path = _of_user(entry)
    if path.is_absolute():
        return path
    bases = [Path.cwd(), file.parent, datasets_dir(), *_ultralytics_datasets()]
    roots = [base / path for base in bases]
    for root in roots:
        if all(_exists(_absolute(root, entry)) for split in ("train", "val") for entry in entries[split]):
            return root
    return next((root for root in roots if os.path.isdir(root)), datasets_dir() / path)  # noqa: PTH112


def _of_user(path: str) -> Path:
    """A path with `~` replaced by the user's folder; as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises an error


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
    if not _exists(path) and entry.startswith("../"):  # exports that take the file's folder for the root's child
        return Path(os.path.abspath(root / entry[3:]))  # noqa: PTH100
    return path


def _label_of(image: str) -> str:
    """Ultralytics' rule: the last folder `images` becomes `labels`, the suffix .txt."""
    sep = os.sep
    return f"{sep}labels{sep}".join(image.rsplit(f"{sep}images{sep}", 1)).rpartition(".")[0] + ".txt"
