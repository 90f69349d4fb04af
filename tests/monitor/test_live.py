"""While a sweep runs, its log says where it is in plain lines, and the driver hears of each epoch once."""

from __future__ import annotations

import gc
import io
import json
import re
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console
from tests.fixtures.live_display import LONG, Clock, Trials, Written, items, no_forced_colour  # noqa: F401

from ablate.monitor.attempt import Item
from ablate.monitor.live import REFRESH, SUMMARY, Live
from ablate.monitor.time_left import Announcer
from ablate.records.metrics import EpochRow
from ablate.settings.metric import METRICS
from ablate.storage.locking import lock


def plain() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=80), out


# -- plain lines ----------------------------------------------------------------------------------------------------


def test_plain_lines_tell_start_progress_and_end_with_the_trials_name(written: Trials) -> None:
    trial, (console, out), clock = written("hmha@c3k2 musgd s0"), plain(), Clock()
    with Live(console, items(trial), done=3, clock=clock) as live:
        live.start(0, "gpu 1")
        for epoch in range(10):
            trial.epoch(0.1 * epoch if epoch < 9 else 0.25, seconds=29.0)
            clock.tick(29.0)
            live.poll(0)
        trial.record(map50_95=0.8)
        live.end(0, None)

    assert out.getvalue().splitlines() == [
        "[4/4] hmha@c3k2 musgd s0: starts, 10 epochs on gpu 1",
        "about 4 min: 1 trial",
        "    hmha@c3k2 musgd s0: epoch 2/10  mAP50-95 0.1000  4 min left",
        "    hmha@c3k2 musgd s0: epoch 4/10  mAP50-95 0.3000  3 min left",
        "    hmha@c3k2 musgd s0: epoch 6/10  mAP50-95 0.5000  2 min left",
        "    hmha@c3k2 musgd s0: epoch 8/10  mAP50-95 0.7000  58 s left",
        "    hmha@c3k2 musgd s0: epoch 10/10  mAP50-95 0.2500 (best 0.8000)",
        "    hmha@c3k2 musgd s0 done in 5 min  mAP50-95 0.8000",
    ]


def test_plain_lines_are_of_the_metric_and_the_best_epoch_is_that_of_map50_95(written: Trials) -> None:
    trial, (console, out) = written("a s0"), plain()
    live = Live(console, items(trial, epochs=2), clock=Clock(), metric=METRICS["map50"])
    live.start(0, "cpu")
    for map50_95, map50 in ((0.3, 0.5), (0.2, 0.4)):
        trial.epoch(map50_95, map50=map50, epochs=2)
        live.poll(0)
    trial.record(map50_95=0.3, map50=0.51)
    live.end(0, None)
    text = out.getvalue()
    assert "mAP50 0.5000" in text
    assert "mAP50 0.4000 (best 0.5000)" in text
    assert "mAP50 0.5100" in text
    assert "mAP50-95" not in text


@pytest.mark.parametrize("epochs", [1, 2, 4, 5, 7, 19, 20, 100, 299])
def test_a_trial_says_about_five_progress_lines_however_long_it_is(written: Trials, epochs: int) -> None:
    trial, (console, out) = written("a s0"), plain()
    live = Live(console, items(trial, epochs=epochs), clock=Clock())
    live.start(0, "cpu")
    for _ in range(epochs):
        trial.epoch(epochs=epochs)
        live.poll(0)
    said = re.findall(r"epoch (\d+)/", out.getvalue())
    assert len(said) == min(epochs, 5)
    assert said[-1] == str(epochs)


def test_a_failure_is_said_at_once_with_its_log(written: Trials) -> None:
    trial, (console, out) = written("raises@head sgd s0"), plain()
    message = "a long message " * 20
    with Live(console, items(trial)) as live:
        live.start(0, "cpu")
        live.end(0, f"code: {message}", trial.folder / "train.log")
        said = out.getvalue().splitlines()
    assert said[1] == f"    raises@head sgd s0 failed: code: {message}"
    assert said[2] == f"        log: {trial.folder / 'train.log'}"


def test_a_failure_is_shown_as_it_is_though_it_looks_like_markup(written: Trials) -> None:
    trial, (console, out) = written("hat[window=7] s0"), plain()
    with Live(console, items(trial)) as live:
        live.start(0, "cpu")
        live.end(0, "code: [bold]tensor[/nothing] :warning: [1, 2]")
    assert "hat[window=7] s0 failed: code: [bold]tensor[/nothing] :warning: [1, 2]\n" in out.getvalue()


def test_every_few_minutes_one_line_sums_up(written: Trials) -> None:
    trials = [written(f"a s{seed}") for seed in range(4)]
    (console, out), clock = plain(), Clock()
    with Live(console, items(*trials), done=2, slots=2, clock=clock) as live:
        live.start(0, "cpu 0")
        live.start(1, "cpu 1")
        trials[0].epoch(seconds=60.0)
        live.poll(0)
        clock.tick(SUMMARY)
        live.poll(0)
        live.poll(1)
        clock.tick(SUMMARY / 2)
        live.poll(0)
    (summary,) = [line for line in out.getvalue().splitlines() if "running" in line]
    assert re.fullmatch(r"2 done, 2 running, 2 waiting; finishes .*, 20 min left", summary)


