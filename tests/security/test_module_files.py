"""A stranger's module runs where its network is built, in a process of its own, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.__main__ import main

BLOCKS = """
import os, pathlib
pathlib.Path(__file__).with_name(f"ran.{os.getpid()}").touch()
from torch import nn
class Mine(nn.Conv2d):
    def __init__(self, channels, scale: float = 1.0): super().__init__(channels, channels, 1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module whose file leaves a trace where it runs."""
    (tmp_path / "conf" / "module").mkdir(parents=True)
    file = "name: mine\n_target_: trap_blocks.Mine\ninsertion: neck_p5\nscale: 1.0\n"
    (tmp_path / "conf" / "module" / "mine.yaml").write_text(file, encoding="utf-8")
    (tmp_path / "trap_blocks.py").write_text(BLOCKS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.security("Module", "Its file is read, never run, by help, errors and checks, and by commands without it.")
@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--cfg job module=mine",
        "plan module=mine module.scale=x",
        "plan module=mine module.sclae=1",
        "plan grafts=[mine[scale=x]]",
        "plan module=hmah",
        "plan module=identity train.epochs=0",
        "status",
        "verify min",
    ],
)
def test_a_module_is_read_and_not_run(words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words.split())

    capsys.readouterr()
    assert not list(folder.glob("ran.*"))


@pytest.mark.security("Module", "A plan imports the module that it names in a worker process, not in its own.")
def test_a_module_is_imported_in_a_process_of_its_own(folder: Path) -> None:
    words = ["plan", "module=mine", "train=smoke", "probe=false", "latency.enabled=false"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ablate", *words], cwd=folder, env=dict(os.environ), stdout=subprocess.DEVNULL
    )

    assert process.wait(timeout=300) == 0
    ran = [int(path.suffix[1:]) for path in folder.glob("ran.*")]
    assert ran
    assert process.pid not in ran
