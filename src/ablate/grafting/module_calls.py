"""Calls into the code of a module: whatever it raises becomes one line, and in the preflight no call runs for ever.

A module is a stranger's code. It may raise anything, `SystemExit` included, take its process along, or not return. The
process that only builds networks limits each call, and leaves a line in a file for the driver that says where it was.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ablate.grafting.insertion import GraftError

CALL_SECONDS = 60.0  # that one call of a module may take on a processor; a training would make millions of them
IMPORT_SECONDS = 300.0  # that the import of its file may take, with the libraries that it imports
IMPORT = "at its import"  # what a call is called that imports a module's file
_GRACE = 10.0  # seconds after which a call that heeds no signal takes its process along
_LONGEST = 300  # characters of a message


class NoReturn(BaseException):
    """A call has taken longer than its limit; no `Exception`, which the module's own code may catch."""


class ModuleError(GraftError):
    """What a module did wrong, and where; the message begins with the name of its class or function."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(f"{target.rpartition('.')[2]} {problem}")
        self.target = target
        self.problem = problem

    def under(self, names: Mapping[str, str]) -> str:
        """Return the message with the module's readable name, by the path of its class or function."""
        return f"{names[self.target]} {self.problem}" if self.target in names else str(self)


@dataclass(frozen=True)
class _Call:
    """A call that is running, its limit in seconds, and when that is reached."""

    name: str
    limit: float
    end: float


class _Clock:
    """The calls that are running, outermost first, where they are limited: then there is a file that names the last."""

    file: Path | None = None
    calls: ClassVar[list[_Call]] = []


@contextmanager
def limited(file: Path) -> Iterator[None]:
    """Limit the calls that are made while the block runs; a file names the call that is running."""
    _Clock.file = file
    try:
        yield
    finally:
        _Clock.calls.clear()
        _set_clock()
        _Clock.file = None


def start_clock(call: str, seconds: float | None = None) -> None:
    """Say that a call begins; nothing happens outside of `limited`."""
    if _Clock.file is not None:
        limit = CALL_SECONDS if seconds is None else seconds
        _Clock.calls.append(_Call(call, limit, time.monotonic() + limit))
        _set_clock()


def stop_clock() -> None:
    """Say that the call has ended that began last."""
    if _Clock.file is not None and _Clock.calls:
        _Clock.calls.pop()
        _set_clock()


def _set_clock() -> None:
    """Name the innermost call in the file, and let its limit interrupt it, and end this process a while later."""
    if _Clock.file is None:
        return
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    with suppress(OSError):
        _Clock.file.unlink(missing_ok=True)
    if not _Clock.calls:
        return
    call = _Clock.calls[-1]
    seconds = max(call.end - time.monotonic(), 0.001)
    with suppress(OSError):
        _Clock.file.write_text(call.name, encoding="utf-8")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, lambda number, frame: _interrupt(call.limit))
        signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=sys.__stderr__ or 2)


@contextmanager
def calling(target: str, where: str, seconds: float | None = None) -> Iterator[None]:
    """Run a block that calls a module's code.

    Args:
        target: Dotted path of its class or function.
        where: What is called, and for what, such as ``at neck_p4: constructor with 128 channels``.
        seconds: Limit of the call where calls are limited.

    Raises:
        ModuleError: It raised something, or took too long.
    """
    start_clock(f"{target} {where}", seconds)
    try:
        yield
    except BaseException as error:
        if is_of_user(error):
            raise
        raise ModuleError(target, f"{where}: {reason(error)}") from error
    finally:
        stop_clock()


def is_of_user(error: BaseException) -> bool:
    """Tell whether an exception is Ctrl-C, not the module's own: a worker ignores that signal."""
    return type(error) is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def reason(error: BaseException) -> str:
    """Return an exception as one line: its type and `detail`."""
    if isinstance(error, NoReturn):
        return str(error)
    return f"{type(error).__name__}: {detail(error)}"


def detail(error: BaseException) -> str:
    """Return the first line of an exception's message, or the line of source that raised it where it has none."""
    try:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    except Exception:  # its own __str__ is broken
        lines = []
    if not lines:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}" for frame in frames[-1:]]
    return "".join(letter if letter.isprintable() else " " for letter in (lines or ["no message"])[0])[:_LONGEST]


def _interrupt(limit: float) -> None:
    raise NoReturn(f"no return within {limit:g} s")
