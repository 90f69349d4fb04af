"""What nobody foresaw, in one line: the traceback goes to a file, whose path the line names."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path

from ablate.log import log_exception
from ablate.redaction import without_secrets
from ablate.safe_text import escaped

UNFORESEEN = 70  # exit code, EX_SOFTWARE of sysexits.h
FOLDER = "errors"  # below the output folder
_PACKAGES = ("ablate", "ultralytics", "torch", "hydra", "omegaconf", "mlflow")


def report_unforeseen(error: Exception, words: Sequence[str]) -> int:
    """Keep an error's traceback in a file and print one line about it; return the exit code.

    The file is in `errors/` of the output folder; in the folder for temporary files where that cannot be written. Where
    neither can, the traceback itself is printed.
    """
    log_exception("a fault of ablate", error)
    text = without_secrets("\n".join([*_circumstances(words), "", "".join(traceback.format_exception(error))]))
    place = _write(text, words)
    if place is None:
        print(text, file=sys.stderr)  # noqa: T201
    else:
        what = escaped(without_secrets(f"{type(error).__name__}: {error}"), most=300)
        print(f"ablate: this is a fault of ablate: {what} (traceback: {place})", file=sys.stderr)  # noqa: T201
    return UNFORESEEN


def _write(text: str, words: Sequence[str]) -> Path | None:
    """Write the file and return its path; None where it can be written nowhere."""
    name = f"ablate-{datetime.now():%Y-%m-%d_%H-%M-%S.%f}-{os.getpid()}.log"
    for folder in _folders(words):
        with suppress(OSError, ValueError):
            folder.mkdir(exist_ok=True)
            path = folder / name
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return path
    return None


def _folders(words: Sequence[str]) -> Iterator[Path]:
    root = Path("multirun")
    for word in words:
        if word.startswith("root="):
            root = Path(word.removeprefix("root=").strip("'\""))
    if root.is_dir() and not (root / FOLDER).is_symlink():
        yield root / FOLDER
    with suppress(OSError):  # there is none where nothing can be written
        yield Path(tempfile.gettempdir())


def _circumstances(words: Sequence[str]) -> Iterator[str]:
    yield f"command: {shlex.join(['ablate', *words])}"
    with suppress(OSError):
        yield f"folder: {Path.cwd()}"
    yield f"python: {platform.python_version()} on {platform.platform()}"
    distributions = metadata.packages_distributions()
    for package in _PACKAGES:
        for name in distributions.get(package, [])[:1]:
            yield f"{name}: {metadata.version(name)}"
