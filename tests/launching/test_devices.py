"""Slots: who trains on what, and with which share of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from ablate.launching.devices import DEVICE, LOADERS, NoSuchDevice, make_slots, visible_gpus
from ablate.launching.sharing import Layout
from ablate.settings.environment import SHARING


def names(**asked: Any) -> list[str]:
    return [slot.name for slot in make_slots(**{"cores": 16, "visible": ["0", "1", "2", "3"], **asked})]


def test_each_gpu_is_a_slot_that_sees_nothing_else() -> None:
    slots = make_slots(cores=16, visible=["0", "1", "2", "3"])

    assert [slot.name for slot in slots] == ["gpu 0", "gpu 1", "gpu 2", "gpu 3"]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "2", "3"]
    assert {slot.environment[DEVICE] for slot in slots} == {"0"}


def test_cores_are_shared_out_among_the_slots() -> None:
    slots = make_slots(cores=16, visible=["0", "1", "2", "3"])

    assert {slot.environment["OMP_NUM_THREADS"] for slot in slots} == {"4"}
    assert {slot.environment[LOADERS] for slot in slots} == {"3"}


def test_small_models_share_a_gpu() -> None:
    assert names(gpus=[1], trials_per_gpu=2) == ["gpu 1 (1/2)", "gpu 1 (2/2)"]


def test_a_trial_may_have_several_gpus() -> None:
    slots = make_slots(cores=16, visible=["0", "1", "2", "3", "4"], gpus_per_trial=2)

    assert [slot.name for slot in slots] == ["gpu 0+1", "gpu 2+3"]
    assert slots[1].environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert slots[1].environment[DEVICE] == "0,1"


def test_numbers_count_what_the_environment_leaves_visible() -> None:
    slots = make_slots(cores=4, visible=["5", "GPU-8a1"], gpus=[1])

    assert slots[0].name == "gpu 1"
    assert slots[0].environment["CUDA_VISIBLE_DEVICES"] == "GPU-8a1"


def test_the_device_of_a_trial_decides_over_the_launcher() -> None:
    assert names(device="cpu", cpu_workers=2) == ["cpu 1", "cpu 2"]
    assert names(device="cuda:2") == ["gpu 2"]
    assert names(device="0,1") == ["gpu 0+1"]


def test_without_a_gpu_the_layout_says_how_many_trials_run_with_how_many_threads() -> None:
    slots = make_slots(cores=8, visible=[], layout=Layout(3, 2))

    assert [slot.name for slot in slots] == ["cpu 1", "cpu 2", "cpu 3"]
    for slot in slots:
        assert slot.environment["OMP_NUM_THREADS"] == slot.environment["ABLATE_CPU_THREADS"] == "2"
        assert slot.environment[SHARING] == "3"


def test_without_a_layout_there_is_one_trial_with_every_core() -> None:
    (slot,) = make_slots(cores=8, visible=[])

    assert (slot.name, slot.environment["OMP_NUM_THREADS"]) == ("cpu", "8")
    assert SHARING not in slot.environment


def test_a_number_of_trials_that_the_user_gives_shares_the_cores_and_is_nobody_elses_choice() -> None:
    slots = make_slots(cores=5, visible=[], cpu_workers=2, layout=Layout(5, 1))

    assert [slot.environment["OMP_NUM_THREADS"] for slot in slots] == ["2", "2"]
    assert all(SHARING not in slot.environment for slot in slots)


@pytest.mark.parametrize("visible", [[], ["0"]])
def test_threads_of_every_worker_wait_passively(visible: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    (slot,) = make_slots(cores=2, visible=visible)

    assert slot.environment["OMP_WAIT_POLICY"] == "passive"
    assert slot.environment["KMP_BLOCKTIME"] == "0"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"device": "7"}, "device=7: this machine has 4 CUDA devices"),
        ({"gpus": [4]}, r"gpus=\[4\]: this machine has 4"),
        ({"device": "0", "visible": []}, "this machine has no CUDA device"),
        ({"gpus_per_trial": 8}, "gpus_per_trial=8, but there are 4"),
        ({"gpus_per_trial": 2, "trials_per_gpu": 2}, "cannot both"),
    ],
)
def test_what_cannot_be_shared_so_is_said(asked: dict[str, Any], expected: str) -> None:
    with pytest.raises(NoSuchDevice, match=expected):
        names(**asked)


def test_what_is_visible_is_what_the_driver_and_the_environment_agree_on(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 0\necho 1\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-8a1,7")
    assert visible_gpus() == ["1", "GPU-8a1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
