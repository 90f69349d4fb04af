"""What a process is told before it imports torch: how threads wait, and how many there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ablate.launching.local import LocalBackend, Slot
from ablate.launching.remote import WorkerContext, run_in_context
from ablate.settings.environment import (
    CPU_THREADS,
    SHARING,
    cpu_quotas,
    cpu_threads,
    passive_waiting,
    prepare,
    user_threads,
    visible_cores,
)

OURS = (CPU_THREADS, "ABLATE_CORES", SHARING, "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has said nothing; what a test's process is told is taken back afterwards."""
    for name in OURS:
        monkeypatch.setenv(name, "")  # so that it is put back, whatever the test leaves there
        del os.environ[name]


def variables(_: Any) -> dict[str, str]:
    return dict(os.environ)


def test_threads_wait_passively_and_the_users_own_values_win() -> None:
    assert passive_waiting({}) == {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
    assert passive_waiting({"OMP_WAIT_POLICY": "active"}) == {}
    assert passive_waiting({"KMP_BLOCKTIME": "200"}) == {"OMP_WAIT_POLICY": "passive"}


@pytest.mark.parametrize("policy", ["", "active"])
def test_every_way_to_a_training_sets_it(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    remote = run_in_context(WorkerContext.of_driver(cpus=1, gpus=0), f"{__name__}:variables", None)
    if not policy:
        del os.environ["OMP_WAIT_POLICY"]
    prepare()

    assert remote.result["OMP_WAIT_POLICY"] == os.environ["OMP_WAIT_POLICY"] == (policy or "passive")


def test_a_worker_has_it_before_torch_is_imported() -> None:
    with LocalBackend([Slot("cpu", {"OMP_WAIT_POLICY": "passive"})]) as backend:
        (slot,) = backend.slots()
        before = backend.submit(slot, "ablate.settings.environment:passive_waiting", {}).result()
        found = backend.submit(slot, "os:getenv", "OMP_WAIT_POLICY").result()

    assert before.failure is None
    assert found.result == "passive"


def test_a_warm_worker_takes_the_threads_of_its_next_job() -> None:
    with LocalBackend([Slot("cpu")]) as backend:
        found = [
            backend.submit(Slot("cpu", {CPU_THREADS: threads}), "os:getenv", CPU_THREADS).result().result
            for threads in ("1", "2")
        ]
        process = {backend.submit(Slot("cpu"), "ablate.settings.environment:passive_waiting", {}).result().failure}

    assert found == ["1", "2"]
    assert process == {None}


def test_threads_are_those_that_the_user_has_given_and_else_one_for_every_core() -> None:
    assert (user_threads(), cpu_threads()) == (None, visible_cores())
    os.environ["OMP_NUM_THREADS"] = "3"
    assert (user_threads(), cpu_threads()) == (3, 3)
    os.environ[CPU_THREADS] = "5"
    assert (user_threads(), cpu_threads()) == (5, 5)


@pytest.mark.parametrize("given", ["", "3"])
def test_what_the_user_gave_is_known_after_ultralytics_has_set_its_own_number(given: str) -> None:
    if given:
        os.environ["OMP_NUM_THREADS"] = given
    prepare()
    os.environ["OMP_NUM_THREADS"] = "1"  # as importing Ultralytics does where it is not set

    assert user_threads() == (int(given) if given else None)
    assert cpu_threads() == (int(given) if given else visible_cores())


def test_a_containers_cpu_quota_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    (root / "docker" / "a").mkdir(parents=True)
    (root / "docker" / "a" / "cpu.max").write_text("max 100000\n", encoding="ascii")
    (root / "docker" / "cpu.max").write_text("150000 100000\n", encoding="ascii")
    membership.write_text("4:memory:/other\n0::/docker/a\n", encoding="utf-8")

    assert list(cpu_quotas(root, membership)) == [1.5]
    assert list(cpu_quotas(root, tmp_path / "absent")) == []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64))
    for quota, cores in [(1.5, 2), (0.25, 1), (128.0, 64)]:
        monkeypatch.setattr("ablate.settings.environment.cpu_quotas", lambda quota=quota: [quota])
        assert visible_cores() == cores
