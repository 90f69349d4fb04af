"""Which installed distribution a top-level name belongs to, from the metadata that its installer left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PathDistribution
from pathlib import Path

_SITE = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Distribution:
    """An installed distribution.

    Attributes:
        name: As on a package index, such as ``timm``.
        version: Its version.
        metadata: The folder or file of its metadata.
    """

    name: str
    version: str
    metadata: Path

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def distribution_of(top: str, root: Path) -> Distribution | None:
    """Return the distribution that put a top-level name into a folder of `sys.path`.

    None where no installer did: a working folder, an editable install. None as well for what was installed from a
    folder of its author's (``pip install .``), where one version may stand for many contents.
    """
    try:
        changed = root.stat().st_mtime_ns
    except OSError:
        return None
    return _find(top, root, changed)


@lru_cache(maxsize=256)
def _find(top: str, root: Path, changed: int) -> Distribution | None:
    entries = [*root.glob("*.dist-info")]
    if root.name in _SITE:  # elsewhere it is what a development install leaves beside the source
        entries += root.glob("*.egg-info")
    first = _normal(top)
    for entry in sorted(entries, key=lambda entry: (_normal(entry.name.split("-")[0]) != first, entry.name)):
        distribution = PathDistribution(entry)
        if not _holds(distribution, entry, top):
            continue
        if _from_folder(distribution):
            return None
        try:
            name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        except (KeyError, TypeError):
            name, version = None, None
        stem = entry.name.removesuffix(entry.suffix)
        return Distribution(str(name or stem.partition("-")[0]), str(version or stem.partition("-")[2]), entry)
    return None


def _holds(distribution: PathDistribution, entry: Path, top: str) -> bool:
    """Tell whether a distribution installed a top-level name; by its own name where it says nothing of its files."""
    listed = distribution.read_text("top_level.txt")
    if listed is not None and top in listed.split():
        return True
    record = distribution.read_text("RECORD")
    if record is not None:
        return any(_begins(line, top) for line in record.splitlines())
    return listed is None and _normal(entry.name.split("-")[0]) == _normal(top)


def _begins(line: str, top: str) -> bool:
    return line.startswith((f"{top}/", f"{top}.py,", f"{top}."))


def _from_folder(distribution: PathDistribution) -> bool:
    text = distribution.read_text("direct_url.json")
    try:
        origin = json.loads(text) if text else {}
    except ValueError:
        return False
    return isinstance(origin, dict) and "dir_info" in origin


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def metadata_files(distributions: Iterable[Distribution]) -> list[Path]:
    """Return the files that hold the versions of distributions."""
    return [d.metadata / "METADATA" if d.metadata.is_dir() else d.metadata for d in distributions]
