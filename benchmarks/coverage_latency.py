"""Rows of coverage.py about the ratio of two latencies, measured by processes that differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.latency_processes import coverage_over_processes, coverage_over_rounds, round_ratios

ROUNDS = 100


def over_processes(samples: int) -> Iterator[dict[str, Any]]:
    """The interval over processes, and as a negative control the former one over all rounds."""
    random = np.random.default_rng(1)
    for between in (0.0, 0.5, 1.0, 2.0):
        for processes in (4, 5, 6, 8):
            ratios = round_ratios(random, samples, processes, ROUNDS, between, likeness=0.3)
            former = ratios[: samples // 4]
            for what, coverage in (
                ("latency ratio, over processes", coverage_over_processes(ratios)),
                ("latency ratio, over rounds (former)", coverage_over_rounds(former)),
            ):
                yield {
                    "what": what, "setting": f"{processes} processes, differing by {between} SD of rounds",
                    "found": coverage.covered, "of": samples if "former" not in what else len(former),
                    "width": coverage.width,
                }  # fmt: skip
