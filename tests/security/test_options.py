"""Option files in the `conf/` of a stranger's folder: Hydra runs nothing that they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import Ablate

RUNS = "{_target_: os.system, command: touch ran.txt}"
RUNS_AS_A_FILE = "_target_: os.system\ncommand: touch ran.txt\n"
# Files that Hydra would take for its own parts, or in place of ours, without anybody having named them.
UNNAMED = {
    "config": "seed: 77\n",
    "ablate": "seed: 77\nhydra: {callbacks: {x: " + RUNS + "}}\n",
    "hydra/launcher/local": RUNS_AS_A_FILE,
    "hydra/sweeper/ablate": RUNS_AS_A_FILE,
    "hydra/callbacks/default": f"x: {RUNS}\n",
    "hydra/job_logging/none": "version: 1\nhandlers: {x: {(): os.system, command: touch ran.txt}}\n",
    "hydra/hydra_logging/none": "version: 1\nhandlers: {x: {(): os.system, command: touch ran.txt}}\n",
    "data/shapes": f"{RUNS_AS_A_FILE}name: shapes\n",
}
# Files that are named: what they hold, and the words that name them.
NAMED = {
    "a launcher": ("hydra/launcher/evil", RUNS_AS_A_FILE, "hydra/launcher=evil"),
    "a launcher's field": ("hydra/launcher/evil", f"defaults: [local, _self_]\ngpus: {RUNS}\n", "hydra/launcher=evil"),
    "a launcher elsewhere": (
        "hydra/launcher/evil", f"# @package hydra.callbacks.x\n{RUNS_AS_A_FILE}", "hydra/launcher=evil"
    ),
    "a callback": ("train/evil", f"# @package _global_\nhydra: {{callbacks: {{x: {RUNS}}}}}\n", "train=evil"),
    "a package": ("optimizer/evil", f"# @package hydra.callbacks.x\nname: SGD\n{RUNS_AS_A_FILE}", "optimizer=evil"),
    "a part of a package": ("model/evil", f"# @package _global_.hydra.callbacks.x\n{RUNS_AS_A_FILE}", "model=evil"),
    "defaults": ("train/evil", "defaults: ['/module@hydra.callbacks.x: evil', _self_]\nepochs: 1\n", "train=evil"),
    "hydra's defaults": ("train/evil", "defaults: ['override /hydra/sweeper: x', _self_]\nepochs: 1\n", "train=evil"),
    "a folder to write to": ("train/evil", "# @package _global_\nhydra: {run: {dir: /tmp/x}}\n", "train=evil"),
    "a reference": (
        "optimizer/evil", f"# @package _global_\ndata: {{x: {RUNS}}}\nhydra: {{launcher: {{gpus: '${{data.x}}'}}}}\n",
        "optimizer=evil",
    ),
    "a path out": ("module/mine", "name: mine\n", "module=../../conf/module/mine"),
}  # fmt: skip


def write(folder: Path, name: str, content: str) -> None:
    path = folder / "conf" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


@pytest.mark.security(
    "Working folder",
    "No file of its `conf/` counts that the command does not name, nor one with the name of a built-in option.",
)
def test_a_file_that_is_not_named_changes_nothing(ablate_here: Ablate, tmp_path: Path) -> None:
    plan = ("plan", "module=hmha", "probe=false", "data.train_images=8", "data.val_images=4")
    before = ablate_here(*plan)
    for name, content in UNNAMED.items():
        write(tmp_path, name, content)
    after = ablate_here(*plan)

    assert before.returncode == 0, before.stderr
    assert after.returncode == 0, after.stderr
    assert after.stdout.partition("disk:")[0] == before.stdout.partition("disk:")[0]
    assert "s77" not in after.stdout
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.security(
    "Working folder",
    "An option file that the command names sets options; it has Hydra run nothing: no callback, sweeper or launcher.",
)
@pytest.mark.parametrize("case", NAMED)
def test_a_file_that_is_named_has_hydra_run_nothing(ablate_here: Ablate, tmp_path: Path, case: str) -> None:
    name, content, words = NAMED[case]
    write(tmp_path, name, content)
    for verb in (["plan"], []):
        done = ablate_here(*verb, words)

        assert done.returncode == 2, done.stdout
        assert len(done.stderr.splitlines()) == 1
        assert "conf/" in done.stderr
    assert not (tmp_path / "ran.txt").exists()


def test_the_fields_of_a_launcher_may_be_kept_in_a_file(ablate_here: Ablate, tmp_path: Path) -> None:
    write(tmp_path, "hydra/launcher/mine", "defaults: [local, _self_]\nmax_retries: 3\n")
    done = ablate_here("hydra/launcher=mine", "--cfg", "hydra")

    assert "max_retries: 3" in done.stdout, done.stderr
