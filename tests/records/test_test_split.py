"""The ledger of openings of test splits: what it counts, and what damage to it is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.cli.test_words import test_options as options_of
from ablate.errors import ConfigError
from ablate.records.test_split import FINISHED, OPENED, LedgerLine, append_line, openings_note, read_ledger


def line(event: str = OPENED, checkpoint: str = "a", data: str = "d") -> LedgerLine:
    checkpoints = {"trial": checkpoint}
    return LedgerLine(event=event, time="t", sweep="s", data=data, checkpoints=checkpoints, previous="")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "test_ledger.jsonl"
    for one in (line(), line(FINISHED), line(checkpoint="b")):
        append_line(path, one)
    return path


def test_openings_are_counted_by_data(path: Path) -> None:
    ledger = read_ledger(path)
    assert not ledger.damage
    assert len(ledger.openings("d")) == 2
    assert ledger.openings("other") == []
    assert read_ledger(path.with_name("none")).lines == ()


def test_an_interrupted_opening_is_found_again_and_other_checkpoints_are_none(path: Path) -> None:
    ledger = read_ledger(path)
    first, second = ledger.openings("d")
    assert ledger.opening_of("d", {"trial": "a"}) == first
    assert ledger.is_finished(first)
    assert ledger.opening_of("d", {"trial": "b"}) == second
    assert not ledger.is_finished(second)
    assert ledger.opening_of("d", {"trial": "c"}) is None
    assert ledger.opening_of("d", {"trial": "a", "more": "x"}) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace('"s"', '"other"'), *lines[1:]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0][:40], *lines[1:]],
        lambda lines: [*lines[:2], lines[2].replace('"b"', '"c"')],
    ],
)
def test_a_changed_ledger_is_noticed_and_can_still_be_added_to(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    path.write_text("\n".join(change(path.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    damage = read_ledger(path).damage
    assert damage
    append_line(path, line(checkpoint="d"))
    assert read_ledger(path).damage == damage
    assert read_ledger(path).opening_of("d", {"trial": "d"})


def test_tables_say_what_broke_the_seal() -> None:
    assert openings_note(1, "") == ""
    assert "opened 2 times" in openings_note(2, "")
    assert "line 3" in openings_note(1, "line 3 was changed")


@pytest.mark.parametrize("word", ["agian=true", "again", "again=maybe", "trust_weights=1", "device=gpu"])
def test_an_unknown_word_is_an_error(word: str) -> None:
    with pytest.raises(ConfigError):
        options_of([word])
