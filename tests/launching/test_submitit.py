"""Jobs in a queue: put back, they go on; refused, it is said; and what Slurm says of their end is understood.

The queue of this machine (submitit's own) is real. Slurm itself is played by the fifty lines below, which do with real
processes what its commands do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from ablate.launching import jobs
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs
from ablate.launching.remote import NoCluster
from ablate.launching.submitit import SubmititBackend

pytest.importorskip("submitit")

JOBS = """
import os, signal, sys, time


def job(word):
    word, _, path = word.partition(" ")
    if word == "long":
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\\n")
        if len(open(path).readlines()) > 1:
            return "went on"
        try:
            time.sleep(600)
        except Exception as error:
            return f"took it for an error: {error!r}"
    if word == "fork":
        child = os.fork()
        if not child:
            time.sleep(600)
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1)
        os.kill(child, signal.SIGUSR2)
        time.sleep(1)
        alive = os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGTERM)
        return alive, os.waitpid(child, 0)[1]
    if word == "end":
        with open(os.environ["FAKE_SLURM"] + "/" + os.environ["SLURM_JOB_ID"] + ".end", "w") as file:
            file.write(path)
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "sleep":
        time.sleep(600)
    return os.environ["OMP_NUM_THREADS"], os.environ.get("ABLATE_DEVICE")
