"""Ray: which slots a cluster has, what happens when it changes, and what is said when it is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablate.launching import ray as backend_module
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs
from ablate.launching.nodes import Node, large_enough, node_slots
from ablate.launching.ray import RayBackend
from ablate.launching.remote import NoCluster, share
from hydra_plugins.ablate_plugins.ray_launcher import RayLauncher

pytest.importorskip("ray")

JOBS = """
import os, time


def job(word):
    word, _, path = word.partition(" ")
    if word == "mark" and not os.path.exists(path):
        open(path, "w").close()
        time.sleep(600)
    if word == "wait":
        while not os.path.exists(path):
            time.sleep(0.1)
    if word == "gpu":
        return os.environ["CUDA_VISIBLE_DEVICES"], os.environ["ABLATE_DEVICE"]
    return os.environ["OMP_NUM_THREADS"]
"""


@pytest.fixture(autouse=True)
def jobs_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "the_jobs.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster that runs already, to which nodes can be added: a head without cores, all on this machine."""
    yield from _cluster()


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    """The address of one with a node of four cores and two GPUs; Ray counts these, whether they are there or not."""
    for cluster in _cluster():
        add(cluster, num_cpus=4, num_gpus=2)
        yield cluster.address


def _cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100_000_000})
    yield cluster
    cluster.shutdown()


def add(cluster: Any, **resources: Any) -> Any:
    return cluster.add_node(object_store_memory=100_000_000, **resources)


def node(cpus: int, gpus: float = 0, host: str = "host-a.example.org") -> Node:
    return Node(host, host, cpus, gpus)


def shares(nodes: list[Node], num_cpus: Any, num_gpus: Any) -> list[tuple[str, int, float]]:
    return [(slot.name, slot.cpus, slot.gpus) for slot in node_slots(nodes, num_cpus, num_gpus)]


def test_a_gpu_is_a_slot_and_the_cores_of_its_node_are_shared_out() -> None:
    assert shares([node(16, 2), node(8, 0, "b")], "auto", "auto") == [("host-a 1", 8, 1), ("host-a 2", 8, 1)]


def test_trials_may_share_a_gpu_or_have_several() -> None:
    assert shares([node(16, 1)], "auto", 0.5) == [("host-a 1", 8, 0.5), ("host-a 2", 8, 0.5)]
    assert shares([node(16, 5)], "auto", 2) == [("host-a 1", 8, 2), ("host-a 2", 8, 2)]
    assert len(shares([node(16, 1)], 1, 0.1)) == 10


def test_without_gpus_a_trial_has_four_cores_or_what_there_is() -> None:
    assert shares([node(2), node(9, 0, "b")], "auto", "auto") == [("host-a", 2, 0), ("b 1", 4, 0), ("b 2", 4, 0)]


def test_a_node_is_never_filled_beyond_its_cores() -> None:
    assert shares([node(3), node(3, 0, "b")], 2, 0) == [("host-a", 2, 0), ("b", 2, 0)]
    assert len(shares([node(4, 8)], 2, 1)) == 2


def test_what_no_node_has_is_said_with_what_there_is() -> None:
    with pytest.raises(NoCluster, match=r"num_cpus=auto, num_gpus=4: no node has as much: b has 8 CPUs, 2 GPUs"):
        large_enough([node(8, 2, "b")], "auto", 4)


