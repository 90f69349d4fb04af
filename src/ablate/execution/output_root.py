"""Can results be written to the output folder? A run tries it by writing; a plan leaves nothing there."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from ablate.errors import ConfigError
from ablate.storage.confined import refuse_links
from ablate.storage.layout import OutputFolder


def check_writable(root: Path) -> None:
    """Raise ConfigError where results cannot be written to the output folder, or would be written through a link."""
    refuse_links(OutputFolder(root).written_in_place)
    probe = OutputFolder(root).probe()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with probe.open("xb") as file:
            file.write(b"x")
        probe.unlink()
    except OSError as error:
        raise _refused(root, error.strerror) from error


def check_makeable(root: Path) -> None:
    """Raise ConfigError where there is no output folder and none can be made.

    A file without a name is made where the folder would be: unlike a folder that is made and removed, it leaves the
    folder above unchanged, on whose time it depends whether modules are read again.
    """
    refuse_links(OutputFolder(root).written_in_place)
    if root.exists():
        if not root.is_dir():
            raise _refused(root, "it is no folder")
        if not os.access(root, os.W_OK):
            raise _refused(root, "Permission denied")
        return
    missing = root
    while not missing.parent.exists():
        missing = missing.parent
    try:
        with TemporaryFile(dir=missing.parent):
            pass
    except OSError as error:
        raise _refused(root, error.strerror) from error


def _refused(root: Path, reason: str | None) -> ConfigError:
    return ConfigError(f"root={root}: results cannot be written there: {reason}")
