"""A view of a data set: links in our cache, so that training writes nothing beside the user's files.

Ultralytics puts a `.cache` file beside the labels, `.npy` copies beside the images, and replaces a JPEG
without an end marker by a repaired one. With one link per file all of that happens in the view. (Links to
whole folders would not do: it resolves a split's folder first, and writes into the source.)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Final

import yaml

from ablate.data.cache import put_folder_in_place, views_dir
from ablate.data.datafile import DataFile, Image
from ablate.storage.files import atomic_write_text

DATA_FILE: Final = "data.yaml"
STATE: Final = ".state"
"""A file of the view with the state of the source in which Ultralytics' caches in the view were begun."""


def ensure_view(data: DataFile, images: dict[str, list[Image]], fingerprint: str, state: str) -> Path:
    """Return the data file of the view of a data set, which is made first if it is missing or incomplete.

    Its name holds the fingerprint and the place of the source: equal copies in two places have two views, so
    that a later change to one of them cannot reach trainings on the other. Ultralytics takes its caches for fresh
    while sizes and times of modification are the same; so they go when the source has any other state.

    Args:
        data: the data file.
        images: the images of each split that are to be in the view.
        fingerprint: of the data set.
        state: of its files, as `Scan.state`.
    """
    place = "\0".join(str(image.path) for listed in images.values() for image in listed)
    name = f"{fingerprint[:16]}-{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:8]}"
    view = views_dir() / name

    def is_whole(folder: Path) -> bool:
        if not (folder / DATA_FILE).is_file():
            return False
        paths = [_inside(folder, s, "images", image) for s, listed in images.items() for image in listed]
        return all(map(os.path.exists, paths))  # a link whose target is gone does not exist

    if not is_whole(view):
        view.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=view.parent))
        try:
            fresh.chmod(0o755)
            _write(fresh, view, data, images)
            (fresh / STATE).write_text(state, encoding="utf-8")
            put_folder_in_place(fresh, view, is_whole)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    if state_of(view) != state:
        for cache in (*view.rglob("*.cache"), *view.rglob("*.npy")):
            cache.unlink(missing_ok=True)
        atomic_write_text(view / STATE, state)
    return view / DATA_FILE


def state_of(view: Path) -> str:
    """Return the state of the source in which a view's caches were begun; empty where an earlier version made it."""
    try:
        return (view / STATE).read_text(encoding="utf-8")
    except OSError:
        return ""


def _write(fresh: Path, view: Path, data: DataFile, images: dict[str, list[Image]]) -> None:
    made: set[str] = set()
    for split, listed in images.items():
        for image in listed:
            for kind, source in (("images", image.path), ("labels", image.label)):
                link = _inside(fresh, split, kind, image)
                folder = os.path.dirname(link)  # noqa: PTH120
                if folder not in made:
                    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
                    made.add(folder)
                if link in made or (kind == "labels" and not os.path.isfile(source)):  # noqa: PTH113
                    continue  # a.jpg and a.png share one label; background has none
                os.symlink(source, link)  # noqa: PTH211
                made.add(link)
    content = {
        "path": str(view),
        **{split: f"images/{split}" for split in images},
        "names": dict(enumerate(data.classes)),
        **data.extra,
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (fresh / DATA_FILE).write_text(text, encoding="utf-8")


def name_in_view(split: str, image: Image) -> str:
    """Return an image's place below a view, with forward slashes: its name in `Predictions.names`."""
    return _inside(Path(), split, "images", image).removeprefix("./")


def _inside(view: Path, split: str, kind: str, image: Image) -> str:
    """Where an image (or its label, by Ultralytics' rule) lies in the view."""
    name = image.name.encode(errors="surrogateescape").decode(errors="backslashreplace")  # records are UTF-8
    name = name if kind == "images" else str(PurePosixPath(name).with_suffix(".txt"))
    # A folder `images` below would be the one that the rule replaces; one `images_` makes way for it.
    name = "/".join(f"{part}_" if part.rstrip("_") == "images" else part for part in name.split("/"))
    return f"{view}/{kind}/{split}/{name}"


def discard_caches(data_file: Path) -> None:
    """Remove what Ultralytics has kept in a view of what it read there: labels, decoded images."""
    for pattern in ("labels/**/*.cache", "images/**/*.npy"):
        for path in data_file.parent.glob(pattern):
            path.unlink(missing_ok=True)