def test_a_job_is_told_its_share_as_on_this_machine() -> None:
    assert share(cpus=8, gpus=2)["ABLATE_DEVICE"] == "0,1"
    assert share(cpus=8, gpus=2)["ABLATE_LOADER_WORKERS"] == "3"
    assert share(cpus=8, gpus=0) == {
        "ABLATE_DEVICE": "cpu",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ABLATE_CPU_THREADS"), "8"),
    }


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("nowhere", "say null"),
        ("ray://127.0.0.1:10001", "say null"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(
    address: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    with pytest.raises(NoCluster, match=expected) as caught, RayBackend(address):
        pass

    assert str(caught.value).startswith(f"hydra.launcher.address={address}: ")


def test_the_environments_address_is_tried_as_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")

    with pytest.raises(NoCluster, match=r"address=auto \(RAY_ADDRESS=127.0.0.1:1\): no Ray"), RayBackend("auto"):
        pass


@pytest.mark.slow
def test_a_lost_node_costs_its_jobs_one_try_and_a_new_one_adds_slots(nodes: Any, tmp_path: Path) -> None:
    doomed = add(nodes, num_cpus=1)
    told: list[str] = []

    def start(index: int, slot: str) -> None:
        told.append(f"start {index}")

    def poll(index: int) -> None:
        if (tmp_path / "runs").exists() and "lost" not in told:
            told.append("lost")
            nodes.remove_node(doomed, allow_graceful=False)
            add(nodes, num_cpus=2)

    observer = Observer(start=start, poll=poll, retry=lambda index, outcome: told.append(outcome.message))
    words = [f"mark {tmp_path / 'runs'}", "a", "b"]
    outcomes = run_jobs(RayBackend(nodes.address, num_cpus=1), "the_jobs:job", words, observer, Limits(max_retries=1))

    assert [outcome.result for outcome in outcomes] == ["1", "1", "1"]
    assert told.index("lost") == 1  # the other two waited: there was one slot
    assert sum(word.startswith("the worker process died (its node") for word in told) == 1


def test_each_trial_has_gpus_of_its_own_or_a_part_of_one(running: str) -> None:
    def devices(num_gpus: float, count: int) -> list[tuple[str, str]]:
        backend = RayBackend(running, num_gpus=num_gpus)
        return sorted(outcome.result for outcome in run_jobs(backend, "the_jobs:job", ["gpu"] * count))

    assert devices(1, 2) == [("0", "0"), ("1", "0")]
    assert devices(2, 1) == [("0,1", "0,1")]
    assert devices(0.5, 4) == [("0", "0"), ("0", "0"), ("1", "0"), ("1", "0")]


def test_a_node_that_does_not_see_the_results_folder_is_named(
    running: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "multirun"
    with RayBackend(running, num_cpus=4, shared=shared) as backend:
        assert len(backend.slots()) == 1
    assert list(shared.iterdir()) == []

    monkeypatch.setattr(backend_module, "_exists", lambda path: False)  # as on a machine with another disk
    with (
        pytest.raises(NoCluster, match=r"multirun: not seen from the Ray nodes .*root="),
        RayBackend(running, num_cpus=4, shared=shared),
    ):
        pass


def test_ray_keeps_our_way_to_end_and_leaves_a_cluster_that_was_there(running: str) -> None:
    import ray

    before = signal.getsignal(signal.SIGTERM)
    ray.init(address=running, logging_level="error", log_to_driver=False)
    try:
        with RayBackend(running, num_cpus=4) as backend:
            assert len(backend.slots()) == 1
        assert ray.is_initialized()
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)

    with RayBackend(running, num_cpus=4):
        assert signal.getsignal(signal.SIGTERM) == before
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_cluster_of_ones_own_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    code = "from ablate.launching.ray import RayBackend\nwith RayBackend(cores=1) as b:\n    print(len(b.slots()))"
    home = tmp_path / "home"
    home.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list(home.iterdir()) == []


@pytest.mark.slow
@pytest.mark.security("Working folder", "Workers of Ray look for no modules in it either.")
def test_workers_do_not_look_for_modules_in_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "files_trap.py").write_text(f"open('{tmp_path}/ran.txt', 'w')\n", encoding="utf-8")
    code = (
        "from ablate.launching.jobs import run_jobs\nfrom ablate.launching.ray import RayBackend\n"
        "print(run_jobs(RayBackend(cores=1), 'importlib:import_module', ['files_trap'])[0])"
    )
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONSAFEPATH": "1"}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert "No module named 'files_trap'" in done.stdout, done.stderr
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hydra.launcher.address=127.0.0.1:1"], "hydra.launcher.address=127.0.0.1:1: no Ray cluster answers there"),
        (["hydra.launcher.num_gpus=1.5"], "hydra.launcher.num_gpus=1.5: must be auto, a part of one GPU"),
        (["hydra.launcher.num_cpus=0"], "hydra.launcher.num_cpus=0 is out of range: it must be > 0"),
        (["hydra.launcher.num_cpus=9999"], "num_cpus=9999, num_gpus=auto: no node has as much"),
        (["device=0"], "device=0: Ray chooses the GPUs"),
    ],
)
def test_what_ray_cannot_do_is_said_in_one_line_before_anything_starts(
    words: list[str], expected: str, ablate_here: Any, tmp_path: Path
) -> None:
    done = ablate_here("module=none", "train=smoke", "hydra/launcher=ray", *words, "-m")

    assert done.returncode == 2
    assert done.stderr.startswith("ablate: ")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "multirun" / "trials").exists()


def test_trials_at_a_time_are_those_of_the_nodes_that_there_are_while_trials_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sweep whose seeds are added asks while it runs; a node that has joined since gets trials too."""

    class Growing:
        """A backend that has another node after each job."""

        count = 1

        def __enter__(self) -> Growing:
            return self

        def __exit__(self, *exception: Any) -> None: ...

        def slots(self) -> list[str]:
            return [f"node {number}" for number in range(self.count)]

        def submit(self, slot: str, function: str, payload: Any) -> Future[Outcome]:
            self.count += 1
            future: Future[Outcome] = Future()
            future.set_result(Outcome())
            return future

    launcher = RayLauncher(num_cpus=1)
    monkeypatch.setattr(launcher, "backend", lambda device, shared=None: Growing())
    monkeypatch.setattr(launcher, "_count", lambda device: 1)
    seen = []
    job = SimpleNamespace(settings=SimpleNamespace(command=SimpleNamespace(root=".")))
    launcher.run("", [job], "cpu", Observer(end=lambda index, outcome: seen.append(launcher.slots("cpu"))))
    assert seen == [2]
    assert launcher.slots("cpu") == 1
