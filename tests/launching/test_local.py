"""What only worker processes of this machine can tell: of what one died, and how large it grew."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.launching import jobs
from ablate.launching.devices import make_slots
from ablate.launching.local import LocalBackend, run_in_worker

JOBS = """
import os, signal, time


def job(word):
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        os._exit(3)
    if word == "leak":
        kept = [b"x" * 100_000_000 for _ in range(100) if not time.sleep(0.05)]
    return f"{word} done"
"""


@pytest.fixture(autouse=True)
def jobs_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "the_jobs.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


def test_of_a_worker_that_died_it_is_said_how() -> None:
    killed, left, after = run_in_worker("the_jobs:job", ["die", "exit", "a"])

    assert (killed.failure, killed.message) == ("killed", "the worker process died (signal 9, SIGKILL)")
    assert (left.failure, left.message) == ("killed", "the worker process died (exit code 3)")
    assert after.result == "a done"


def test_a_worker_that_grows_beyond_its_limit_is_ended_as_out_of_memory() -> None:
    backend = LocalBackend(make_slots(device="cpu", cpu_workers=1, cores=1), memory_gb=0.6)

    leaking, after = jobs.run_jobs(backend, "the_jobs:job", ["leak", "a"])

    assert leaking.failure == "out_of_memory"
    assert "0.6 GB" in leaking.message
    assert after.result == "a done"
