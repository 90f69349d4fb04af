"""The table in a terminal: whole numbers at any width, plain where it must be plain."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablate.analysis.columns import BY_NAME
from ablate.analysis.comparison import compare
from ablate.records.loading import load_sweep
from ablate.report.terminal_table import print_table

Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
Make = Callable[..., dict[str, Any]]


def printed(directory: Path, width: int, *, encoding: str = "utf-8", terminal: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    sweep = load_sweep(directory)
    colors = "standard" if terminal else None
    console = Console(
        file=stream, width=width, force_terminal=terminal, color_system=colors, highlight=False, _environ={}
    )
    print_table(compare(sweep), console=console)
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 120, 160, 240])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(records: Grid, write: Write, width: int) -> None:
    directory = write(records())
    text = printed(directory, width)
    assert max(map(len, text.splitlines())) <= width
    rows = compare(load_sweep(directory)).rows
    lines = text.splitlines()
    for row in rows:
        accuracy, delta = BY_NAME["map50_95"].text(row), BY_NAME["delta_map50_95"].text(row).lstrip("+")
        line = next(line for line in lines if line.startswith(row.label))
        assert accuracy in line.split()
        assert not delta or delta in line.replace("+", "").split()


def test_wider_terminals_show_more_columns(records: Grid, write: Write) -> None:
    directory = write(records())
    heads = [
        next(line for line in printed(directory, width).splitlines() if line.startswith("Variant")).split()
        for width in (60, 80, 120, 160)
    ]
    assert [len(head) for head in heads] == sorted({len(head) for head in heads})
    assert "95%" in heads[1]
    assert "GB" in heads[3]


def test_long_labels_fold_and_leave_the_numbers_whole(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for found in made[2:]:
        found["variant"] = "hmha[rerank=batch,cache=authors,fidelity=authors,heads=8]@backbone_p5 musgd"
    text = printed(write(made), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"hmha\[rerank.* \+0\.\d{4}", text)


def test_a_terminal_without_greek_gets_ascii(records: Grid, write: Write) -> None:
    text = printed(write(records()), 100, encoding="ascii")
    assert text.isascii()
    assert "delta" in text
    assert "?" not in text


def test_colour_is_for_terminals_only(records: Grid, write: Write) -> None:
    directory = write(records())
    assert "\x1b[" not in printed(directory, 120)
    assert "\x1b[" in printed(directory, 120, terminal=True)


def test_notes_stand_beneath_and_are_said_once(records: Grid, write: Write) -> None:
    text = printed(write(records(seeds=(0,))), 100)
    assert len(re.findall(r"^\[\d+\] one seed: no interval *$", text, re.MULTILINE)) == 1


def test_notes_are_numbered_as_a_reader_meets_them(records: Grid, write: Write, as_failed: Make) -> None:
    made = [*records(("none",), ("sgd",), (0,)), *records(("hmha",), ("sgd",), (0, 1))]
    made[2] = as_failed(made[2], "diverged")  # said of a row before the note that it shares with the row above
    text = printed(write(made), 140)
    assert re.search(r"^none sgd .* 1\s*$", text, re.MULTILINE)
    assert re.search(r"^hmha@c3k2 sgd .* 1,2\s*$", text, re.MULTILINE)
    assert "[2] 1 of 2 trials failed: diverged (seed 1)" in text


def test_a_row_that_may_not_be_compared_is_marked(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for found in made[2:]:
        found["realised"]["batch"] = 8
    text = printed(write(made), 100)
    assert re.search(r"^hmha@c3k2 sgd .*! 1\s*$", text, re.MULTILINE)
    assert "[1] batch 8 (baseline 16)" in text


def test_labels_with_brackets_are_text_not_markup(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for found in made[2:]:
        found["variant"] = "hmha[bold]@c3k2"
    assert printed(write(made), 120).count("hmha[bold]@c3k2") >= 2


def test_an_empty_sweep_prints_a_sentence(write: Write) -> None:
    assert "No trial of this sweep has a result yet" in printed(write([]), 80)
