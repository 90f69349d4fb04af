"""What the tuning of a learning rate decided, and where it decided nothing, is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.factories import make_record

from ablate.analysis.comparison import compare
from ablate.findings.tuning_findings import tuning_findings
from ablate.records.loading import load_sweep
from ablate.records.sweep_record import TriedRate, TunedRate
from ablate.storage.files import atomic_write_json


def told(root: Path, **tuned: TunedRate) -> list[str]:
    records: list[dict[str, Any]] = [
        make_record(signature=f"{index}" * 64, variant=f"{name} musgd", variant_key=name, comparison_key="same", seed=0)
        for index, name in enumerate(tuned, start=1)
    ]
    for found in records:
        atomic_write_json(root / "trials" / found["signature"] / "result.json", found)
    head = {"name": "s", "signatures": [found["signature"] for found in records]}
    atomic_write_json(root / "sweeps" / "s" / "sweep.json", head)
    sweep = load_sweep(root / "sweeps" / "s")
    sweep = replace(sweep, manifest=msgspec.structs.replace(sweep.manifest, tuned=tuned))
    return tuning_findings(compare(sweep))


def rate(chosen: float, *accuracies: float | None, has_learned: bool = True) -> TunedRate:
    tried = zip((0.01, 0.00333, 0.03), accuracies, strict=True)
    return TunedRate(
        given=0.01,
        chosen=chosen,
        tried=tuple(TriedRate(rate=one, signature="s", accuracy=accuracy) for one, accuracy in tried),
        has_learned=has_learned,
    )


def test_the_rates_are_told_and_which_lie_at_an_end(tmp_path: Path) -> None:
    said = told(
        tmp_path, inner=rate(0.01, 0.3, 0.2, 0.1), low=rate(0.00333, 0.1, 0.2, 0.1), high=rate(0.03, 0.1, 0.1, 0.2)
    )

    assert len(said) == 3
    for name, chosen in (("inner musgd", "0.01"), ("low musgd", "0.00333"), ("high musgd", "0.03")):
        assert f"{name} {chosen}" in said[0]
    assert "3 short trials" in said[0]
    assert ("lowest" in said[1], "low musgd" in said[1], "high musgd" in said[1]) == (True, True, False)
    assert ("highest" in said[2], "high musgd" in said[2], "low musgd" in said[2]) == (True, True, False)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (rate(0.01, 0.0, 1e-5, 2e-3, has_learned=False), "No short trial of eca musgd learned anything"),
        (rate(0.01, None, None, None, has_learned=False), "All short trials of eca musgd failed"),
        (rate(0.01, None, 0.0, None, has_learned=False), "No short trial of eca musgd learned anything"),
    ],
)
def test_where_nothing_was_decided_the_given_rate_is_said_to_be_used(
    tmp_path: Path, one: TunedRate, words: str
) -> None:
    (_, text) = told(tmp_path, eca=one)

    assert words in text
    assert "the given rate was used" in text


def test_a_rate_at_an_end_beside_failed_ones_is_no_end_of_what_was_tried(tmp_path: Path) -> None:
    (text,) = told(tmp_path, eca=rate(0.01, 0.2, 0.1, None))
    assert "eca musgd 0.01" in text
