"""Which trial wrote a checkpoint: read from the file, whatever its name and the folder that it lies in.

A checkpoint is a zip file with a pickle in it. The signature is looked up among the pickle's instructions, none of
which is carried out: a file of unknown origin may run code when it is loaded. Only the standard library is needed.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from ablate.storage.confined import open_plain

SIGNATURE = "ablate_signature"  # key of a checkpoint; the first one, so that it is found at once
SEARCHED = 8 * 2**20  # bytes of the pickle; a small file may unpack to any number
PROJECT = "project"  # the training argument that names the trial's folder, which is named by the signature
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")


def folder_signature(folder: str | Path | None) -> str | None:
    """Return the signature that the name of a trial's folder is, or None where it is none."""
    name = Path(folder or "").name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def checkpoint_signature(path: Path) -> str | None:
    """Return the signature of the trial that wrote a checkpoint, or None where it cannot be read from the file.

    Versions that wrote no signature wrote the training's folder, which the signature names.

    Args:
        path: The checkpoint; it may be missing, damaged, or not ours.
    """
    try:
        with open_plain(path) as file, zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            with archive.open(name) as entry:
                content = entry.read(SEARCHED)
        for key, value in pairwise(_values(content)):
            signature = folder_signature(value if key in (SIGNATURE, PROJECT) else None)
            if signature is not None:
                return signature
    except (OSError, ValueError, IndexError, StopIteration, RuntimeError, zipfile.BadZipFile, zlib.error):
        pass
    return None


def _values(content: bytes) -> Iterator[str | None]:
    """Yield what a pickle's instructions put on the stack, in order: texts, and None for anything else."""
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name not in _MEMO:
            yield argument if isinstance(argument, str) and "UNICODE" in instruction.name else None