def test_a_resumed_trial_says_from_where_it_goes_on(written: Trials) -> None:
    trial, (console, out) = written("a s0"), plain()
    for _ in range(6):
        trial.epoch()
    live = Live(console, items(trial))
    live.start(0, "cpu", resumed=6)
    live.poll(0)
    assert out.getvalue().splitlines()[0] == "[1/1] a s0: goes on after epoch 6, 10 epochs on cpu"


def test_a_plain_log_says_how_long_it_takes_before_the_first_epoch_ends(written: Trials) -> None:
    trials, (console, out), clock = [written(f"a s{seed}") for seed in range(3)], plain(), Clock()
    with Live(console, items(*trials), slots=2, clock=clock) as live:
        live.start(0, "cpu 1")
        live.start(1, "cpu 2")
        for batch, seconds in ((4, 0.0), (8, 5.0)):  # an eighth of an epoch in five seconds
            for trial in trials[:2]:
                trial.progress(1, batch, time=2e9 + seconds)
            live.poll(0)
            live.poll(1)
            clock.tick(6.0)
        live.poll(0)

    (line,) = [line for line in out.getvalue().splitlines() if line.startswith("about")]
    assert line == "about 13 min: 3 trials, 2 at a time"  # ten epochs of 40 s, twice, less what is done


def test_an_estimate_is_said_again_only_when_it_has_become_another(written: Trials) -> None:
    trial, (console, out), clock = written("a s0"), plain(), Clock()
    with Live(console, items(trial), clock=clock, announcer=Announcer(600.0)) as live:
        live.start(0, "cpu")
        for seconds in (60.0, 60.0, 240.0, 240.0):
            trial.epoch(seconds=seconds)
            clock.tick(seconds)
            live.poll(0)

    said = [line for line in out.getvalue().splitlines() if line.startswith("about")]
    assert said == ["about 7 min left now", "about 15 min left now"]  # by the median of the epochs so far


def test_networks_that_were_not_seen_yet_take_as_long_as_their_size_says(written: Trials) -> None:
    trials, (console, out), clock = [written(name) for name in ("a s0", "b s0")], plain(), Clock()
    small, large = items(*trials)
    with Live(console, [small, replace(large, size=3.0)], clock=clock) as live:
        live.start(0, "cpu")
        trials[0].epoch(seconds=60.0)
        clock.tick(60.0)
        live.poll(0)

    assert "about 39 min: 2 trials, 1 at a time" in out.getvalue()


def test_more_than_an_hour_is_explained_once(written: Trials) -> None:
    trial, (console, out), clock = written("a s0"), plain(), Clock()
    with Live(console, items(trial), clock=clock, why="a trial has 500 steps of 9 s") as live:
        live.start(0, "cpu")
        for _ in range(2):
            trial.epoch(seconds=1000.0)
            clock.tick(1000.0)
            live.poll(0)

    assert out.getvalue().count("a trial has 500 steps of 9 s") == 1


def test_a_trial_that_makes_room_for_others_says_so_and_when_it_is_over(written: Trials) -> None:
    trial, (console, out) = written("a s0"), plain()
    with Live(console, items(trial)) as live:
        live.start(0, "cpu")
        for number, more in enumerate([{}, {"threads": 1, "threads_usual": 2}, {"threads": 1, "threads_usual": 2}, {}]):
            trial.progress(1, number, time=2e9 + number, **more)
            live.poll(0)

    lines = [line for line in out.getvalue().splitlines() if "threads" in line]
    assert len(lines) == 2
    assert "1 of 2 threads" in lines[0]


def test_a_trial_that_is_tried_again_says_why(written: Trials) -> None:
    console, out = plain()
    live = Live(console, items(written("a s0"), written("b s0")))
    live.start(0, "cpu")
    live.retry(0, "the worker process died (signal 9, SIGKILL)")
    live.start(0, "cpu")
    live.start(1, "cpu")
    assert out.getvalue().splitlines() == [
        "[1/2] a s0: starts, 10 epochs on cpu",
        "    a s0: the worker process died (signal 9, SIGKILL); it will be tried again",
        "[1/2] a s0: starts, 10 epochs on cpu",
        "[2/2] b s0: starts, 10 epochs on cpu",
    ]


