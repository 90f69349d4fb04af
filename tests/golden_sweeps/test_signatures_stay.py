"""Finished trials are found again: by their signature, and in a folder that version 0.1.0 left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.golden_sweeps.regenerate import HERE, copy_root
from tests.golden_sweeps.signatures import COMMANDS, KEPT, OWN_DATA, in_a_process, planned


@pytest.mark.parametrize("name", COMMANDS)
def test_signatures_and_variant_keys_stay(
    name: str, tmp_path: Path, ablate_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(work: Path, *words: str) -> Any:
        monkeypatch.chdir(work)
        return ablate_here(*words)

    # A user's module is imported by a process of its own.
    run = in_a_process if name in OWN_DATA else here
    assert planned(name, tmp_path, run) == json.loads(KEPT.read_text(encoding="utf-8"))[name]


def test_a_command_finds_the_trials_that_version_0_1_0_recorded(tmp_path: Path) -> None:
    root = copy_root(tmp_path)
    recorded = json.loads((root / "sweeps" / "faults" / "sweep.json").read_text(encoding="utf-8"))
    words = [
        *("plan", "module=raises,diverges,hungry", "on_oom=halve", "seed=range(0,2)", "train=smoke", "train.epochs=3"),
        *("train.fraction=1.0", "data.train_images=24", "data.val_images=10", "data.imgsz=64", "data.objects=3"),
        *("data.clutter=0", "data.occlusion=0", "device=cpu", "probe=false", f"root={root}", "--json"),
    ]

    done = subprocess.run(
        [sys.executable, "-m", "ablate", *words],
        cwd=HERE / "work",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    trials = json.loads(done.stdout)["trials"]
    assert sorted(trial["signature"] for trial in trials) == sorted(recorded["signatures"])
    states = {trial["trial"]: trial["state"] for trial in trials}
    for seed in (0, 1):
        assert states[f"baseline musgd s{seed}"] == "reuse"
        assert states[f"hungry@neck_p5 musgd s{seed}"] == "reuse"
        assert states[f"raises@neck_p5 musgd s{seed}"] == "failed"
        assert states[f"diverges@neck_p5 musgd s{seed}"] == "failed"
