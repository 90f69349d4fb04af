"""A sweep over folds, from the command to the report: planted trials on a simulated machine, and real trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.planted_sweeps import TINY, Killed, Machine, Ran

from ablate.analysis.comparison import Comparison, compare
from ablate.records.loading import load_sweep
from ablate.records.predictions import load_predictions
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord
from ablate.statistics.paired import t_interval
from ablate.statistics.resampled import fold_means

Ablate = Callable[..., "subprocess.CompletedProcess[str]"]
FOLDS = ["folds=3", "train.fraction=1"]
COMMAND = ["module=acmix,sta", "seed=range(0,2)", "controls=[identity]", *TINY, *FOLDS, "-m"]


def the_sweep(root: Path) -> Sweep:
    (folder,) = (root / "sweeps").iterdir()
    return load_sweep(folder)


def compared(root: Path) -> Comparison:
    return compare(the_sweep(root))


def records(sweep: Sweep) -> list[TrialRecord]:
    return [record for record in sweep.trials if isinstance(record, TrialRecord)]


def test_every_variant_and_control_is_trained_on_every_fold_and_compared_over_the_folds(
    swept: Ran, tmp_path: Path
) -> None:
    machine = Machine()

    assert swept(machine, *COMMAND) == 0

    assert len(machine.started) == len(set(machine.started)) == 4 * 2 * 3
    comparison = compared(tmp_path / "here" / "multirun")
    for module in ("acmix", "sta", "identity"):
        difference = next(row.difference for row in comparison.rows if row.module == module)
        assert difference is not None
        assert [(it.seed, it.fold) for it in difference.replicates] == [(s, f) for s in (0, 1) for f in range(3)]
        means = fold_means([it.fold or 0 for it in difference.replicates], difference.values)
        assert len(means) == 3
        assert difference.over_seeds == t_interval(means, share=1 / 2)


def test_a_killed_sweep_over_folds_goes_on_without_training_anything_twice(swept: Ran, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        swept(first := Machine(kill_after=10), *COMMAND)

    swept(second := Machine(), *COMMAND)

    assert len(first.started) == 10
    assert not set(first.started) & set(second.started)
    assert len(first.started) + len(second.started) == 24
    assert not the_sweep(tmp_path / "here" / "multirun").missing


def test_more_seeds_of_the_same_folds_train_the_new_ones_only(swept: Ran, tmp_path: Path) -> None:
    words = ["module=acmix", *TINY, *FOLDS, "-m"]
    swept(Machine(), "seed=range(0,1)", *words)

    swept(machine := Machine(), "seed=range(0,2)", *words)

    assert {name.rsplit(" ", 2)[1] for name in machine.started} == {"s1"}
    assert len(machine.started) == 6


def test_other_folds_are_other_trials(swept: Ran, tmp_path: Path) -> None:
    words = ["module=acmix", *TINY, "train.fraction=1", "-m"]
    swept(Machine(), "folds=3", *words)

    swept(machine := Machine(), "folds=2", *words)

    assert len(machine.started) == 4


def test_a_plan_shows_the_trials_of_all_folds(ablate_here: Ablate) -> None:
    done = ablate_here("plan", "module=eca", *TINY, *FOLDS, "probe=false", "--json", "-m")

    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    assert [(trial["seed"], trial["fold"]) for trial in content["trials"]] == [(0, fold) for fold in range(3)] * 2
    assert any(note.startswith("folds=3: shapes: 12 images") for note in content["notes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["folds=3"], "-m"),
        (["folds=3,5", "-m"], "folds: takes one value"),
        (["folds=3", "split=groups", "-m"], "run first: python -m ablate data audit"),
        (["folds=13", "-m"], "12 images"),
        (["folds=3", "until=decided", "-m"], "until=decided"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(ablate_here: Ablate, words: list[str], said: str) -> None:
    done = ablate_here("module=eca", *TINY, "train.fraction=1", *words)

    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_test_split_is_not_opened_for_networks_that_lack_a_part_of_the_images(
    swept: Ran, ablate_here: Ablate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(Machine(), "module=acmix", *TINY, *FOLDS, "-m")
    monkeypatch.chdir(tmp_path / "here")

    done = ablate_here("test")

    assert done.returncode == 2
    assert "cross-validation" in done.stderr
    assert not (tmp_path / "here" / "multirun" / "test_ledger.jsonl").exists()


@pytest.mark.slow
def test_a_real_sweep_over_folds_of_groups_survives_a_kill_and_evaluates_each_image_once(
    ablate: Ablate, tmp_path: Path
) -> None:
    data = ["data.train_images=8", "data.val_images=4", "data.imgsz=64"]
    quick = ["train=smoke", "train.fraction=1", "latency.enabled=false", "figures=false", "notebook=false"]
    command = ["module=eca", "folds=2", "split=groups", *data, *quick, "device=cpu", "-m"]
    assert ablate("data", "audit", "data=shapes", *data).returncode == 0
    root = tmp_path / "multirun"
    driver = subprocess.Popen(
        [sys.executable, "-m", "ablate", *command], cwd=tmp_path, env=dict(os.environ), start_new_session=True
    )
    while not list(root.glob("trials/*/result.json")):
        assert driver.poll() is None
        time.sleep(0.2)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    kept = {path: path.read_bytes() for path in root.glob("trials/*/result.json")}

    done = ablate(*command)

    assert done.returncode == 0, done.stderr
    assert all(path.read_bytes() == content for path, content in kept.items())
    trained = records(the_sweep(root))
    assert sorted(record.name for record in trained) == [
        *("baseline musgd s0 f0", "baseline musgd s0 f1", "eca@head musgd s0 f0", "eca@head musgd s0 f1"),
    ]
    (row,) = [row for row in compared(root).rows if row.module == "eca"]
    assert row.is_comparable, row.notes
    for variant in ("baseline", "eca"):
        images = [
            name
            for record in trained
            if record.name.startswith(variant)
            for name in load_predictions(
                root / "trials" / record.signature / record.artifacts.predictions["best"]
            ).names
        ]
        assert len(images) == len(set(images)) == 12
    assert "folds" in (root / "sweeps" / the_sweep(root).name / "comparison.md").read_text()


def test_a_seed_that_is_added_to_the_same_folds_makes_the_second_look(
    swept: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["module=acmix", *TINY, *FOLDS, "-m"]
    machine = Machine()
    assert swept(machine, *command, "seed=0") == 0
    sweeps = tmp_path / "here" / "multirun" / "sweeps"
    (first,) = sweeps.iterdir()
    (first / "comparison.html").touch()  # its report
    capsys.readouterr()

    assert swept(Machine(), *command, "seed=0,1") == 0

    told = "".join(capsys.readouterr())
    assert "reported before with 1 seed" in told
    assert "until=decided" not in told
    (second,) = [path for path in sweeps.iterdir() if path != first]
    sweep = load_sweep(second)
    assert sweep.manifest.looks == (1,)
    difference = next(row.difference for row in compare(sweep).rows if row.module == "acmix")
    assert difference is not None
    assert difference.p_value is not None
    assert difference.p_sequential == min(1.0, 6 * difference.p_value)
