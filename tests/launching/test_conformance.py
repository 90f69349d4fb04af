"""What every backend must do: the same jobs end in the same outcomes, wherever they run."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from ablate.launching import jobs
from ablate.launching.devices import make_slots
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs

CORES = 2
ONCE = Limits(max_retries=0)
BACKENDS = ["local", "ray", "submitit"]
WARM = ["local", "ray"]  # on a cluster with a queue, each job is a process of its own

JOBS = """
import os, signal, subprocess, sys, time


class Odd(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def job(word):
    word, _, path = word.partition(" ")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        os._exit(3)
    if word == "leave":
        sys.exit(3)  # as a script does that is imported
    if word == "raise":
        raise ValueError("said no")
    if word == "odd":
        raise Odd("this", "that")
    if word == "rest":
        time.sleep(1)
    if word == "slot":
        return os.environ["ABLATE_DEVICE"], os.environ["OMP_NUM_THREADS"], os.getpid()
    if word == "home":
        return os.getcwd(), os.environ["ABLATE_OF_THE_USER"]
    if word == "mark":
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
    if word == "family":
        child = subprocess.Popen(["sleep", "600"])
        with open(path, "w") as file:
            file.write(str(child.pid))
        time.sleep(600)
    if word in ("once", "busy"):
        if os.path.exists(path):
            return "second time"
        open(path, "w").close()
        if word == "busy":
            return "busy"
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "stale" or (word == "other" and path == str(os.getpid())):
        return "stale"
    return f"{word} done", os.getpid()
"""

DRIVER = """
import sys
from ablate.launching.jobs import Limits, run_jobs
from ablate.launching.{module} import {name}

if __name__ == "__main__":
    from ablate.launching.devices import make_slots
    try:
        run_jobs({call}, "the_jobs:job", [f"mark {{path}}" for path in sys.argv[1:]])
    except KeyboardInterrupt:
        sys.exit(130)
"""
DRIVERS = {
    "local": ("local", "LocalBackend", 'LocalBackend(make_slots(device="cpu", cpu_workers=2, cores=2))'),
    "ray": ("ray", "RayBackend", "RayBackend(num_cpus=1, cores=2)"),
    "submitit": ("submitit", "SubmititBackend", 'SubmititBackend("local", {"submitit_folder": "jobs/%j"}, cores=2)'),
}

Make = Callable[[int], Any]


@pytest.fixture(autouse=True)
def jobs_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "the_jobs.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine: it takes seconds to start, so that all tests here share it."""
    import ray

    from ablate.launching.ray import connect

    connect(None, CORES)
    yield
    ray.shutdown()


@pytest.fixture
def make(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Return what makes a backend with so many slots for jobs without a GPU."""
    _need(kind)
    if kind == "local":
        from ablate.launching.local import LocalBackend

        return lambda slots: LocalBackend(make_slots(device="cpu", cpu_workers=slots, cores=CORES))
    if kind == "ray":
        from ablate.launching.ray import RayBackend

        request.getfixturevalue("cluster")
        return lambda slots: RayBackend(num_cpus=CORES // slots, num_gpus=0)
    from ablate.launching.submitit import SubmititBackend

    folder = str(tmp_path / "submitted" / "%j")
    return lambda slots: SubmititBackend(
        "local", {"submitit_folder": folder, "cpus_per_task": CORES // slots}, cores=CORES
    )


def _need(kind: str) -> None:
    if kind != "local" and importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")


def run(backend: Any, *words: str, observer: Observer | None = None, limits: Limits = ONCE) -> list[Outcome]:
    return run_jobs(backend, "the_jobs:job", words, observer, limits)


each = pytest.mark.parametrize("kind", BACKENDS)
warm = pytest.mark.parametrize("kind", WARM)


@each
def test_a_job_whose_process_is_killed_is_the_only_one_lost(make: Make) -> None:
    first, killed, last = run(make(1), "a", "die", "b")

    assert first.result[0] == "a done"
    assert killed.failure == "killed"
    assert killed.message.startswith("the worker process died (")
    assert last.result[0] == "b done"


@each
def test_a_job_that_is_killed_leaves_those_beside_it_alone(make: Make) -> None:
    outcomes = run(make(2), "rest", "die", "a", "a")

    assert [outcome.failure for outcome in outcomes] == [None, "killed", None, None]


@each
def test_a_process_that_leaves_and_an_exception_are_told_apart_in_the_same_words(make: Make) -> None:
    left, raised = run(make(1), "exit", "raise")

    assert left.failure == "killed"
    assert (raised.failure, raised.message) == ("code", "ValueError: said no")


@each
def test_code_that_ends_its_process_ends_neither_the_driver_nor_other_jobs(make: Make) -> None:
    left, other = run(make(1), "leave", "work")

    assert left.failure in ("code", "killed")
    assert other.result[0] == "work done"


@each
def test_an_exception_that_cannot_be_unpickled_is_told_in_words_too(make: Make) -> None:
    (odd,) = run(make(1), "odd")

    assert (odd.failure, odd.message) == ("code", "Odd: this and that")


@each
def test_a_job_that_hangs_is_ended_at_its_limit_with_all_that_it_started(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "child"
    passed = 0.0  # hours that nobody waits for

    def poll(index: int) -> None:
        nonlocal passed
        if mark.is_file() and mark.read_text(encoding="utf-8"):
            passed = 7200.0

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed, sleep=time.sleep)
    monkeypatch.setattr(jobs, "time", clock)
    observer, limits = Observer(poll=poll), Limits(timeout=3600, max_retries=0)
    hung, after = run(make(1), f"family {mark}", "a", observer=observer, limits=limits)

    assert hung.failure == "timeout"
    assert "its limit of 3600 seconds" in hung.message
    assert after.result[0] == "a done"
    _wait_until_gone(int(mark.read_text(encoding="utf-8")))


@each
def test_a_job_whose_process_died_is_tried_again_as_often_as_asked(make: Make, tmp_path: Path) -> None:
    told: list[str] = []
    observer = Observer(retry=lambda index, outcome: told.append(f"{index} {outcome.failure}"))

    once, hopeless = run(make(1), f"once {tmp_path / 'first'}", "die", observer=observer, limits=Limits(max_retries=1))

    assert once == Outcome(result="second time")
    assert hopeless.failure == "killed"
    assert told == ["0 killed", "1 killed"]


@each
def test_a_job_that_is_busy_waits_while_others_run(make: Make, tmp_path: Path) -> None:
    ends: list[int] = []
    busy: list[int] = []
    observer = Observer(end=lambda index, outcome: ends.append(index), busy=busy.append, interval=0.05)

    outcomes = run(make(1), f"busy {tmp_path / 'asked'}", "a", observer=observer)

    assert outcomes[0].result == "second time"
    assert busy[0] == 0
    assert sorted(ends) == [0, 1]


@each
def test_callbacks_tell_start_and_end_and_where(make: Make) -> None:
    told: list[tuple[str, int]] = []
    observer = Observer(
        start=lambda index, slot: told.append((f"start on {slot}", index)),
        end=lambda index, outcome: told.append((outcome.failure or "done", index)),
    )
    backend = make(1)

    run(backend, "a", "raise", observer=observer)

    (slot,) = backend.slots()
    assert told == [(f"start on {slot}", 0), ("done", 0), (f"start on {slot}", 1), ("code", 1)]


@each
def test_jobs_run_beside_each_other_and_know_their_share_of_the_machine(make: Make, kind: str) -> None:
    running: set[int] = set()
    most = 0

    def start(index: int, slot: str) -> None:
        nonlocal most
        running.add(index)
        most = max(most, len(running))

    observer = Observer(start=start, end=lambda index, outcome: running.discard(index))
    results = [outcome.result for outcome in run(make(2), *["slot"] * 4, observer=observer)]

    assert most == 2
    assert {(device, threads) for device, threads, _ in results} == {("cpu", str(CORES // 2))}
    # each slot has a warm process of its own; on a cluster with a queue, each job has one
    assert len({process for _, _, process in results}) == (2 if kind in WARM else 4)


@each
def test_a_job_stands_in_the_drivers_folder_and_has_its_settings(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATE_OF_THE_USER", "kept")

    (home,) = run(make(1), "home")

    assert home.result == (str(tmp_path), "kept")


@warm
def test_the_process_stays_warm_between_jobs(make: Make) -> None:
    first, second = run(make(1), "a", "b")

    assert first.result[1] == second.result[1] != os.getpid()


@warm
def test_a_job_that_finds_its_process_outdated_gets_a_new_one(make: Make) -> None:
    renewed: list[int] = []
    words = ["a", "", "b"]
    ended: list[int] = []

    def end(index: int, outcome: Outcome) -> None:
        ended.append(index)
        if index == 0:
            words[1] = f"other {outcome.result[1]}"  # a process other than this one

    observer = Observer(end=end, renew=renewed.append)
    first, second, third = run_jobs(make(1), "the_jobs:job", words, observer, ONCE)

    assert (first.result[0], second.result[0], third.result[0]) == ("a done", "other done", "b done")
    assert first.result[1] != second.result[1] == third.result[1]
    assert (ended, renewed) == ([0, 1, 2], [1])


@each
def test_a_job_that_finds_every_process_outdated_fails(make: Make) -> None:
    (outcome,) = run(make(1), "stale")

    assert (outcome.result, outcome.failure) == (None, "code")


@warm
def test_a_process_that_dies_between_jobs_costs_nothing(make: Make) -> None:
    with make(1) as backend:
        (slot,) = backend.slots()
        worker = backend.submit(slot, "the_jobs:job", "a").result().result[1]
        os.kill(worker, signal.SIGKILL)
        _wait_until_gone(worker)
        time.sleep(0.5)  # until the pool has noticed

        assert backend.submit(slot, "the_jobs:job", "b").result().result[0] == "b done"


@warm  # where Slurm runs jobs it is Slurm that ends what they leave behind
def test_what_a_job_started_ends_with_it_when_it_is_killed(make: Make, tmp_path: Path) -> None:
    mark = tmp_path / "child"

    def kill(index: int) -> None:
        if mark.is_file() and (text := mark.read_text(encoding="utf-8")) and psutil.pid_exists(int(text)):
            parent = psutil.Process(int(text)).parent()
            assert parent is not None
            parent.kill()

    (outcome,) = run(make(1), f"family {mark}", observer=Observer(poll=kill))

    assert outcome.failure == "killed"
    _wait_until_gone(int(mark.read_text(encoding="utf-8")))


@each
def test_ctrl_c_leaves_no_process_behind(kind: str, tmp_path: Path) -> None:
    driver, mark = _start_driver(kind, tmp_path)

    driver.send_signal(signal.SIGINT)

    assert driver.wait(60) == 130
    _wait_for(lambda: not _members(mark))


# a queue goes on without its driver
@pytest.mark.parametrize("kind", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_nothing_goes_on_when_the_driver_is_killed(kind: str, tmp_path: Path) -> None:
    driver, mark = _start_driver(kind, tmp_path)

    driver.kill()
    driver.wait()

    _wait_for(lambda: not _members(mark))


def _start_driver(kind: str, tmp_path: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a driver with two jobs; return it, once both run, with what marks all that it starts."""
    _need(kind)
    module, name, call = DRIVERS[kind]
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(module=module, name=name, call=call), encoding="utf-8")
    mark = uuid.uuid4().hex
    paths = [tmp_path / "first", tmp_path / "second"]
    driver = subprocess.Popen(
        [sys.executable, str(script), *map(str, paths)], cwd=tmp_path, env={**os.environ, "ABLATE_TEST_MARK": mark}
    )
    _wait_for(lambda: driver.poll() is not None or all(path.is_file() and path.read_text("utf-8") for path in paths))
    assert driver.poll() is None
    assert len(_members(mark)) > 2
    return driver, mark


def _members(mark: str) -> list[psutil.Process]:
    """Return the processes that live with a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ABLATE_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _wait_until_gone(process: int) -> None:
    _wait_for(lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE)


def _wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Scripted:
    """A backend of one slot whose jobs end as it is told."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = iter(outcomes)
        self.stopped = 0

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def slots(self) -> list[str]:
        return ["slot"]

    def submit(self, slot: str, function: str, payload: Any) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(next(self._outcomes))
        return future

    def stop(self, slot: str, future: Future[Outcome]) -> None:
        self.stopped += 1

    def explain(self, error: BaseException) -> Outcome:
        raise error


def test_a_job_that_is_tried_again_may_need_a_new_process_again() -> None:
    stale = Outcome("stale")
    backend = Scripted(stale, Outcome(failure="killed"), stale, Outcome("done"))

    (outcome,) = run_jobs(backend, "", [None], Observer(interval=0.01), Limits(max_retries=1))

    assert (outcome, backend.stopped) == (Outcome("done"), 2)
