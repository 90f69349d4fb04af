"""On a terminal one display stays in its place and shows where a sweep is."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.fixtures.live_display import LONG, Clock, Trials, Written, items, no_forced_colour  # noqa: F401

from ablate.monitor.live import Live
from ablate.storage.locking import lock

Terminals = Callable[..., Any]  # what a terminal shows of what is written to it (see conftest.py)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("count", [1, 8])
def test_the_display_shows_every_running_trial_and_stays_in_its_place(
    written: Trials, terminal_of: Terminals, width: int, count: int
) -> None:
    trials = [written(f"{LONG}{seed}") for seed in range(count + 3)]
    terminal, clock = terminal_of(width), Clock()
    with Live(terminal.console, items(*trials, epochs=40), done=1, slots=count, clock=clock) as live:
        for index in range(count):
            live.start(index, f"gpu {index}")
        for _ in range(20):
            for index in range(count):
                trials[index].epoch(0.0123 * (index + 1), epochs=40)
                clock.tick()
                live.poll(index)
        screen = terminal.screen
        for index in range(count):
            (line,) = [line for line in screen if f"gpu {index}" in line]
            assert line.startswith("hmha[rer")
            for part in (f"s17{index}", "━", "20/40", f"{0.0123 * (index + 1):.4f}", "20 min"):
                assert part in line
        assert "finishes" in screen[0]
        assert f"1 done, {count} running, 3 waiting" in screen[1]
    assert len(terminal.screen) < count + 8, "however often it was drawn"
    assert all(
        len(line) <= width for line in terminal.raw.getvalue().replace("\r", "\n").split("\n") if "\x1b" not in line
    )


def test_the_last_finished_trials_stay_in_view_with_their_accuracy(written: Trials, terminal_of: Terminals) -> None:
    trials = [written(f"variant{index} s0") for index in range(9)]
    terminal, clock = terminal_of(), Clock()
    with Live(terminal.console, items(*trials), clock=clock) as live:
        for index, trial in enumerate(trials):
            live.start(index, "cpu")
            trial.record(map50_95=index / 10)
            clock.tick(75)
            live.end(index, None)
        shown = [line for line in terminal.screen if "variant" in line]
    assert shown == [f"variant{i} s0  done  mAP50-95 {i / 10:.4f}  in 1 min" for i in (8, 7, 6, 5)]


def test_a_failure_is_printed_above_the_display_and_stays(written: Trials, terminal_of: Terminals) -> None:
    trials = [written(f"a s{seed}") for seed in range(20)]
    terminal, clock = terminal_of(), Clock()
    with Live(terminal.console, items(*trials), clock=clock) as live:
        for index, trial in enumerate(trials):
            live.start(index, "cpu")
            trial.epoch()
            clock.tick()
            live.poll(index)
            live.end(index, "out_of_memory: no room" if index == 2 else None, trial.folder / "train.log")
    assert terminal.screen[0] == "    a s2 failed: out_of_memory: no room"
    assert terminal.screen[1].startswith("        log: ")
    assert terminal.text.count("failed:") == 1
    assert "19 done, 1 failed" in terminal.screen[3]


def test_what_another_command_trains_is_counted_apart(written: Trials, terminal_of: Terminals) -> None:
    trials = [written("a s0"), written("b s0")]
    terminal, clock = terminal_of(), Clock()
    with Live(terminal.console, items(*trials), clock=clock) as live, lock(trials[0].folder.with_suffix(".lock")):
        live.start(0, "cpu")
        live.busy(0)
        live.start(1, "cpu")
        for _ in range(3):
            clock.tick()
            live.start(0, "cpu 2")
            live.poll(0)
            clock.tick()
            live.poll(1)
            assert "1 running, 1 in another command" in terminal.screen[2]
            live.busy(0)
        trials[1].epoch(seconds=60.0)
        clock.tick()
        live.poll(1)
        assert ", 9 min left" in terminal.screen[1], "nobody knows when the other command is done"
        live.end(0, None)
        clock.tick()
        live.poll(1)
        assert terminal.screen[2] == "1 done, 1 running"


def test_the_time_left_counts_what_waits_and_the_slots_there_are(written: Trials, terminal_of: Terminals) -> None:
    trials = [written(f"a s{seed}") for seed in range(5)]
    terminal, clock = terminal_of(), Clock()
    with Live(terminal.console, items(*trials), slots=2, clock=clock) as live:
        live.start(0, "gpu 0")
        live.start(1, "gpu 1")
        clock.tick()
        live.poll(0)
        assert "not known yet" in terminal.screen[0]
        trials[0].epoch(seconds=360.0)
        clock.tick()
        live.poll(0)
        # 54 min of the first, an hour each of four more, on two devices
        assert "2 h 54 min left" in terminal.screen[0]


def test_a_frame_that_has_not_changed_is_not_drawn_again(written: Trials, terminal_of: Terminals) -> None:
    trial, terminal, clock = written("a s0"), terminal_of(), Clock()
    with Live(terminal.console, items(trial), clock=clock) as live:
        live.start(0, "cpu")
        clock.tick()
        live.poll(0)
        before = terminal.raw.tell()
        for _ in range(50):
            clock.tick(0.5)
            live.poll(0)
        assert terminal.raw.tell() == before


def test_where_an_earlier_try_was_is_not_shown_of_one_that_starts(written: Trials, terminal_of: Terminals) -> None:
    trial, terminal, clock = written("a s0"), terminal_of(), Clock()
    trial.progress(epoch=1, batch=31, time=2e9)
    with Live(terminal.console, items(trial), clock=clock) as live:
        live.start(0, "cpu")
        clock.tick()
        live.poll(0)
        assert terminal.screen[4].endswith("starting")
        trial.progress(epoch=1, batch=31, time=2e9 + 60)
        clock.tick()
        live.poll(0)
        assert "━" in terminal.screen[4]


def test_a_sweep_that_is_stopped_leaves_its_last_frame_and_a_cursor(written: Trials, terminal_of: Terminals) -> None:
    trial, terminal, clock = written("a s0"), terminal_of(), Clock()

    def stopped_by_hand() -> None:
        with Live(terminal.console, items(trial), clock=clock) as live:
            live.start(0, "cpu")
            trial.epoch()
            live.poll(0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_by_hand()
    assert terminal.screen[0].startswith("0/1 trials")
    assert terminal.screen[1] == "1 interrupted"
    assert terminal.screen[3].startswith("stopped")
    assert terminal.screen[4].startswith("a s0")
    raw = terminal.raw.getvalue()
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")


def test_ctrl_c_in_a_real_terminal_gives_the_cursor_back(tmp_path: Path) -> None:
    script = (
        "import time\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from ablate.monitor.attempt import Item\n"
        "from ablate.monitor.live import Live\n"
        "with Live(Console(), [Item('a s0', 'a', Path('a'), 10)]) as live:\n"
        "    live.start(0, 'cpu')\n"
        "    while True:\n        time.sleep(0.1)\n        live.poll(0)\n"
    )
    mine, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=its, stdout=its, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment
    )
    os.close(its)
    shown = b""
    while b"starting" not in shown:
        shown += os.read(mine, 4096)
    assert b"\x1b[?25l" in shown
    process.send_signal(signal.SIGINT)
    try:
        while more := os.read(mine, 4096):
            shown += more
    except OSError:  # the other end is closed
        pass
    finally:
        process.wait()
        os.close(mine)
    assert b"stopped" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_a_dumb_terminal_gets_plain_lines(
    written: Trials, terminal_of: Terminals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    with Live(Console(file=out, force_terminal=True), items(written("a s0"))) as live:
        live.start(0, "cpu")
    assert out.getvalue() == "[1/1] a s0: starts, 10 epochs on cpu\n"
