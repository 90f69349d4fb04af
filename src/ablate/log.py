"""Logging of the driver and its workers through one logger, `ablate`, of the standard library.

Messages go to files: those of a command to `driver.log` in its sweep's folder, those of a trial's worker to the
`train.log` of the trial. `-v` shows the command's on standard error too. The level of all of them is that of the
environment variable `ABLATE_LOG`, which workers inherit on every backend. The root logger and the loggers of libraries
are left as they are.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO, TextIOWrapper
from logging.handlers import MemoryHandler, RotatingFileHandler
from pathlib import Path

from ablate.errors import ConfigError
from ablate.redaction import without_secrets
from ablate.safe_text import one_line, visible

LEVEL = "ABLATE_LOG"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LARGEST = 1_000_000  # bytes; a driver log that would grow beyond this is first renamed, with the suffix .1


class _Format(logging.Formatter):
    """Lays out a message on one line, whatever names of strangers are in it, and without secrets.

    A traceback keeps its lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message."""
        return visible(without_secrets(super().format(record)))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the text of a message without the traceback."""
        return one_line(super().formatMessage(record))


FILE_FORMAT = _Format("%(asctime)s %(levelname)s %(name)s: %(message)s")
TERMINAL_FORMAT = _Format("%(levelname)s %(name)s: %(message)s")

_ablate = logging.getLogger("ablate")


class _File(RotatingFileHandler):
    """A log file; one that cannot be written, as on a full disk, never disturbs a sweep. No link is followed."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        return TextIOWrapper(FileIO(os.open(self.baseFilename, flags, 0o666), "ab"), encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the message."""


class _Terminal(logging.Handler):
    """Prints to what is standard error at that moment: a live display replaces it while it draws."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        print(self.format(record), file=sys.stderr)  # noqa: T201


def configure(*, verbose: bool = False) -> None:
    """Set up the logging of a command; its messages are kept until `open_driver_log` names their file.

    Args:
        verbose: Also print them on standard error.

    Raises:
        ConfigError: `ABLATE_LOG` is not a level.
    """
    for handler in list(_ablate.handlers):
        if isinstance(handler, MemoryHandler | _File | _Terminal):  # of an earlier command in this process
            _ablate.removeHandler(handler)
            handler.close()
    _ablate.setLevel(level())
    _ablate.propagate = False
    _ablate.addHandler(MemoryHandler(capacity=1000, flushLevel=logging.CRITICAL + 1))
    if verbose:
        terminal = _Terminal()
        terminal.setFormatter(TERMINAL_FORMAT)
        _ablate.addHandler(terminal)


def open_driver_log(path: Path) -> None:
    """Append the command's messages, those so far too, to the driver log of its sweep."""
    early = [handler for handler in _ablate.handlers if isinstance(handler, MemoryHandler)]
    for memory in early:
        file = _file(path, LARGEST)
        memory.setTarget(file)
        memory.close()  # flushes it
        _ablate.removeHandler(memory)
        _ablate.addHandler(file)


def log_exception(message: str, error: BaseException) -> None:
    """Add a message with the traceback of an error to the command's log; with `-v` it is printed too."""
    _ablate.error(message, exc_info=error)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append the messages of a worker process to a file.

    Raises:
        ConfigError: `ABLATE_LOG` is not a level.
    """
    file = _file(path)
    _ablate.setLevel(level())
    _ablate.addHandler(file)
    try:
        yield
    finally:
        _ablate.removeHandler(file)
        file.close()


def level() -> int:
    """Return the level that `ABLATE_LOG` names, or info.

    Raises:
        ConfigError: It is not a level.
    """
    name = os.environ.get(LEVEL) or "info"
    if name.lower() not in LEVELS:
        raise ConfigError(f"{LEVEL}={name}: not a level; valid: {', '.join(LEVELS)}")
    return LEVELS[name.lower()]


def _file(path: Path, largest: int = 0) -> logging.Handler:
    handler = _File(path, maxBytes=largest, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(FILE_FORMAT)
    return handler
