"""Variants that share a label are told apart by what differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ablate.analysis.variant_names import display_labels
from ablate.records.trial_record import decode_record

Make = Callable[..., dict[str, Any]]


def labels(*records: dict[str, Any]) -> list[str]:
    return list(display_labels({found["variant_key"]: [decode_record(found)] for found in records}).values())


def test_different_labels_stay_as_they_are(record: Make) -> None:
    assert labels(record("hmha"), record("acmix")) == ["hmha@c3k2 musgd", "acmix@head musgd"]


def test_an_option_of_the_module_stands_behind_the_module(record: Make) -> None:
    one, two = record("hmha", options={"rerank": "batch"}), record("hmha", options={"rerank": "sample"})
    assert labels(one, two) == ["hmha[rerank=batch]@c3k2 musgd", "hmha[rerank=sample]@c3k2 musgd"]


def test_a_training_setting_stands_at_the_end(record: Make) -> None:
    one, two = record("hmha", epochs=3), record("hmha", epochs=5)
    two["variant_key"] = "other"
    assert labels(one, two) == ["hmha@c3k2 musgd [train.epochs=3]", "hmha@c3k2 musgd [train.epochs=5]"]


def test_a_factor_that_the_label_lacks_is_named_rather_than_its_settings(record: Make) -> None:
    assert labels(record("none"), record("none", data="coco8")) == [
        "none musgd [data=shapes]",
        "none musgd [data=coco8]",
    ]


def test_what_differs_between_seeds_does_not_tell_variants_apart(record: Make) -> None:
    one, two = record("hmha", seed=0), record("hmha", seed=1)
    two["variant_key"] = "other"
    assert labels(one, two) == [f"hmha@c3k2 musgd #{one['variant_key'][:6]}", "hmha@c3k2 musgd #other"]


def test_long_values_are_cut_but_labels_stay_different(record: Make) -> None:
    one, two = record("hmha", options={"path": "x" * 80 + "1"}), record("hmha", options={"path": "x" * 80 + "2"})
    first, second = labels(one, two)
    assert first != second
    assert len(first) < 60


def test_records_without_config_are_still_told_apart(record: Make) -> None:
    one, two = record("hmha"), record("hmha", options={"a": 1})
    one["config"] = two["config"] = {}
    assert len(set(labels(one, two))) == 2


def test_factors_and_options_can_differ_at_once(record: Make) -> None:
    one, two = record("hmha", options={"rerank": "batch"}), record("hmha", options={"rerank": "none"})
    assert labels(one, two, record("hmha", data="coco8")) == [
        "hmha[rerank=batch]@c3k2 musgd [data=shapes]",
        "hmha[rerank=none]@c3k2 musgd [data=shapes]",
        "hmha@c3k2 musgd [data=coco8]",
    ]
