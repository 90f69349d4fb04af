"""From what a command says to its trials: some left out with a reason, the others in order."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Ablate = Callable[..., "subprocess.CompletedProcess[str]"]
SMOKE = ["train=smoke", "data.train_images=8", "data.val_images=4", "data.imgsz=64", "probe=false", "--json"]


def plan(ablate: Ablate, *words: str) -> dict[str, Any]:
    done = ablate("plan", *words, *SMOKE)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def names(content: dict[str, Any]) -> list[str]:
    return [trial["trial"] for trial in content["trials"]]


def test_what_is_excluded_is_left_out_and_so_is_its_lonely_baseline(ablate_here: Ablate) -> None:
    found = plan(
        ablate_here, "module=sta,eca", "model=yolo26n,yolo26s", "exclude=[{module: [sta, eca], model: yolo26s}]"
    )

    assert names(found) == ["baseline musgd s0", "sta@head musgd s0", "eca@head musgd s0"]
    assert len(found["left_out"]) == 3


def test_a_network_that_cannot_be_is_named_or_left_out(ablate_here: Ablate, tmp_path: Path) -> None:
    words = ["module=sta", "module.num_heads=8,7"]
    stopped = ablate_here("plan", *words, *SMOKE)
    found = plan(ablate_here, *words, "skip_invalid=true")

    assert stopped.returncode == 2
    assert "num_heads=7" in stopped.stderr
    assert not list(tmp_path.glob("multirun/*"))
    assert len(names(found)) == 2
    assert "7" in str(found["left_out"])


def test_every_variant_gets_its_first_seed_before_any_gets_its_second(ablate_here: Ablate) -> None:
    found = plan(ablate_here, "module=sta", "seed=0,1", "order=by_seed")

    assert names(found) == ["baseline musgd s0", "sta@head musgd s0", "baseline musgd s1", "sta@head musgd s1"]


def test_orders_by_cost(ablate_here: Ablate) -> None:
    cheap = plan(ablate_here, "module=sta,eca", "order=cheapest_first")
    dear = plan(ablate_here, "module=sta,eca", "order=longest_first")

    assert names(cheap) == ["baseline musgd s0", "eca@head musgd s0", "sta@head musgd s0"]
    assert names(dear) == names(cheap)[::-1]


def test_a_study_of_components_is_planned_as_it_will_run(ablate_here: Ablate) -> None:
    found = plan(ablate_here, "components=[eca@c3k2,cbam@head,musgd]", "design=leave_one_out")

    assert names(found) == [
        "baseline sgd s0",
        "eca@c3k2+cbam@head musgd s0",
        "cbam@head musgd s0",
        "eca@c3k2 musgd s0",
        "eca@c3k2+cbam@head sgd s0",
    ]
    assert len(found["trials"][1]["places"]) == len(found["trials"][2]["places"]) + len(found["trials"][3]["places"])


def test_a_rule_that_matches_nothing_is_told(ablate_here: Ablate) -> None:
    done = ablate_here("plan", "module=sta", "exclude=[{module: hat}]", *SMOKE[:-1])

    assert done.returncode == 0
    assert "no trial matches" in done.stdout


def test_nothing_left_is_an_error(ablate_here: Ablate) -> None:
    done = ablate_here("plan", "module=sta", "exclude=[{module: [sta, none]}]", *SMOKE)

    assert done.returncode == 2
    assert "nothing is left" in done.stderr
