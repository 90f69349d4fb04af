"""Peak memory is that of a stretch of work."""

from __future__ import annotations

import pytest
import torch

from ablate.measuring.memory import PeakMemory


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
