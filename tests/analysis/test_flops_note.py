"""The difference between Ultralytics' FLOPs and ours is explained by what is known of the network."""

from __future__ import annotations

from typing import Any

from tests.factories import LACKING, decoded

from ablate.analysis.flops_note import ultralytics_difference
from ablate.records.trial_record import TrialRecord


def record(places: int = 0, **cost: Any) -> TrialRecord:
    known = {"params": 2_408_932, "params_train": 2_572_280, "gflops": 5.48, "gflops_uncounted": 0.0}
    place = {"place": "model.16", "channels": 64, "stride": 8}
    cost = {**known, "gflops_ultralytics": 6.24, **cost}
    return decoded(cost=cost, graft={"wiring": "plain", "places": [place] * places})


def test_a_stock_network_differs_by_what_is_trained_and_not_deployed() -> None:
    said = ultralytics_difference(record())

    assert said == (
        "5.48 GFLOPs as deployed, 6.24 by Ultralytics' own counter: it counts the network as it is trained, with 0.16 "
        "M parameters of norms and heads that are not deployed."
    )


def test_a_graft_also_by_what_it_declares_and_by_the_small_image() -> None:
    said = ultralytics_difference(record(3, gflops=6.25, gflops_uncounted=0.1405, gflops_ultralytics=6.87))

    assert "does not see 0.140 GFLOPs" in said or "does not see 0.141 GFLOPs" in said
    assert "extrapolates from a small image" in said


def test_what_agrees_needs_no_explanation() -> None:
    assert ultralytics_difference(record(gflops_ultralytics=5.481)) == (
        "5.48 GFLOPs as deployed, 5.48 by Ultralytics' own counter."
    )


def test_what_is_not_known_is_not_explained() -> None:
    assert "gave no number" in ultralytics_difference(record(gflops_ultralytics=None))
    assert ultralytics_difference(decoded(cost=LACKING)) == ""
    old = decoded(cost={"gflops": 5.0, "gflops_ultralytics": 6.0}, graft=LACKING)
    assert ultralytics_difference(old).endswith("it extrapolates from a small image.")
