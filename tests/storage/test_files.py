"""A file that cannot be written is named, also where the system names none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ablate.storage.files import atomic_write_text


def test_a_full_disk_names_the_file_and_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep.json"
    atomic_write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        atomic_write_text(path, "new")

    assert caught.value.filename == str(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
