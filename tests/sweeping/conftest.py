"""Trials on disk as their processes leave them, written step by step."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.factories import LACKING, make_failure, make_record

HOLD = """
import sys, time
from pathlib import Path
from ablate.storage.locking import lock
with lock(Path(sys.argv[1]), device=sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""


class Written:
    """A trial's folder, and what its process would write there."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.signature = hashlib.sha256(name.encode()).hexdigest()
        self.folder = root / "trials" / self.signature
        self.history = self.folder / "train" / "history.jsonl"
        self.rows: list[dict[str, Any]] = []

    def begins(self) -> None:
        self.history.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "train.log").write_text("--- try 1\n", encoding="utf-8")

    def epoch(self, map50_95: float = 0.1, *, epochs: int = 10, seconds: float = 60.0, time: float = 1e9) -> None:
        """Finish another epoch."""
        number = len(self.rows) + 1
        row = {"epoch": number, "epochs": epochs, "time": time, "seconds": seconds, "map50_95": map50_95}
        self.rows.append(row)
        self.begins()
        with self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def progress(self, epoch: int, batch: int, batches: int = 32, *, time: float = 2e9, **more: float) -> None:
        """Say where in which epoch it is."""
        self.begins()
        content = {"epoch": epoch, "epochs": 10, "batch": batch, "batches": batches, "time": time, **more}
        (self.folder / "train" / "progress.json").write_text(json.dumps(content), encoding="utf-8")

    def record(self, *, map50_95: float | None = None, failure: str | None = None, epochs: int = 10) -> None:
        """Write the record of a trial that finished with this mAP, or failed with ``type: message``."""
        self.begins()
        kind, _, message = (failure or "").partition(": ")
        changes = {
            "signature": self.signature,
            "name": self.name,
            "metrics": {} if map50_95 is None else {"map50_95": map50_95},
            "history": self.rows,
            "config": {"train": {"epochs": epochs}},
            "realised": {"device": "cuda:1"},
        }
        content = (
            make_failure(kind, message, **changes)
            if failure
            else make_record(**changes, started=LACKING, finished=LACKING)
        )
        (self.folder / "result.json").write_text(json.dumps(content), encoding="utf-8")


class Terminal:
    """What a terminal of this width shows of what was written to it: enough of one for a display that moves up."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.raw = io.StringIO()
        self.console = Console(file=self.raw, force_terminal=True, width=width, height=height, color_system=None)

    @property
    def screen(self) -> list[str]:
        lines, row = [""], 0
        for part in re.findall(r"\x1b\[\??\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.raw.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part != "\r" and not part.startswith("\x1b"):
                lines[row] += part
        return lines

    @property
    def text(self) -> str:
        return "\n".join(self.screen)


@pytest.fixture
def terminal_of() -> type[Terminal]:
    """Return a terminal of this width and height."""
    return Terminal


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Written]:
    """Return the trial of this name; nothing is on disk of it yet."""
    return lambda name: Written(tmp_path, name)


@pytest.fixture
def holder() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a process that holds a trial's lock, as a worker does, until it is killed."""
    processes = []

    def hold(trial: Written, device: str = "gpu 3") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(trial.folder.with_suffix(".lock")), device]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def sweep_of(tmp_path: Path) -> Callable[..., Path]:
    """Write the sweep of these trials; return its folder."""

    def write(*trials: Written, name: str = "hmha_shapes_yolo26n_1a2b3c") -> Path:
        directory = tmp_path / "sweeps" / name
        directory.mkdir(parents=True, exist_ok=True)
        content = {
            "name": name,
            "command": "python -m ablate module=hmha -m",
            "signatures": [trial.signature for trial in trials],
            "names": {trial.signature: trial.name for trial in trials},
        }
        (directory / "sweep.json").write_text(json.dumps(content), encoding="utf-8")
        return directory

    return write
