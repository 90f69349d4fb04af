"""Controls among the variants: in the group of what they control, under a name of their own, never a baseline."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.factories import make_record

from ablate.analysis.variants import Variant, variants_of
from ablate.records.loading import load_sweep
from ablate.records.sweep_record import Control
from ablate.storage.files import atomic_write_json


def record(variant: str, group: str, seed: int = 0, **factors: str) -> dict[str, Any]:
    optimizer = variant.split()[-1]
    levels = {"module": "none", "insertion": "none", "optimizer": optimizer, "model": "yolo26n", "data": "shapes"}
    levels |= factors
    key = "-".join([variant.split()[0], *levels.values()])
    return make_record(
        signature=hashlib.sha256(f"{key}-{seed}".encode()).hexdigest(),
        variant=variant,
        variant_key=key,
        comparison_key=group,
        factors=levels,
        seed=seed,
        config={},
    )


BASELINE = record("baseline musgd", "n")
HMHA = record("hmha@c3k2 musgd", "n", module="hmha", insertion="c3k2")
IDENTITY = record("identity@c3k2 musgd", "n", module="identity", insertion="c3k2")
BLOCK = record("convblock[like=hmha]@c3k2 musgd", "n", module="convblock", insertion="c3k2")
BIGGER = record("baseline musgd", "s", model="yolo26s")


OFF = "parameters differ from the graft's by up to 1.6% at a place"


def shown(root: Path, records: list[dict[str, Any]], controls: Any) -> dict[str, Variant]:
    for found in records:
        atomic_write_json(root / "trials" / found["signature"] / "result.json", found)
    head = {"name": "s", "signatures": [found["signature"] for found in records], "controls": controls}
    atomic_write_json(root / "sweeps" / "s" / "sweep.json", head)
    return {variant.label: variant for variant in variants_of(load_sweep(root / "sweeps" / "s"))}


def control_of(record: dict[str, Any], kind: str, group: str = "n", of: str = "") -> dict[str, Any]:
    return {record["variant_key"]: {"kind": kind, "comparison_key": group, "of": of}}


ALL = control_of(IDENTITY, "identity") | control_of(BLOCK, "params", of="hmha@c3k2") | control_of(BIGGER, "scale")


def test_a_control_is_shown_in_the_group_of_what_it_controls(tmp_path: Path) -> None:
    found = shown(tmp_path, [BASELINE, HMHA, IDENTITY, BLOCK, BIGGER], ALL)

    assert list(found) == [
        "baseline musgd",
        "hmha@c3k2 musgd",
        "control: identity@c3k2 musgd",
        "control: params of hmha@c3k2 musgd",
        "control: scale yolo26s musgd",
    ]
    assert {variant.comparison_key for variant in found.values()} == {"n"}
    assert [label for label, variant in found.items() if variant.is_baseline] == ["baseline musgd"]
    assert found["control: params of hmha@c3k2 musgd"].control == Control(
        kind="params", comparison_key="n", of="hmha@c3k2"
    )
    assert found["hmha@c3k2 musgd"].control is None


def test_a_bigger_network_that_was_asked_for_as_well_is_a_baseline_and_a_control(tmp_path: Path) -> None:
    other = record("hmha@c3k2 musgd", "s", module="hmha", insertion="c3k2", model="yolo26s")
    found = shown(tmp_path, [BASELINE, HMHA, BIGGER, other], control_of(BIGGER, "scale"))

    assert [(v.comparison_key, v.is_baseline) for v in found.values() if v.key == BIGGER["variant_key"]] == [
        ("s", True),
        ("n", False),
    ]
    assert found["control: scale yolo26s musgd"].control is not None
    assert "baseline musgd[model=yolo26s]" in {label.replace(" [", "[") for label in found}


@pytest.mark.parametrize(
    ("places", "mismatch"),
    [
        ([{"params_error": 0.009}, {"params_error": -0.002}], ""),
        ([{"params_error": 0.002}, {"params_error": -0.016}], OFF),
        (
            [{"params_error": 14.4, "smallest": True}, {"params_error": 0.0, "smallest": False}],
            "the graft is smaller than the smallest block at 1 of 2 places",
        ),
        ([], ""),
        ([{"params_error": "?"}], ""),
    ],
)
def test_a_block_that_is_not_as_large_as_its_graft_says_so(
    tmp_path: Path, places: list[dict[str, Any]], mismatch: str
) -> None:
    whole = [{"place": "model.4", "channels": 64, "stride": 8, **place} for place in places]
    block = {**BLOCK, "graft": {"wiring": "plain", "places": whole}}
    found = shown(tmp_path, [BASELINE, HMHA, block], control_of(BLOCK, "params", of="hmha@c3k2"))

    assert found["control: params of hmha@c3k2 musgd"].mismatch == mismatch


def test_controls_of_equal_name_are_told_apart(tmp_path: Path) -> None:
    twin = record("identity@c3k2 musgd", "n2", module="identity", insertion="c3k2", data="bccd")
    controls = control_of(IDENTITY, "identity") | control_of(twin, "identity", "n2")
    found = shown(tmp_path, [BASELINE, IDENTITY, twin], controls)

    assert len([label for label in found if label.startswith("control: identity@c3k2")]) == 2
    assert any("bccd" in label for label in found)


@pytest.mark.parametrize("damage", [[1, 2], "identity", {"k": 3}, {"k": {"kind": "placebo", "comparison_key": "n"}}])
def test_what_cannot_be_read_of_controls_is_said_and_shown_as_a_variant(tmp_path: Path, damage: Any) -> None:
    found = shown(tmp_path, [BASELINE, HMHA], damage)
    ignored = load_sweep(tmp_path / "sweeps" / "s").ignored

    assert list(found) == ["baseline musgd", "hmha@c3k2 musgd"]
    assert len(ignored) == 1
    assert "controls" in ignored[0]
