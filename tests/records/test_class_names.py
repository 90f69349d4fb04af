"""Whatever classes are called, each has a label and a metric of its own."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import LACKING, decoded

from ablate.records.class_names import MAX_LABEL, class_names, recorded_classes

ODD = [
    "", " ", ".", "..", "a/b", "a:b", "a_b", "A/B", "x" * 10_000, "x" * 10_001, "same", "same", "same #10", "001_a",
    "final/map50_95", "$1 {front", "100 %_& # <b>x</b> [red]", "*|`~\\", "größe", "GRÖSSE", "\u202eabc", "abc", "a\tb",
    "a\nb", "a b", " a b ", "人", "😀", "👩\u200d👧", "\x1b[31mred", "\ud800", "yes", "1", "None", "..\\..",
    "class 0", "e\u0301", "\u00e9", "a ", "ﬁ", "fi",
]  # fmt: skip


def assert_sound(names: list[str]) -> None:
    from mlflow.utils.validation import _validate_metric_name

    classes = class_names(names)
    assert [(one.index, one.name) for one in classes] == list(enumerate(names))
    assert len({one.label for one in classes}) == len(names)
    assert len({one.metric.casefold() for one in classes}) == len(names)
    for one in classes:
        assert one.label.strip() == one.label != ""
        assert len(one.label) <= MAX_LABEL + 24
        assert not any(letter in one.label for letter in "\n\r\t\x1b\u202e\u2028\ud800")
        assert "/" not in one.metric
        assert posixpath.normpath(one.metric) == one.metric
        assert len(f"per_class_map50_95/{one.metric}") <= 250
        _validate_metric_name(f"per_class_map50_95/{one.metric}")


def test_odd_names_are_told_apart() -> None:
    assert_sound(ODD)


@given(st.lists(st.text(max_size=12) | st.sampled_from(ODD), max_size=12))
def test_any_names_are_told_apart(names: list[str]) -> None:
    assert_sound(names)


def test_ordinary_names_are_their_own_label_and_metric() -> None:
    names = ["circle", "traffic light", "größe", "T-shirt", "v1.5", "7", "100", "人"]
    assert [(one.label, one.metric) for one in class_names(names)] == [(name, name) for name in names]


@pytest.mark.parametrize(
    ("names", "metrics"),
    [
        (["red/white"], ["red_white"]),
        (["0", "1", "."], ["0", "1", "002_."]),
        (["a/b", "a:b", "c"], ["000_a_b", "001_a_b", "c"]),
        (["Car", "car"], ["000_Car", "001_car"]),
        (["", "001_x"], ["000_", "001_001_x"]),
    ],
)
def test_a_metric_begins_with_the_index_only_where_the_name_alone_is_not_safe(
    names: list[str], metrics: list[str]
) -> None:
    assert [one.metric for one in class_names(names)] == metrics


def test_equal_names_are_different_classes() -> None:
    first, second = class_names(["same", "same"])
    assert first != second
    assert (first.label, second.label) == ("same #0", "same #1")
    assert class_names(["x", "same"])[1] == second, "the other classes do not make it another one"


def test_a_recorded_class_is_known_by_its_place() -> None:
    found = recorded_classes(decoded(per_class=[{"name": "a"}, {"map50": 1.0}, {"name": "a"}]))
    assert [(one.index, one.label) for one in found] == [(0, "a #0"), (1, "class 1"), (2, "a #2")]
    assert recorded_classes(decoded(per_class=LACKING)) == ()
