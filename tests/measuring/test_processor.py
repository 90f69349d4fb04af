"""The facts of /proc/cpuinfo, read in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablate.measuring import processor

INFO = """processor\t: 0
model name\t: Example CPU @ 2.50GHz
cpu MHz\t\t: 2000.0
flags\t\t: fpu avx2 fma sse
processor\t: 1
model name\t: Example CPU @ 2.50GHz
cpu MHz\t\t: 3000.0
"""


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def read_text(path: Path, *args: Any, **kwargs: Any) -> str:
        return INFO if str(path) == "/proc/cpuinfo" else read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    processor.instruction_sets.cache_clear()


def test_name_frequency_and_instructions(cpuinfo: None) -> None:
    assert processor.processor_name() == "Example CPU @ 2.50GHz"
    assert processor.cpu_mhz() == 2500.0
    assert processor.instruction_sets() == ("avx2", "fma")
    processor.instruction_sets.cache_clear()


def test_a_system_without_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "Path", lambda _: Path("/nowhere/at/all"))
    assert processor.cpuinfo("model name") == []
    assert processor.cpu_mhz() is None
    assert processor.processor_name()
