"""What a plan of a thousand trials may cost: work that grows with options and networks, not with trials."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.cli.verbs import plan
from ablate.preflight.builders import NetworkJob
from ablate.sources.module_source import module_source
from ablate.sources.package_walk import PACKAGE

TARGETS = ("hmha.HMHA", "acmix.ACmix", "sta.StokenAttention", "hat.RHAG")
MODULES, PLACES, OPTIMIZERS, SEEDS = ("hmha", "acmix", "sta", "hat"), 8, 3, 10
GRID = [
    f"module={','.join(MODULES)}",
    "insertion=c3k2,head,psa,backbone_p3,backbone_p4,backbone_p5,neck_p3,neck_p4",
    "optimizer=sgd,musgd,adamw",
    f"seed=range(0,{SEEDS})",
    "data.train_images=8",
    "data.val_images=4",
]
NETWORKS = 1 + len(MODULES) * PLACES  # an optimizer is no part of a network
TRIALS = NETWORKS * OPTIMIZERS * SEEDS


def test_a_plan_of_a_thousand_trials_does_each_thing_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    watched: Callable[[], Any],
    parsed: list[str],
    composed: list[list[str]],
    built: list[NetworkJob],
) -> None:
    """Every bound is what it takes once; a thing that is done for each trial again comes to 990 and more."""
    monkeypatch.chdir(tmp_path)
    with watched() as disk:
        assert plan([*GRID, "probe=false", "--json"]) == 0

    content = json.loads(capsys.readouterr().out)
    sources = {path for target in TARGETS for path in module_source(f"ablate.modules.{target}").files}
    assert content["total"] == TRIALS == 990
    assert len(built) == NETWORKS == 33
    # each option once, the grid without options, and what Hydra composes before it asks the sweeper
    assert len(composed) <= 1 + (1 + len(MODULES)) + PLACES + OPTIMIZERS + 2 == 19
    assert len([path for path in parsed if Path(path).is_relative_to(PACKAGE)]) <= len(TARGETS) * len(sources)
    reads = Counter(path for path in disk.opened if path in sources)
    assert max(reads.values(), default=0) <= len(TARGETS)
    records = disk.opens(under=tmp_path / "multirun")
    assert len(records) <= 3 * TRIALS  # a record, its backup and a checkpoint are looked for, once each
    files = Counter(path for path in disk.opened if path.suffix in (".yaml", ".json", ".png", ".txt"))
    assert files.total() - len(records) < TRIALS / 2
    assert max(count for path, count in files.items() if path.suffix in (".png", ".txt")) <= 2  # drawn, then scanned
    assert len(disk.listed) < TRIALS / 10
