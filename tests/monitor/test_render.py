"""What is shown fits, stays readable, and says times as people do."""

from __future__ import annotations

from datetime import datetime

import pytest
from rich.cells import cell_len
from rich.text import Text

from ablate.monitor.render import View, bar, clock, duration, finish_words, frame, shorten, table, tally
from ablate.monitor.trial_state import TrialState
from ablate.records.trial_record import Failure

LONG = "hmha[rerank=batch,cache=paper,groups=8]@backbone_p3+neck_p4 musgd yolo26n s17"
WIDE = "模块注意力机制@网络颈部 musgd s3"  # two cells a letter


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (750, "12 min"),
        (3599, "1 h 0 min"),
        (18720, "5 h 12 min"),
        (86399, "1 d 0 h"),
        (273600, "3 d 4 h"),
    ],
)
def test_times_are_said_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_no_time_within_a_year_is_longer_than_its_column() -> None:
    assert max(len(duration(seconds)) for seconds in range(0, 365 * 86400, 997)) <= 11


def test_the_finish_says_the_day_where_it_is_not_today() -> None:
    noon = datetime(2026, 11, 20, 12, 0).timestamp()
    assert clock(3600, noon) == "13:00"
    assert clock(13 * 3600, noon) == "Sat 01:00"
    assert clock(8 * 86400, noon) == "Sat 28 Nov 12:00"
    assert finish_words(3600, noon) == "finishes 13:00, 1 h 0 min left"
    assert "not known" in finish_words(None)


@pytest.mark.parametrize("name", [LONG, WIDE, "short s1"])
@pytest.mark.parametrize("width", [0, 1, 2, 9, 20, 33, 200])
def test_a_name_is_cut_in_its_middle_to_any_width(name: str, width: int) -> None:
    assert cell_len(shorten(name, width)) <= width
    if width >= 9:
        assert shorten(name, width)[0] == name[0]
        assert shorten(name, width).endswith(name[-3:])


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("fraction", [-1.0, 0.0, 0.01, 0.5, 0.99, 1.0, 7.0])
def test_a_bar_has_its_width_whatever_the_fraction(fraction: float, ascii_only: bool) -> None:
    shown = bar(fraction, 13, ascii_only=ascii_only)
    assert shown.cell_len == 13
    assert shown.plain.isascii() == ascii_only


def test_a_bar_can_be_read_without_colour() -> None:
    assert bar(0.5, 4, ascii_only=True).plain == "##--"
    assert bar(0.625, 4).plain == "━━╸─"


def test_a_table_that_has_room_is_not_cut() -> None:
    lines = table(["trial", "left"], [[LONG, "3 s"], ["b", "12 min"]], None, right=["left"])
    assert [line.plain for line in lines] == [
        f"{'trial'.ljust(len(LONG))}    left",
        f"{LONG}     3 s",
        f"{'b'.ljust(len(LONG))}  12 min",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_table_gives_up_columns_before_it_cuts_its_names_short(width: int) -> None:
    rows = [[LONG, "0123456789ab", Text("running"), "because"], [WIDE, "x", "done", ""]]
    lines = table(["trial", "signature", "state", "why"], rows, width, drop=("signature", "why"))
    assert all(line.cell_len <= width for line in lines)
    assert ("signature" in lines[0].plain) == (width >= 60)
    if width >= 40:
        assert "running" in lines[1].plain


def test_the_tally_says_what_there_is() -> None:
    assert (
        tally({"done": 3, "failed": 0, "running": 2, "elsewhere": 1}).plain == "3 done, 2 running, 1 in another command"
    )


def running(number: int, name: str = "hmha@c3k2 musgd") -> TrialState:
    return TrialState(
        f"{name} s{number}", "abc", "running", epoch=number, epochs=200, fraction=number / 200, accuracy=0.4321,
        seconds_left=100.0 * number, device=f"gpu {number}",
    )  # fmt: skip


def ended(number: int) -> TrialState:
    failure = Failure(type="out_of_memory", message="no") if number % 2 else None
    state = "failed" if failure else "done"
    return TrialState(f"{LONG} s{number}", "abc", state, accuracy=0.5, failure=failure, seconds=720.0)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("height", [5, 12, 24, 50])
@pytest.mark.parametrize("count", [0, 1, 8, 64])
@pytest.mark.parametrize("name", ["a", LONG, WIDE])
def test_the_frame_fits_any_terminal(width: int, height: int, count: int, name: str) -> None:
    trials = [running(number, name) for number in range(1, count + 1)]
    counts = {"done": 300, "failed": 12, "running": count, "waiting": 700}
    view = View(counts, "finishes Sat 28 Nov 12:00, 12 d 23 h left", trials, [ended(n) for n in range(9)], widest=30)
    for ascii_only in (False, True):
        lines = list(frame(view, width, height, ascii_only=ascii_only).split("\n"))
        assert len(lines) < height
        assert all(line.cell_len <= width - 2 for line in lines), "there is room for the echo of Ctrl-C"
    assert any("312/" in line.plain for line in lines)
    assert any("12 failed" in line.plain for line in lines)


def test_the_frame_tells_all_of_a_running_trial_at_80_columns() -> None:
    trials = [running(number, LONG) for number in range(3, 11)]
    view = View({"done": 1, "running": 8}, "", trials)
    lines = frame(view, 80, 24).plain.splitlines()[-8:]
    for number, line in zip(range(3, 11), lines, strict=True):
        for part in (
            "hmha[rer",
            "…",
            f"s{number}",
            f"gpu {number}",
            f"{number}/200",
            "0.4321",
            "─",
            duration(100 * number),
        ):
            assert part in line


def test_trials_beyond_the_terminal_are_counted() -> None:
    view = View({"running": 64}, "", [running(number) for number in range(64)])
    assert "more running" in frame(view, 80, 24).plain.splitlines()[-1]


def test_a_trial_says_that_it_starts_and_that_it_is_evaluated() -> None:
    starting = TrialState("a s0", "a", "running", epochs=10)
    evaluated = TrialState("b s0", "b", "running", epoch=10, epochs=10, fraction=1.0, seconds_left=0.0)
    first, second = frame(View({"running": 2}, "", [starting, evaluated]), 80, 24).plain.splitlines()[-2:]
    assert first.endswith("starting")
    assert second.endswith("evaluating")
