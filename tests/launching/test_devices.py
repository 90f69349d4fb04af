"""Slots: who trains on what, and with which share of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from ablate.launching.devices import DEVICE, LOADERS, NoSuchDevice, make_slots, visible_gpus


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
    assert names(device="cpu") == ["cpu 1", "cpu 2", "cpu 3", "cpu 4"]
    assert names(device="cuda:2") == ["gpu 2"]
    assert names(device="0,1") == ["gpu 0+1"]


def test_without_a_gpu_there_is_one_trial_for_every_four_cores() -> None:
    assert names(visible=[], cores=2) == ["cpu"]
    assert names(visible=[], cores=8) == ["cpu 1", "cpu 2"]
    assert names(visible=[], cores=2, cpu_workers=2) == ["cpu 1", "cpu 2"]


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
