"""Flags of trials whose images and boxes were not those that they were to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ablate.analysis.comparison import compare
from ablate.analysis.table import comparison_frame
from ablate.findings.facts import recipe_facts
from ablate.records.loading import load_sweep
from ablate.records.trial_record import decode_record
from ablate.settings.metric import MAP50_95

Records = list[dict[str, Any]]
Grid = Callable[..., Records]
Write = Callable[..., Path]

WHOLE = {"images": {"train": 480, "val": 160}, "instances": {"train": 2012, "val": 698}}
SHORT = {"images": {"train": 479, "val": 160}, "instances": {"train": 2004, "val": 698}}


@pytest.fixture
def table(records: Grid, write: Write) -> Callable[..., pd.DataFrame]:
    """The table of the grid in which every trial tells what `use` returns for it."""

    def make(use: Callable[[dict[str, Any]], dict[str, Any]]) -> pd.DataFrame:
        made = records()
        for record in made:
            record["realised"] |= use(record)
        return comparison_frame(compare(load_sweep(write(made)))).set_index("variant", drop=False)

    return make


def test_a_trial_that_used_what_it_was_to_use_is_not_flagged(table: Callable[..., pd.DataFrame]) -> None:
    assert set(table(lambda _: {**WHOLE, "promised": WHOLE})["comparable"]) == {"yes"}


def test_a_variant_that_lost_an_image_is_flagged_with_the_counts(table: Callable[..., pd.DataFrame]) -> None:
    def use(record: dict[str, Any]) -> dict[str, Any]:
        lost = record["variant"] == "hmha@c3k2 sgd" and record["seed"] == 1
        return {**(SHORT if lost else WHOLE), "promised": WHOLE}

    found = table(use)
    assert list(found.index[found["comparable"] == "no"]) == ["hmha@c3k2 sgd"]
    notes = found.loc["hmha@c3k2 sgd", "notes"]
    assert all(word in notes for word in ("479 images (2004 boxes)", "480 images (2012 boxes)", "train"))


def test_all_are_flagged_where_all_lost_the_same_image(table: Callable[..., pd.DataFrame]) -> None:
    assert set(table(lambda _: {**SHORT, "promised": WHOLE})["comparable"]) == {"no"}


def test_a_variant_is_flagged_whose_baseline_lost_an_image(table: Callable[..., pd.DataFrame]) -> None:
    found = table(lambda record: {**(SHORT if record["variant"] == "none sgd" else WHOLE), "promised": WHOLE})
    assert set(found.loc[found["optimizer"] == "sgd", "comparable"]) == {"no"}
    assert set(found.loc[found["optimizer"] == "musgd", "comparable"]) == {"yes"}


def test_records_of_before_are_compared_by_what_they_tell(table: Callable[..., pd.DataFrame]) -> None:
    def use(record: dict[str, Any]) -> dict[str, Any]:
        return {"images": WHOLE["images"]} if record["factors"]["module"] == "none" else {**WHOLE, "promised": WHOLE}

    assert set(table(use)["comparable"]) == {"yes"}
    assert set(table(lambda record: use(record) if record["seed"] else {})["comparable"]) == {"yes"}


def test_damaged_counts_are_no_reason_to_stop(table: Callable[..., pd.DataFrame]) -> None:
    for odd in ({"images": 3}, {"promised": {"images": [1]}}, {"instances": {"train": "many"}, "promised": WHOLE}):
        assert len(table(lambda _, odd=odd: odd)) == 10


def test_the_recipe_of_a_report_says_what_was_used(records: Grid) -> None:
    made = records()
    assert "data used" not in recipe_facts([decode_record(record) for record in made], MAP50_95)
    for record in made:
        record["realised"] |= SHORT if record["seed"] else WHOLE
    words = "train 480 images (2012 boxes), val 160 images (698 boxes)"
    assert (
        recipe_facts([decode_record(record) for record in made], MAP50_95)["data used"]
        == f"{words} | {words.replace('480', '479').replace('2012', '2004')}"
    )
