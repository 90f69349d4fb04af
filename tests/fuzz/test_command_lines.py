"""Whatever is typed is run, or answered by one line and exit code 2 before torch is imported; never by a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("command_lines.py")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=1800
    )


def figure(text: str, name: str) -> int:
    """A number that the script has counted."""
    found = re.search(rf"{name}: (\d+)", text)
    assert found, text
    return int(found[1])


def check(*words: str) -> None:
    ended = run(*words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert figure(ended.stdout, "tracebacks or unforeseen") == 0, ended.stdout
    assert figure(ended.stdout, "errors not told in one line") == 0, ended.stdout
    assert figure(ended.stdout, "torch before an error") == 0, ended.stdout
    assert figure(ended.stdout, "distinct messages") > 10, ended.stdout


def test_some_random_command_lines() -> None:
    check("--seed", "12", "--count", "30")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_thousand_random_command_lines(seed: int) -> None:
    check("--seed", str(seed), "--count", "1000")
