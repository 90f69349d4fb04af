"""Jobs run in a process that may die; only the job that died is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.launching import jobs
from ablate.launching.devices import make_slots
from ablate.launching.jobs import BUSY, Limits, Observer, Outcome
from ablate.launching.local import LocalBackend, run_jobs

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
    if word == "leak":
        kept = [b"x" * 100_000_000 for _ in range(100) if not time.sleep(0.05)]
    if word.startswith("slot"):
        time.sleep(0.5)
        return os.environ["ABLATE_DEVICE"], os.environ["OMP_NUM_THREADS"], os.getpid()
    if word.startswith("family "):
        import subprocess
        child = subprocess.Popen(["sleep", "600"])
        open(word[7:], "w").write(str(child.pid))
        time.sleep(60)
    if word.startswith("once "):
        if os.path.exists(word[5:]):
            return "second try"
        open(word[5:], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if word.startswith("busy "):
        if os.path.exists(word[5:]):
            return "free now"
        open(word[5:], "w").close()
        return "busy"
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
    hung, after = run_jobs("the_jobs:job", ["sleep", "a"], limits=Limits(timeout=2))

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
        Observer(
            start=lambda i, slot: told.append((f"start on {slot}", i)),
            end=lambda i, outcome: told.append((outcome.failure or "done", i)),
        ),
    )

    assert told == [("start on worker", 0), ("done", 0), ("start on worker", 1), ("code", 1)]


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

    _wait_until_gone(int(mark.read_text(encoding="utf-8")))


def _wait_until_gone(process: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and "zombie" not in Path(f"/proc/{process}/status").read_text():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.2)


def test_a_job_whose_process_died_is_tried_again_as_often_as_asked(tmp_path: Path) -> None:
    words = [f"once {tmp_path / 'first'}", "a"]
    told: list[str] = []

    outcomes = run_jobs(
        "the_jobs:job",
        words,
        Observer(retry=lambda i, outcome: told.append(f"{i} {outcome.failure}")),
        Limits(max_retries=1),
    )

    assert outcomes[0] == Outcome(result="second try")
    assert told == ["0 killed"]
    assert run_jobs("the_jobs:job", ["die"], limits=Limits(max_retries=2))[0].failure == "killed"


def test_a_job_that_is_busy_waits_while_others_run(tmp_path: Path) -> None:
    ends: list[int] = []
    busy: list[int] = []

    outcomes = run_jobs(
        "the_jobs:job",
        [f"busy {tmp_path / 'asked'}", "a"],
        Observer(end=lambda i, outcome: ends.append(i), busy=busy.append, interval=0.05),
    )

    assert outcomes[0].result == "free now"
    assert (busy, ends) == ([0], [1, 0])
    assert BUSY == "busy"


def test_each_slot_has_its_own_warm_process_and_its_share_of_the_threads() -> None:
    slots = make_slots(device="cpu", cpu_workers=2, cores=4)

    outcomes = jobs.run_jobs(LocalBackend(slots), "the_jobs:job", ["slot"] * 6)

    results = [outcome.result for outcome in outcomes]
    assert {result[:2] for result in results} == {("cpu", "2")}
    assert len({result[2] for result in results}) == 2


def test_a_killed_worker_leaves_the_other_slot_alone() -> None:
    slots = make_slots(device="cpu", cpu_workers=2, cores=2)

    outcomes = jobs.run_jobs(
        LocalBackend(slots), "the_jobs:job", ["slot", "die", "slot", "slot"], limits=Limits(max_retries=0)
    )

    assert [outcome.failure for outcome in outcomes] == [None, "killed", None, None]


def test_a_worker_that_grows_beyond_its_limit_is_ended_as_out_of_memory() -> None:
    backend = LocalBackend(make_slots(device="cpu", cpu_workers=1, cores=1), memory_gb=0.6)

    leaking, after = jobs.run_jobs(backend, "the_jobs:job", ["leak", "a"])

    assert leaking.failure == "out_of_memory"
    assert "0.6 GB" in leaking.message
    assert after.result[0] == "a done"


@pytest.mark.parametrize("end", ["timeout", "kill"])
def test_what_a_worker_started_ends_with_it(end: str, tmp_path: Path) -> None:
    mark = tmp_path / "child"

    def kill(index: int) -> None:
        if end == "kill" and mark.is_file() and (text := mark.read_text(encoding="utf-8")):
            fields = Path(f"/proc/{text}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            os.kill(int(fields[1]), signal.SIGKILL)

    limits = Limits(timeout=5 if end == "timeout" else None, max_retries=0)
    (outcome,) = run_jobs("the_jobs:job", [f"family {mark}"], Observer(poll=kill), limits)

    assert outcome.failure == {"timeout": "timeout", "kill": "killed"}[end]
    _wait_until_gone(int(mark.read_text(encoding="utf-8")))


def test_a_worker_that_dies_between_jobs_costs_nothing() -> None:
    with LocalBackend(make_slots(device="cpu", cpu_workers=1, cores=1)) as backend:
        (slot,) = backend.slots()
        worker = backend.submit(slot, "the_jobs:job", "a").result()[1]
        os.kill(worker, signal.SIGKILL)
        _wait_until_gone(worker)
        time.sleep(0.5)  # until the pool has noticed

        assert backend.submit(slot, "the_jobs:job", "b").result()[0] == "b done"
