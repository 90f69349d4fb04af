"""A failure has a type, the end of its log, and says whether another try is worth while and from where."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ablate.data.data_errors import DataError
from ablate.records.failures import TYPES, describe, goes_on, kind_of, retried, retry_option, retry_word, tail
from ablate.records.trial_record import Failure
from ablate.training.training_errors import Diverged, OutOfMemory


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemory("batch 64"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (Diverged("the loss is nan"), "diverged"),
        (DataError("labels.txt, line 2"), "data"),
        (FileNotFoundError("No images found in /data"), "data"),
        (ValueError("shapes do not match"), "code"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "code"),
    ],
)
def test_an_exception_has_a_type(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
    assert kind in TYPES


@pytest.mark.parametrize(
    ("kind", "reason", "transient", "continued"),
    [
        ("killed", "the worker process died", False, True),
        ("timeout", "it took longer", False, True),
        ("code", OSError(errno.ENOSPC, "No space left on device"), False, True),
        ("code", OSError(errno.EIO, "Input/output error"), True, True),
        ("code", RuntimeError("CUDA error: unspecified launch failure"), True, True),
        ("code", RuntimeError("this module is broken"), False, False),
        ("diverged", Diverged("the loss is nan"), False, False),
        ("out_of_memory", OutOfMemory("batch 64"), False, False),
    ],
)
def test_only_what_the_machine_did_is_tried_again_or_gone_on_from(
    kind: str, reason: Any, transient: bool, continued: bool, tmp_path: Path
) -> None:
    failure = describe(kind, reason, tmp_path / "train.log")

    assert failure.transient is transient
    assert goes_on(failure) is continued


def test_a_message_is_one_line_and_never_empty(tmp_path: Path) -> None:
    assert describe("code", ValueError("two\n  lines"), tmp_path / "log").message == "two lines"
    assert describe("code", KeyboardInterrupt(), tmp_path / "log").message == "KeyboardInterrupt"  # type: ignore[arg-type]


def test_the_end_of_a_log_is_what_a_terminal_would_show(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    bar = b"\r".join(b"epoch 1: %d%%" % n for n in range(0, 101, 20))
    log.write_bytes(b"".join(b"old %d\n" % n for n in range(9000)) + bar + b"\n\x1b[31mboom\x1b[0m\n\n\xff\n")

    lines = tail(log)

    assert len(lines) == 50
    assert lines[-3:] == ["epoch 1: 100%", "boom", "\ufffd"]
    assert tail(tmp_path / "nothing.log") == []


def test_retry_chooses_by_type() -> None:
    out_of_memory = Failure(type="out_of_memory", message="")
    code = Failure(type="code", message="")

    assert [retried(code, word) for word in ("none", "failed", "oom", "all")] == [False, True, False, True]
    assert [retried(out_of_memory, word) for word in ("none", "failed", "oom", "all")] == [False, False, True, True]
    assert retry_word([code]) == "failed"
    assert retry_word([out_of_memory]) == "oom"
    assert retry_word([code, out_of_memory]) == "all"


def test_what_failed_for_changed_files_needs_no_retry() -> None:
    changed, code = (Failure(type=kind, message="") for kind in ("changed", "code"))

    assert retried(changed, "none")
    assert retry_option([changed]) == ""
    assert retry_option([changed, code]) == " retry=failed"
