"""Samples of the machine go to a file, and whatever happens to them never reaches the training."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.measuring import system
from ablate.measuring.gpu import Gpu
from ablate.measuring.system import gpu_samplers, record_system, used_gpus
from ablate.tracking.mlflow_payload import read_samples, sample_metrics


def test_a_short_training_has_a_first_and_a_last_sample_under_mlflows_names(tmp_path: Path) -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    with record_system(tmp_path / "system.jsonl"):
        while not read_samples(tmp_path):
            os.sched_yield()
    samples = read_samples(tmp_path)
    theirs = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        theirs |= {f"system/{name}" for name in monitor.metrics}

    assert [sample.step for sample in samples] == [0, 1]
    assert set(sample_metrics(samples[0])) == theirs
    assert 0 < samples[0].content["system_memory_usage_percentage"] <= 100


def test_a_resumed_training_goes_on_counting_even_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "system.jsonl"
    path.write_text('{"time": 1.0, "step": 0, "cpu_utilization_percentage": 5.0}\n{"time": 2.0, "st')
    with record_system(path, period=60):
        while len(read_samples(tmp_path)) < 2:
            os.sched_yield()
    samples = read_samples(tmp_path)

    assert [sample.step for sample in samples] == [0, 2, 3]
    assert samples[0].content["cpu_utilization_percentage"] == 5.0


def test_no_period_means_no_samples(tmp_path: Path) -> None:
    with record_system(tmp_path / "system.jsonl", period=0):
        pass
    assert not (tmp_path / "system.jsonl").exists()


def test_a_disk_that_refuses_does_not_hurt_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trained = False
    with record_system(tmp_path / "file" / "system.jsonl", period=0.01):
        trained = True
    assert trained


def test_a_failing_training_fails_as_it_would_without(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="diverged"), record_system(tmp_path / "system.jsonl"):
        raise RuntimeError("diverged")
    assert read_samples(tmp_path)


def test_a_probe_that_fails_costs_its_own_values_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, float]:
        raise OSError("the driver is gone")

    monkeypatch.setattr(system, "gpu_samplers", lambda device: [broken])
    with record_system(tmp_path / "system.jsonl"):
        pass
    assert all("cpu_utilization_percentage" in sample.content for sample in read_samples(tmp_path))


@pytest.mark.parametrize(
    ("visible", "device", "used"),
    [
        (None, "auto", [0, 1, 2, 3]),
        (None, "cuda:1", [1]),
        ("2,3", "0", [2]),
        ("2,3", "0,1", [2, 3]),
        ("", "auto", []),
        ("GPU-0a1b", "0", [0, 1, 2, 3]),
        ("7", "0", []),
    ],
)
def test_the_gpus_of_a_training_are_those_that_cuda_shows_to_it(
    visible: str | None, device: str, used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert used_gpus(device, 4) == used


def test_a_gpu_is_told_of_under_mlflows_names() -> None:
    class Nvml:
        """NVML of a GPU that does not tell its power, as laptops do."""

        class NVMLError(Exception): ...

        def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
            return index

        def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
            return SimpleNamespace(used=2e9, total=8e9)

        def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
            return SimpleNamespace(gpu=37)

        def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
            raise self.NVMLError

    assert system._gpu_sampler(Gpu.of_index(1, Nvml()), 1)() == {
        "gpu_1_memory_usage_percentage": 25.0,
        "gpu_1_memory_usage_megabytes": 2000.0,
        "gpu_1_utilization_percentage": 37.0,
    }


@pytest.mark.gpu
def test_a_real_gpu_has_memory_utilization_and_power() -> None:
    (sample, *_) = gpu_samplers("0")
    found = {name.split("_", 2)[2] for name in sample()}
    assert {"memory_usage_megabytes", "memory_usage_percentage", "utilization_percentage"} <= found


def test_a_training_on_the_cpu_asks_for_no_gpu() -> None:
    assert gpu_samplers("cpu") == []


def test_a_sample_is_a_line_of_json_that_is_whole(tmp_path: Path) -> None:
    with record_system(tmp_path / "system.jsonl", period=0.05):
        while len(read_samples(tmp_path)) < 4:
            os.sched_yield()
    lines = (tmp_path / "system.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(len(lines)))