"""


@pytest.fixture(autouse=True)
def jobs_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "the_jobs.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def queue(tmp_path: Path) -> Callable[..., SubmititBackend]:
    def make(cluster: str, **parameters: Any) -> SubmititBackend:
        usual = {"submitit_folder": str(tmp_path / "submitted" / "%j"), "timeout_min": 60}
        return SubmititBackend(cluster, {**usual, **parameters}, cores=1)

    return make


Queue = Callable[..., SubmititBackend]


def run(backend: SubmititBackend, *words: str, observer: Observer | None = None) -> list[Outcome]:
    return run_jobs(backend, "the_jobs:job", words, observer, Limits(max_retries=0))


def signal_once(mark: Path, number: signal.Signals) -> Observer:
    """Send a signal to the first process that a `long` job has noted."""
    sent: list[int] = []

    def poll(index: int) -> None:
        if not sent and mark.is_file() and (lines := mark.read_text(encoding="utf-8").split()):
            sent.append(int(lines[0]))
            time.sleep(0.2)  # until it is in its try block
            os.kill(sent[0], number)

    return Observer(poll=poll)


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_a_job_that_is_sent_back_into_the_queue_goes_on(
    cluster: str, queue: Queue, slurm: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"

    (outcome,) = run(queue(cluster, max_num_timeout=1), f"long {mark}", observer=signal_once(mark, signal.SIGUSR2))

    assert outcome == Outcome(result="went on")


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_a_job_that_may_not_go_back_has_run_out_of_time_and_not_failed_of_its_code(
    cluster: str, queue: Queue, slurm: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    backend = queue(cluster, timeout_min=1, max_num_timeout=0)  # so short a limit counts as reached at any time

    (outcome,) = run(backend, f"long {mark}", observer=signal_once(mark, signal.SIGUSR2))

    assert (outcome.failure, outcome.message) == ("timeout", "it took longer than its limit of 1 minutes")


def test_a_job_that_slurm_is_about_to_kill_stands_still_until_then(queue: Queue, slurm: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    observer = signal_once(mark, signal.SIGTERM)
    polls = 0

    def poll(index: int) -> None:
        nonlocal polls
        observer.poll(index)
        polls += mark.is_file()
        if polls == 6:
            assert psutil.pid_exists(int(mark.read_text(encoding="utf-8").split()[0]))
            os.kill(int(mark.read_text(encoding="utf-8").split()[0]), signal.SIGUSR2)  # which it hears all the same

    (outcome,) = run(queue("slurm"), f"long {mark}", observer=Observer(poll=poll, interval=0.2))

    assert outcome == Outcome(result="went on")


def test_here_nobody_else_would_kill_it(queue: Queue, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    (outcome,) = run(queue("local"), f"long {mark}", observer=signal_once(mark, signal.SIGTERM))

    assert outcome.failure == "killed"


def test_what_a_job_forks_hears_nothing_of_the_queue_and_can_be_ended(queue: Queue, tmp_path: Path) -> None:
    (outcome,) = run(queue("local"), f"fork {tmp_path / 'mark'}")

    assert outcome.result == (True, signal.SIGTERM)


def test_a_job_has_the_cores_and_gpus_that_were_asked_for(queue: Queue, slurm: Path) -> None:
    assert run(queue("slurm", cpus_per_task=6, gpus_per_node=2), "a")[0].result == ("6", "0,1")
    assert run(queue("slurm", cpus_per_gpu=4, gpus_per_task=1), "a")[0].result == ("4", "0")
    assert run(queue("slurm", cpus_per_task=3, gres="gpu:a100:2,disk:1"), "a")[0].result == ("3", "0,1")
    assert run(queue("slurm"), "a")[0].result == ("1", "cpu")


def test_as_many_jobs_as_asked_for_are_in_the_queue_at_a_time(queue: Queue, slurm: Path) -> None:
    most: list[int] = []
    observer = Observer(end=lambda index, outcome: most.append(len(list(slurm.glob("*.sh")))))

    run(queue("slurm", array_parallelism=2), "a", "b", "c", "d", observer=observer)

    assert most[0] == 2
    assert len(list(slurm.glob("*.sh"))) == 4


def test_the_batch_script_says_what_slurm_must_know(queue: Queue, slurm: Path) -> None:
    backend = queue(
        "slurm", partition="gpu", mem_gb=8, signal_delay_s=90, additional_parameters={"requeue": True}, account=None
    )
    run(backend, "a")

    lines = (slurm / "1.sh").read_text(encoding="utf-8").splitlines()
    told = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH --")}
    assert {"partition=gpu", "mem=8GB", "signal=USR2@90", "requeue", "time=60", "open-mode=append"} <= told
    assert not any(word.startswith("account") for word in told)


@pytest.mark.parametrize(
    ("state", "failure", "said"),
    [
        ("OUT_OF_MEMORY", "out_of_memory", "Slurm ended job 1 for lack of memory (mem_gb)"),
        ("TIMEOUT", "timeout", "it took longer than its limit of 60 minutes"),
        ("NODE_FAIL", "killed", "the worker process died (Slurm job 1: node_fail; log: "),
        ("CANCELLED by 0", "killed", "the worker process died (Slurm job 1: cancelled by 0; log: "),
    ],
)
def test_what_slurm_says_of_an_end_is_understood(
    state: str, failure: str, said: str, queue: Queue, slurm: Path
) -> None:
    ended, after = run(queue("slurm", array_parallelism=1), f"end {state}", "a")

    assert ended.failure == failure
    assert ended.message.startswith(said)
    assert after.failure is None


def test_a_job_that_cannot_begin_says_why(queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    (tmp_path / "broken" / "ablate").mkdir(parents=True)
    (tmp_path / "broken" / "ablate" / "__init__.py").write_text("raise ImportError('not here')", encoding="utf-8")

    (outcome,) = run(queue("local"), "a")

    assert outcome.failure == "code"
    assert outcome.message.startswith("ImportError: not here (log: ")


def test_a_refused_job_is_said_in_a_line_if_it_is_the_first(
    queue: Queue, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_LIMIT", "0")

    with pytest.raises(NoCluster, match=r"^hydra/launcher=slurm: the job was refused: .*QOS policy$"):
        run(queue("slurm"), "a")


def test_a_later_one_waits_until_the_queue_takes_it(queue: Queue, slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_LIMIT", "1")
    busy: list[int] = []

    def refused(index: int) -> None:
        busy.append(index)
        monkeypatch.setenv("FAKE_LIMIT", "99")

    outcomes = run(queue("slurm", array_parallelism=2), "a", "b", observer=Observer(busy=refused, interval=0.1))

    assert busy == [1]
    assert [outcome.failure for outcome in outcomes] == [None, None]


def test_without_slurm_it_is_said(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(NoCluster, match="are you indeed on a slurm cluster"):
        run(queue("slurm"), "a")


def test_a_stopped_driver_leaves_slurms_jobs_and_says_which(queue: Queue, slurm: Path) -> None:
    def stop(index: int) -> None:
        if len(list(slurm.glob("*.state"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run(queue("slurm", array_parallelism=2), "sleep", "sleep", observer=Observer(poll=stop))

    assert caught.value.__notes__ == ["Slurm goes on with 1, 2; to end them too: scancel 1 2"]
    assert (slurm / "1.state").read_text(encoding="utf-8") == "RUNNING"
    for job in ("1", "2"):
        subprocess.run(["scancel", job], timeout=30, check=False)


def test_a_job_at_its_drivers_limit_is_cancelled(queue: Queue, slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0.0  # hours that nobody waits for

    def poll(index: int) -> None:
        nonlocal passed
        passed = 7200.0 if (slurm / "1.state").is_file() else 0.0

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed, sleep=time.sleep)
    monkeypatch.setattr(jobs, "time", clock)
    limits = Limits(timeout=3600, max_retries=0)
    (outcome,) = run_jobs(queue("slurm"), "the_jobs:job", ["sleep"], Observer(poll=poll), limits)

    assert outcome.failure == "timeout"
    assert (slurm / "1.state").read_text(encoding="utf-8") == "CANCELLED by 0"


@pytest.mark.parametrize("name", ["slurm", "slurm_local", "mine"])
def test_the_options_hold_only_fields_that_the_plugin_knows(name: str, ablate_here: Any, tmp_path: Path) -> None:
    own = tmp_path / "conf" / "hydra" / "launcher"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("defaults: [slurm, _self_]\npartition: gpu\n", encoding="utf-8")

    done = ablate_here("--cfg", "hydra", "--package", "hydra.launcher", f"hydra/launcher={name}")

    assert done.returncode == 0, done.stderr
    assert "submitit_folder: .submitit/%j" in done.stdout
    assert ("partition: gpu" in done.stdout) == (name == "mine")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("seed=0,1", "no srun here; say this on a login node"), ("device=0", "Slurm chooses the GPUs")],
)
def test_what_slurm_cannot_do_is_said_in_one_line_before_anything_starts(
    word: str, expected: str, ablate_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = ablate_here("module=none", "train=smoke", "hydra/launcher=slurm", word, "-m")

    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "multirun" / "trials").exists()


def test_a_launcher_of_another_kind_is_refused_by_name() -> None:
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    from ablate.errors import ConfigError
    from hydra_plugins.ablate_plugins.submitit_launcher import job_launcher

    with pytest.raises(ConfigError, match=r"sweeps run on local, ray or slurm; .*BasicLauncher"):
        job_launcher(BasicLauncher())
