"""Jobs run in a process that may die; only the job that died is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.launching.local import run_jobs

JOBS = """
import os, signal, sys, time


def job(word):
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        os._exit(3)
    if word == "raise":
        raise ValueError("said no")
    if word == "sleep":
        time.sleep(60)
    if word.startswith("mark "):
        open(word[5:], "w").write(str(os.getpid()))
        time.sleep(60)
    return f"{word} done", os.getpid()
"""


@pytest.fixture(autouse=True)
def jobs_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "the_jobs.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_killed_worker_costs_one_job() -> None:
    first, killed, last = run_jobs("the_jobs:job", ["a", "die", "b"])

    assert first.result[0] == "a done"
    assert killed.failure == "killed"
    assert "SIGKILL" in killed.message
    assert last.result[0] == "b done"


def test_a_worker_that_exits_and_an_exception_are_told_apart() -> None:
    left, raised = run_jobs("the_jobs:job", ["exit", "raise"])

    assert (left.failure, left.message) == ("killed", "the worker process died (exit code 3)")
    assert (raised.failure, raised.message) == ("code", "ValueError: said no")


def test_a_job_that_hangs_is_ended_at_its_limit_and_the_next_one_runs() -> None:
    hung, after = run_jobs("the_jobs:job", ["sleep", "a"], timeout=2)

    assert hung.failure == "timeout"
    assert after.result[0] == "a done"


def test_the_worker_stays_warm_between_jobs() -> None:
    first, second = run_jobs("the_jobs:job", ["a", "b"])

    assert first.result[1] == second.result[1] != os.getpid()


def test_callbacks_tell_start_progress_and_end_in_order() -> None:
    told: list[tuple[str, int]] = []
    run_jobs(
        "the_jobs:job",
        ["a", "raise"],
        on_start=lambda i: told.append(("start", i)),
        on_end=lambda i, outcome: told.append((outcome.failure or "done", i)),
    )

    assert told == [("start", 0), ("done", 0), ("start", 1), ("code", 1)]


def test_a_worker_ends_when_its_driver_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = f"from ablate.launching.local import run_jobs\nrun_jobs('the_jobs:job', ['mark {mark}'])"
    script = tmp_path / "driver.py"
    script.write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}\n", encoding="utf-8")
    driver = subprocess.Popen([sys.executable, str(script)])
    while not (mark.is_file() and mark.read_text(encoding="utf-8")):
        assert driver.poll() is None
        time.sleep(0.1)

    driver.kill()
    driver.wait()

    worker = int(mark.read_text(encoding="utf-8"))
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and "zombie" not in Path(f"/proc/{worker}/status").read_text():
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.2)
