"""Latencies of several networks are measured in the same rounds, and say how."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from ablate.measuring.latency import measure
from ablate.measuring.memory import PeakMemory


class Waits(nn.Module):
    """Takes a known time and remembers when it was called."""

    calls: list[str]

    def __init__(self, name: str, milliseconds: float, calls: list[str]) -> None:
        super().__init__()
        self.name, self.seconds, self.calls = name, milliseconds / 1e3, calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(self.name)
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        return x


def test_medians_ratios_and_p95_are_those_of_the_rounds() -> None:
    calls: list[str] = []
    networks = {name: (Waits(name, ms, calls), 32) for name, ms in (("slow", 6.0), ("base", 2.0))}

    found = measure(networks, warmup=2, rounds=21, baseline={"slow": "base", "base": "base"})

    slow, base = found["variants"]["slow"], found["variants"]["base"]
    assert base["latency_ms"] == pytest.approx(2.0, rel=0.25)
    assert slow["latency_ratio"] == pytest.approx(3.0, rel=0.25)
    assert base["latency_ratio"] == 1.0
    assert len(slow["samples_ms"]) == 21
    assert slow["latency_ms"] <= slow["latency_p95_ms"] <= max(slow["samples_ms"])


def test_rounds_are_interleaved_and_their_order_is_shuffled() -> None:
    calls: list[str] = []
    measure({name: (Waits(name, 0.01, calls), 32) for name in "abc"}, warmup=0, rounds=20)

    rounds = [tuple(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len(set(rounds)) > 1


def test_without_a_baseline_there_is_no_ratio() -> None:
    found = measure({"a": (nn.Identity(), 32)}, warmup=0, rounds=3)

    assert found["variants"]["a"]["latency_ratio"] is None
    assert found["protocol"]["batch"] == 1
    assert found["protocol"]["imgsz"] == 32


def test_each_network_gets_its_own_image_size() -> None:
    seen: dict[str, torch.Size] = {}

    class Looks(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: Tensor) -> Tensor:
            seen[self.name] = x.shape
            return x

    found = measure({"a": (Looks("a"), 32), "b": (Looks("b"), 64)}, warmup=0, rounds=3)

    assert seen == {"a": (1, 3, 32, 32), "b": (1, 3, 64, 64)}
    assert found["protocol"]["imgsz"] == [32, 64]


def test_peak_memory_is_that_of_the_work_and_not_of_what_was_before() -> None:
    fresh = PeakMemory(cuda=False).gigabytes()
    if fresh is None:
        pytest.skip("this system does not tell a process's peak memory")
    before = [torch.ones(10_000) for _ in range(10_000)]  # 0.4 GB in small pieces, which the heap keeps when freed
    scattered = before[::50]
    del before
    peak = PeakMemory(cuda=False)
    idle = peak.gigabytes()
    assert idle is not None
    assert idle - fresh < 0.1, "what an earlier trial has freed counts as this one's"
    del scattered

    work = torch.ones(75_000_000)  # 0.3 GB
    del work

    assert (peak.gigabytes() or 0) - idle == pytest.approx(0.3, abs=0.05)


@pytest.mark.gpu
def test_cuda_latency_is_measured_with_events() -> None:
    network = nn.Conv2d(3, 64, 3).cuda()
    found = measure({"a": (network, 256)}, device="cuda:0", warmup=5, rounds=20)

    assert 0 < found["variants"]["a"]["latency_ms"] < 100
    assert found["protocol"]["device"] == "cuda:0"
