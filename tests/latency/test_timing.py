"""Rounds are interleaved, shuffled and mirrored; warm-up ends when latencies are stable; a failure costs one row."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ablate.latency.latency_settings import Setting
from ablate.latency.measurement_job import NetworkTimes, SettingTimes
from ablate.latency.percentiles import variant_latencies
from ablate.latency.timing import run_rounds


def constant(milliseconds: float, name: str = "", calls: list[str] | None = None) -> Callable[[int], Sequence[float]]:
    def run(turn: int) -> Sequence[float]:
        if calls is not None:
            calls.append(name)
        return (milliseconds,)

    return run


def test_every_network_runs_once_a_round_in_an_order_that_changes() -> None:
    calls: list[str] = []
    run_rounds({name: constant(1.0, name, calls) for name in "abcd"}, rounds=40)

    rounds = [tuple(calls[i : i + 4]) for i in range(0, len(calls), 4)]
    assert all(sorted(turn) == ["a", "b", "c", "d"] for turn in rounds)
    assert len(set(rounds)) > 5


def test_every_second_round_goes_backwards_through_the_first() -> None:
    calls: list[str] = []
    run_rounds({name: constant(1.0, name, calls) for name in "abcd"}, rounds=10)

    rounds = [calls[i : i + 4] for i in range(0, len(calls), 4)]
    assert all(there == back[::-1] for there, back in zip(rounds[::2], rounds[1::2], strict=True))


def test_a_steady_drift_leaves_no_trace_in_the_ratio() -> None:
    clock = [1.0]

    def drifts(factor: float) -> Callable[[int], Sequence[float]]:
        def run(turn: int) -> Sequence[float]:
            clock[0] *= 1.002  # the machine grows slower with each pass
            return (factor * clock[0],)

        return run

    found = run_rounds({"base": drifts(1.0), "twice": drifts(2.0), "third": drifts(3.0)}, rounds=60)
    mirrored = [
        (there["twice"] / there["base"] * back["twice"] / back["base"]) ** 0.5
        for there, back in (
            ({key: found.totals(key)[i] for key in found.parts}, {key: found.totals(key)[i + 1] for key in found.parts})
            for i in range(0, 60, 2)
        )
    ]
    assert max(abs(ratio - 2) for ratio in mirrored) < 1e-9


def test_warm_up_goes_on_until_two_windows_agree() -> None:
    def settles(turn: int) -> Sequence[float]:
        return (1.0 + 4.0 * 0.7**turn,)

    found = run_rounds({"a": settles, "b": constant(1.0)}, rounds=5, warmup=2, warmup_max=100)

    assert 10 < found.warmup < 40
    assert found.unsteady == []
    assert len(found.totals("a")) == 5
    assert max(found.totals("a")) < 1.1


def test_warm_up_has_an_end_and_says_who_was_not_stable() -> None:
    def grows(turn: int) -> Sequence[float]:
        return (1.3**turn,)

    found = run_rounds({"grows": grows, "b": constant(1.0)}, rounds=3, warmup=2, warmup_max=15)

    assert found.warmup == 15
    assert found.unsteady == ["grows"]


def test_no_warm_up_is_needed_where_none_is_asked_for() -> None:
    found = run_rounds({"a": constant(1.0)}, rounds=3)

    assert (found.warmup, found.unsteady, found.totals("a")) == (0, [], [1.0, 1.0, 1.0])


def test_a_network_that_fails_half_way_has_no_number_and_stops_no_other() -> None:
    def fails(turn: int) -> Sequence[float]:
        if turn == 4:
            raise RuntimeError("\x1b[96mCUDA out\x1b[0m of memory.\nTried to allocate")
        return (1.0,)

    found = run_rounds({"fails": fails, "other": constant(2.0)}, rounds=6, warmup=1)

    assert found.parts["fails"] == []
    assert found.failures == {"fails": "failed while it was timed: CUDA out of memory."}
    assert found.totals("other") == [2.0] * 6


def test_garbage_is_not_collected_while_timing_and_is_again_afterwards() -> None:
    seen = []

    def looks(turn: int) -> Sequence[float]:
        seen.append(gc.isenabled())
        return (1.0,)

    run_rounds({"a": looks}, rounds=3)

    assert seen == [False] * 3
    assert gc.isenabled()


def test_the_start_of_the_rounds_that_count_is_told_once_after_warm_up() -> None:
    calls: list[str] = []
    run_rounds({"a": constant(1.0, "a", calls)}, rounds=3, warmup=2, on_start=lambda: calls.append("start"))

    assert calls == ["a", "a", "start", "a", "a", "a"]


def test_progress_is_told_after_each_round() -> None:
    heard: list[tuple[int, int]] = []
    run_rounds({"a": constant(1.0)}, rounds=3, warmup=2, on_round=lambda done, total: heard.append((done, total)))

    assert heard == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def process(**networks: Any) -> SettingTimes:
    times = {
        key: NetworkTimes(tuple(map(tuple, parts)), difference=0.0, reason=reason)
        for key, (parts, reason) in networks.items()
    }
    return SettingTimes(
        setting=Setting(),
        imgsz=64,
        warmup=0,
        warmed_up=None,
        clock="perf_counter",
        memory_format="contiguous",
        pictures=None,
        unsteady=(),
        networks=times,
    )


def test_ratios_are_those_of_the_rounds_and_not_of_the_medians() -> None:
    base, slow = [[1.0], [10.0], [2.0]], [[2.0], [15.0], [6.0]]
    rows = variant_latencies([process(base=(base, None), slow=(slow, None))], {"base": "base", "slow": "base"})

    assert rows["slow"].latency_ratio == 2.0  # of 2, 1.5 and 3; the medians' would be 3
    assert rows["base"].latency_ratio == 1.0
    assert rows["slow"].latency_ms == 6.0
    assert rows["slow"].latency_p95_ms == 15.0
    assert rows["slow"].samples_ms == (2.0, 15.0, 6.0)
    assert rows["slow"].ratio_ci_low is None  # of one process


def test_each_process_counts_once() -> None:
    first = process(base=([[1.0]] * 10, None), slow=([[2.0]] * 10, None))
    second = process(base=([[1.0]] * 10, None), slow=([[2.2]] * 10, None))
    rows = variant_latencies([first, second], {"base": "base", "slow": "base"})

    assert rows["slow"].process_ratios == (2.0, 2.2)
    assert rows["slow"].latency_ratio == pytest.approx((2.0 * 2.2) ** 0.5)
    assert rows["slow"].ratio_ci_low is not None
    assert rows["slow"].ratio_ci_low < 1.2  # two processes: one degree of freedom, however many rounds
    assert len(rows["slow"].samples_ms) == 20


def test_without_a_baseline_there_is_no_ratio() -> None:
    rows = variant_latencies([process(a=([[1.0]] * 3, None))], {"a": None})

    assert rows["a"].latency_ms == 1.0
    assert rows["a"].latency_ratio is None


def test_a_network_without_a_number_carries_the_reason_and_its_baseline_gives_no_ratio() -> None:
    rows = variant_latencies(
        [process(base=([], "onnx refused it"), slow=([[2.0]] * 3, None))], {"base": "base", "slow": "base"}
    )

    assert rows["base"].latency_ms is None
    assert rows["base"].samples_ms == ()
    assert rows["base"].reason == "onnx refused it"
    assert rows["slow"].latency_ms == 2.0
    assert rows["slow"].latency_ratio is None


def test_the_parts_of_a_pipeline_have_medians_of_their_own() -> None:
    rows = variant_latencies([process(a=([[1.0, 5.0, 2.0], [2.0, 6.0, 1.0], [3.0, 7.0, 3.0]], None))], {"a": "a"})

    assert rows["a"].latency_ms == pytest.approx(9.0)
    assert rows["a"].parts_ms == {"preprocess": 2.0, "network": 6.0, "postprocess": 2.0}