def test_a_log_file_gets_no_control_codes_though_colour_is_asked_for(
    written: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    with Live(Console(file=out), items(written("a s0"))) as live:
        live.start(0, "cpu")
    assert "\x1b[?25l" not in out.getvalue()
    assert "a s0: starts" in out.getvalue()


# -- which epochs the driver hears of -------------------------------------------------------------------------------


def numbers(rows: Sequence[EpochRow]) -> list[int]:
    return [row.epoch for row in rows]


def test_each_epoch_is_handed_out_once(written: Trials) -> None:
    trial = written("a s0")
    live = Live(plain()[0], items(trial))
    live.start(0, "cpu")
    assert live.poll(0) == []
    trial.epoch(0.1)
    trial.epoch(0.2)
    assert [row.content for row in live.poll(0)] == trial.rows
    assert live.poll(0) == []


def test_epochs_of_an_earlier_try_are_not_those_of_one_that_starts_anew(written: Trials) -> None:
    trial = written("a s0")
    for _ in range(3):
        trial.epoch(0.1)
    live = Live(plain()[0], items(trial))
    live.start(0, "cpu")
    assert live.poll(0) == [], "the worker has not cleared the folder yet"

    trial.history.unlink()
    trial.rows.clear()
    trial.epoch(0.2)
    assert [row.content for row in live.poll(0)] == trial.rows


def test_epochs_before_a_resume_are_handed_out_too_but_not_twice_within_a_command(written: Trials) -> None:
    trial = written("a s0")
    trial.epoch()
    trial.epoch()
    live = Live(plain()[0], items(trial))
    live.start(0, "cpu", resumed=2)
    trial.epoch()
    assert numbers(live.poll(0)) == [1, 2, 3]

    live.retry(0, "killed")
    trial.rows.pop()
    trial.history.write_text("".join(json.dumps(row) + "\n" for row in trial.rows), encoding="utf-8")
    live.start(0, "cpu", resumed=2)
    assert live.poll(0) == []
    trial.epoch()
    trial.epoch()
    assert numbers(live.poll(0)) == [4]


def test_what_another_command_trains_is_not_handed_out(written: Trials) -> None:
    trial, (console, out) = written("a s0"), plain()
    live = Live(console, items(trial))
    with lock(trial.folder.with_suffix(".lock")):
        for _ in range(3):
            live.start(0, "cpu")
            trial.epoch()
            assert live.poll(0) == []
            live.busy(0)
    assert out.getvalue().count("another command trains it") == 1
    assert out.getvalue().count("starts") == 1, "it asks again and again; that is not said"

    live.start(0, "cpu", resumed=3)
    with lock(trial.folder.with_suffix(".lock")):
        trial.epoch()
        assert numbers(live.poll(0)) == [1, 2, 3, 4]
    assert "goes on after epoch 3" in out.getvalue()


def test_a_trial_that_gets_a_new_process_starts_once(written: Trials) -> None:
    trial, (console, out) = written("a s0"), plain()
    with Live(console, items(trial)) as live:
        live.start(0, "cpu")
        live.renew(0)
        live.start(0, "cpu")
        trial.epoch()
        assert numbers(live.poll(0)) == [1]
        live.end(0, None)

    assert out.getvalue().count("starts") == 1
    assert out.getvalue().count("[1/1]") == 1


def test_a_poll_of_what_does_not_run_is_empty(written: Trials) -> None:
    assert Live(plain()[0], items(written("a s0"))).poll(0) == []


@pytest.mark.parametrize("damage", [b"{", b"\xff", b"[]\n", b"[" * 500 + b"\n"])
@pytest.mark.parametrize("file", ["train/history.jsonl", "train/progress.json", "result.json", "../{}.lock"])
def test_no_damaged_file_ends_the_view(written: Trials, file: str, damage: bytes) -> None:
    trial, (console, out) = written("a s0"), plain()
    trial.begins()
    with Live(console, items(trial)) as live:
        live.start(0, "cpu")
        (trial.folder / file.format(trial.signature)).write_bytes(damage)
        assert live.poll(0) == []
        live.end(0, None)
    assert out.getvalue().splitlines()[-1].startswith("    a s0 done")


# -- what it holds -------------------------------------------------------------------------------------------------


def ours() -> int:
    """Bytes that our own code holds; rich keeps caches of a bounded size besides."""
    gc.collect()
    mine = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/ablate/monitor/*")])
    return sum(trace.size for trace in mine.traces)


@pytest.mark.parametrize("animated", [True, False])
def test_hundreds_of_trials_take_no_more_memory_than_fifty(written: Trials, animated: bool) -> None:
    trial = written("a s0")
    trial.epoch()
    work = [Item(f"{LONG} s{seed}", trial.signature, trial.folder, 10) for seed in range(350)]
    out, clock, sizes = io.StringIO(), Clock(), []
    tracemalloc.start()
    try:
        with Live(Console(file=out, force_terminal=animated, width=100), work, slots=1, clock=clock) as live:
            for index in range(350):
                live.start(index, "cpu", resumed=1)
                clock.tick(REFRESH / 2)
                live.poll(index)
                live.end(index, "code: it broke" if index % 10 == 0 else None)
                out.seek(0)
                out.truncate()
                if index in (49, 349):
                    sizes.append(ours())
    finally:
        tracemalloc.stop()
    assert sizes[1] < sizes[0] + 300 * 22, "less than two names and a number for each trial"
