"""How a trial failed: the type, whether another attempt may succeed, and the last lines of the log."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ablate.data.data_errors import DataError
from ablate.records.trial_record import Failure
from ablate.redaction import without_secrets
from ablate.storage.confined import open_plain

TYPES = ("out_of_memory", "diverged", "data", "code", "killed", "timeout", "changed")
TAIL = 50  # lines of the log that a record keeps
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MACHINE = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EAGAIN, errno.ENFILE)
_HICCUPS = ("unspecified launch failure", "uncorrectable ecc error", "nccl error", "dataloader worker (pid")


def describe(kind: str, reason: Exception | str, log: Path) -> Failure:
    """Return a failure as a record has it.

    Args:
        kind: One of `TYPES`.
        reason: The exception, or one line.
        log: The trial's log.
    """
    return Failure(
        type=kind,
        message=without_secrets(" ".join(str(reason).split())) or type(reason).__name__,
        log=log.name,
        transient=isinstance(reason, Exception) and _is_transient(reason),
        intact=kind in ("killed", "timeout") or isinstance(reason, OSError) or bool(getattr(reason, "intact", False)),
        tail=tuple(map(without_secrets, tail(log))),
    )


def kind_of(error: Exception) -> str:
    """Return the failure type of an exception that came out of a training."""
    kind = getattr(error, "kind", None)
    if kind in TYPES:
        return str(kind)
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "out_of_memory"
    if isinstance(error, DataError) or any(w in text for w in ("dataset", "no labels found", "no images found")):
        return "data"
    return "code"


def goes_on(failure: Failure | None) -> bool:
    """Tell whether another try may go on from the last checkpoint, because nothing was wrong with the training."""
    return failure is not None and (failure.intact or failure.transient)


def retried(failure: Failure | None, retry: str) -> bool:
    """Tell whether a failed trial is to be tried again: ``failed`` means all but out of memory, ``oom`` just that.

    A trial whose files had changed always runs again: it is requested only when they match its signature again.
    """
    kind = failure.type if failure is not None else ""
    if kind == "changed":
        return True
    out_of_memory = kind == "out_of_memory"
    return retry == "all" or (retry == "oom" and out_of_memory) or (retry == "failed" and not out_of_memory)


def retry_word(failures: Sequence[Failure]) -> str:
    """Return the `retry=` that tries again all trials that failed so."""
    out_of_memory = [failure.type == "out_of_memory" for failure in failures]
    return "oom" if all(out_of_memory) else "all" if any(out_of_memory) else "failed"


def retry_option(failures: Sequence[Failure]) -> str:
    """Return what to add to a command that is to try again all trials that failed so; empty where it does anyway."""
    waiting = [failure for failure in failures if not retried(failure, "none")]
    return f" retry={retry_word(waiting)}" if waiting else ""


def tail(log: Path, lines: int = TAIL) -> list[str]:
    """Return the last lines of a log as a terminal would show them: what a progress bar overwrote is gone."""
    try:
        with open_plain(log) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 65536, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    shown = [_ANSI.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n")]
    return [line for line in shown if line.strip()][-lines:]


def _is_transient(error: Exception) -> bool:
    """Tell whether an exception is a passing fault of the machine, rather than of the training."""
    if isinstance(error, OSError):
        return error.errno in _MACHINE
    return any(words in str(error).lower() for words in _HICCUPS)
