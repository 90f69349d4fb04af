"""Interactions are told before main effects, and an effect that depends on another factor at each of its levels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate.analysis.comparison import compare
from ablate.findings.all_findings import findings
from ablate.findings.finding import Finding, Kind, Relation
from ablate.records.loading import load_sweep

Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
NOISE = (0.0, 0.0004, -0.0002, 0.0003, -0.0001)


def told(records: Grid, write: Write, accuracy: Callable[[str, str], float], seeds: int = 5) -> list[Finding]:
    """What is said of the factors of 2 modules and 2 optimizers, with a little noise of each cell and seed."""
    made = records(("none", "hmha", "acmix"), ("sgd", "musgd"), range(seeds))
    for record in made:
        module, optimizer, seed = record["factors"]["module"], record["factors"]["optimizer"], record["seed"]
        luck = NOISE[(seed * seed + 3 * seed * len(module) + 2 * len(optimizer) * seed) % 5]
        record["metrics"]["map50_95"] = 0.3 + 0.01 * seed + accuracy(module, optimizer) + luck
    return [one for one in findings(compare(load_sweep(write(made)))) if one.kind is Kind.FACTORS]


def test_a_crossed_interaction_is_told_at_each_level_and_makes_no_main_effect(records: Grid, write: Write) -> None:
    gain = {("hmha", "sgd"): 0.04, ("hmha", "musgd"): 0.0, ("acmix", "sgd"): 0.0, ("acmix", "musgd"): 0.02}
    first, second, third = told(records, write, lambda module, optimizer: gain.get((module, optimizer), 0.0))

    assert "significant interactions: " in first.text
    assert {claim.subject for claim in first.claims} >= {"hmha x sgd", "hmha x musgd"}
    directions = {claim.subject: claim.relation for claim in first.claims}
    assert directions["hmha x sgd"] is Relation.HIGHER
    assert directions["hmha x musgd"] is Relation.LOWER
    assert "depends on the other for" in second.text
    assert "hmha (module), +2.00 points with sgd" in second.text
    assert "with sgd" in second.text
    assert "with musgd" in second.text
    assert "other main effects: none is significant" in third.text
    assert third.claims == ()


def test_without_a_large_interaction_main_effects_are_told(records: Grid, write: Write) -> None:
    (only,) = told(records, write, lambda module, optimizer: 0.04 * (module == "hmha") + 0.02 * (optimizer == "sgd"))

    assert "no interaction is significant; the largest is " in only.text
    assert "Main effects: significant for hmha" in only.text
    assert {claim.subject: claim.relation for claim in only.claims} == {
        "hmha": Relation.HIGHER, "acmix": Relation.LOWER, "sgd": Relation.HIGHER, "musgd": Relation.LOWER,
    }  # fmt: skip


def test_two_seeds_are_said_to_tell_little(records: Grid, write: Write) -> None:
    found = told(records, write, lambda module, optimizer: 0.04 * (module == "hmha"), seeds=2)
    assert "th two seeds the intervals hold, but only effects many times" in found[-1].text, found
