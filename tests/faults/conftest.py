"""What every fault test needs: a working folder with modules that go wrong on demand, commands, and what must hold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.warm_python import ABLATE, Driver, WarmPython

TINY = [
    "train=smoke",
    "train.epochs=3",
    "train.fraction=1.0",
    "data.train_images=8",
    "data.val_images=4",
    "data.imgsz=64",
    "latency.enabled=false",
    "figures=false",
    "notebook=false",
]

# Modules that behave until a file says otherwise; it lies where their source does not name it, and so is no part of a
# trial's identity.
BLOCKS = '''
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

FLAGS = Path(os.environ["ABLATE_TEST_FLAGS"])


class Steady(nn.Module):
    """The identity, with a scale to train."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.kept = []

    def forward(self, x):
        if self.training and torch.is_grad_enabled() and x.shape[0] > 1:
            self.fault(x)
        return x * self.scale

    def fault(self, x):
        while (FLAGS / "slow").exists():
            time.sleep(0.05)


class Raises(Steady):
    def fault(self, x):
        if (FLAGS / "broken").exists():
            raise RuntimeError("this module is broken")


class Diverges(Steady):
    def fault(self, x):
        if (FLAGS / "broken").exists():
            with torch.no_grad():
                self.scale.fill_(float("nan"))


class Dies(Steady):
    """Takes its process along."""

    def fault(self, x):
        if (FLAGS / "broken").exists():
            os.kill(os.getpid(), signal.SIGKILL)


class Leaks(Steady):
    def fault(self, x):
        while (FLAGS / "broken").exists():
            self.kept.append(torch.ones(25_000_000))
            time.sleep(0.1)


class Hangs(Steady):
    def fault(self, x):
        while (FLAGS / "broken").exists():
            time.sleep(0.05)
'''


MODULES = ("Steady", "Raises", "Diverges", "Dies", "Leaks", "Hangs")
SWEEP = ["module=steady", "-m"]
BASELINE, STEADY = NAMES = ["baseline musgd s0", "steady@neck_p5 musgd s0"]

# `python -m ablate`, with trainings that train nothing, of networks that are not built before.
QUICK = """
import sys
from ablate.execution import run_sweep, scheduler
from ablate.preflight.networks import Preflight
scheduler.RUN = "quick_training:run_job"
run_sweep.preflight = lambda trials, with_cost: Preflight({}, {})
from ablate.__main__ import main
sys.exit(main())
"""


class Shop:
    """A user's working folder.

    Args:
        folder: The folder; `multirun` in it is made by the first command, or
        started: a copy of another shop's.
        warm: What its commands are copies of; without it they and their processes are new interpreters.
        quick: Whether its commands train nothing: see `quick_training`.

    Attributes:
        warm, quick: The same; may be changed between commands.
        through: The words of a program that runs the commands, which then are new interpreters.
    """

    def __init__(
        self, folder: Path, started: Path | None = None, warm: WarmPython | None = None, *, quick: bool = False
    ) -> None:
        self.folder = folder
        self.warm = warm
        self._started: list[subprocess.Popen[str] | Driver] = []
        self._trials: dict[str, Path] = {}
        self.quick = quick
        self.through: list[str] = []
        if started is not None:
            shutil.copytree(started / "multirun", folder / "multirun", symlinks=True)
            self.said = (started / "said").read_text(encoding="utf-8")  # by the last command there
        self._path = [str(folder / "hooks"), *filter(None, [os.environ.get("PYTHONPATH")])]
        (folder / "hooks").mkdir()
        shutil.copy(Path(__file__).with_name("quick_training.py"), folder / "hooks")
        (folder / "flags").mkdir()
        (folder / "my_blocks.py").write_text(BLOCKS, encoding="utf-8")
        (folder / "conf" / "module").mkdir(parents=True)
        for name in MODULES:
            text = f"name: {name.lower()}\n_target_: my_blocks.{name}\ninsertion: neck_p5\n"
            (folder / "conf" / "module" / f"{name.lower()}.yaml").write_text(text, encoding="utf-8")

    # -- what the user does ---------------------------------------------------------------------------------------

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        driver = self.start(*words, **environment)
        out, err = driver.communicate(timeout=600)
        return subprocess.CompletedProcess(words, driver.returncode or 0, out, err)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str] | Driver:
        """Start a command in a session of its own, as a terminal does."""
        all_words, variables = [*TINY, *words], {**self._environment, **environment}
        driver: subprocess.Popen[str] | Driver
        if self.warm is not None and not self.through:
            program = QUICK if self.quick else ABLATE
            driver = self.warm.start(program, ["ablate", *all_words], self.folder, variables)
        else:
            python = [sys.executable, *(["-c", QUICK] if self.quick else ["-m", "ablate"])]
            driver = subprocess.Popen(
                [*self.through, *python, *all_words],
                cwd=self.folder,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        self._started.append(driver)
        return driver

    @property
    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(self._path)
        return {**os.environ, "ABLATE_TEST_FLAGS": str(self.folder / "flags"), "PYTHONPATH": path}

    def hook(self, text: str) -> None:
        """Let every Python process of the commands run this text first."""
        (self.folder / "hooks" / "sitecustomize.py").write_text(text, encoding="utf-8")

    def set(self, flag: str) -> None:
        """Let modules go wrong."""
        (self.folder / "flags" / flag).touch()

    def unset(self, flag: str) -> None:
        """Let them behave again."""
        (self.folder / "flags" / flag).unlink(missing_ok=True)

    def start_held(self, *words: str, **environment: str) -> subprocess.Popen[str] | Driver:
        """Start a command and return when its trial of a module has finished two epochs and waits within its third."""
        if self.quick:
            self.set("slow")
        driver = self.start(*words, **environment)
        _wait_for(lambda: len(self.history(STEADY)) >= 2 or driver.poll() is not None)
        self.set("slow")
        assert driver.poll() is None, driver.communicate()
        return driver

    def stop_all(self) -> None:
        """End what a failing test has left, stopped workers too: they would hold the driver's pipes open."""
        if any(driver.poll() is None for driver in self._started):
            for process in _working_in(self.folder):  # a worker has a session of its own
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        for driver in self._started:
            driver.communicate()

    @property
    def database(self) -> Path:
        """MLflow's store."""
        return self.folder / "multirun" / "mlflow.db"

    # -- what is there --------------------------------------------------------------------------------------------

    def trial(self, name: str) -> Path:
        """Return the folder of the trial whose name starts so; a try that begins anew clears it for a moment."""
        if name in self._trials:
            return self._trials[name]
        for path in self.folder.glob("multirun/trials/*/config.yaml"):
            log = (path.parent / "train.log").read_text(encoding="utf-8", errors="replace")
            if f"of {name}" in log[:200]:
                return self._trials.setdefault(name, path.parent)
        raise AssertionError(f"no trial {name} has started")

    def records(self, root: str = "multirun") -> dict[str, dict[str, Any]]:
        """Return what is recorded, by name."""
        found = [json.loads(p.read_text(encoding="utf-8")) for p in self.folder.glob(f"{root}/trials/*/result.json")]
        return {record["name"]: record for record in found}

    def states(self) -> dict[str, str]:
        """Return by name: finished, or the type of the failure."""
        return {n: r["failure"]["type"] if r["failure"] else r["status"] for n, r in self.records().items()}

    def runs(self) -> list[tuple[str, str, str]]:
        """Return (signature, name, status) of every run of a trial in MLflow's store."""
        with sqlite3.connect(self.database) as database:
            return database.execute(
                "select t.value, r.name, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
                "and t.key = 'ablate.signature' where r.lifecycle_stage = 'active' order by r.name"
            ).fetchall()

    def run_ids(self) -> list[str]:
        """Return the ids of all runs of trials in MLflow's store that are not in its bin."""
        with sqlite3.connect(self.database) as database:
            rows = database.execute("select run_uuid from runs where lifecycle_stage = 'active'").fetchall()
        return [run_id for (run_id,) in rows]

    def epochs_in_mlflow(self, name: str) -> list[int]:
        """Return the steps of mAP50-95 that MLflow holds of a trial, in order."""
        with sqlite3.connect(self.database) as database:
            rows = database.execute(
                "select m.step from metrics m join runs r on r.run_uuid = m.run_uuid "
                "where r.name = ? and m.key = 'map50_95' and r.lifecycle_stage = 'active' order by m.step",
                [name],
            ).fetchall()
        return [step for (step,) in rows]

    def history(self, name: str) -> list[int]:
        """Return the epochs that a trial has logged so far."""
        try:
            text = (self.trial(name) / "train" / "history.jsonl").read_text(encoding="utf-8")
        except (AssertionError, OSError):
            return []
        return [json.loads(line)["epoch"] for line in text.splitlines() if line.endswith("}")]

    def worker(self, name: str) -> int:
        """Return the process that trains a trial; waits while its lock is being written."""
        lock = self.trial(name).with_suffix(".lock")
        owners: list[int] = []

        def read() -> bool:
            try:
                owners.append(int(json.loads(lock.read_text(encoding="utf-8"))["pid"]))
            except (ValueError, KeyError):
                return False
            return True

        _wait_for(read)
        return owners[0]

    # -- what must hold -------------------------------------------------------------------------------------------

    def assert_all_finished_once(self, names: list[str]) -> None:
        """Each trial has finished, was trained through once, and has one run in MLflow with every epoch once."""
        records = self.records()
        assert sorted(records) == sorted(names)
        for name, record in records.items():
            assert record["status"] == "finished", record["failure"]
            epochs = record["config"]["train"]["epochs"]
            assert [row["epoch"] for row in record["history"]] == list(range(1, epochs + 1))
            assert self.epochs_in_mlflow(name) == list(range(1, epochs + 1))
            log = (self.trial(name) / "train.log").read_text(encoding="utf-8", errors="replace")
            assert log.count("epochs completed in") == 1, "it was trained through more than once"
        assert [(name, status) for _, name, status in self.runs()] == [(name, "FINISHED") for name in sorted(names)]


@dataclass(frozen=True)
class Roots:
    """Working folders in which something has run, each made once; most tests begin with a copy of one.

    Attributes:
        made_once: Makes a folder once for all workers of pytest-xdist.
        warm: What commands are copies of.
    """

    made_once: Callable[[str, Callable[[Path], object]], Path]
    warm: WarmPython

    @property
    def baseline(self) -> Path:
        """The baseline is recorded, by a command that trained nothing."""
        return self.made_once("baseline", lambda folder: _run_well(self._shop(folder, quick=True), "module=none"))

    @property
    def interrupted(self) -> Path:
        """Then a sweep's driver was killed in mid-epoch of a real training; its worker ended with it."""
        return self.made_once("interrupted", lambda folder: _interrupt(Shop(folder, self.baseline)))

    @property
    def straight(self) -> Path:
        """The same sweep without an interruption."""
        return self.made_once("straight", lambda folder: _run_well(self._shop(folder, self.baseline), *SWEEP))

    @property
    def continued(self) -> Path:
        """The interrupted sweep, after the same command was given again; what it said lies in `said`."""
        return self.made_once("continued", lambda folder: _run_well(self._shop(folder, self.interrupted), *SWEEP))

    def _shop(self, folder: Path, started: Path | None = None, *, quick: bool = False) -> Shop:
        return Shop(folder, started, self.warm, quick=quick)


def _run_well(shop: Shop, *words: str) -> None:
    done = shop.run(*words)
    (shop.folder / "said").write_text(done.stdout, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def _interrupt(shop: Shop) -> None:
    driver = shop.start_held(*SWEEP)
    worker = shop.worker(STEADY)
    driver.kill()
    (shop.folder / "said").write_text(driver.communicate()[0], encoding="utf-8")
    _wait_for(lambda: not Path(f"/proc/{worker}").exists())


@pytest.fixture(scope="session")
def roots(made_once: Callable[[str, Callable[[Path], object]], Path], warm_python: WarmPython) -> Roots:
    return Roots(made_once, warm_python)


Make = Callable[..., Shop]


@pytest.fixture
def shop_from(tmp_path: Path, roots: Roots) -> Iterator[Make]:
    """Return a shop with a copy of the root of this name; no process may outlive the test."""
    yield from _shops(tmp_path, roots)


@pytest.fixture(scope="module")
def module_shop_from(tmp_path_factory: pytest.TempPathFactory, roots: Roots) -> Iterator[Make]:
    """The same, for a story that several tests look at."""
    yield from _shops(tmp_path_factory.mktemp("shop"), roots)


def _shops(folder: Path, roots: Roots) -> Iterator[Make]:
    shops: list[Shop] = []

    def make(root: str | None, *, quick: bool = False) -> Shop:
        (folder / str(len(shops))).mkdir()
        started = getattr(roots, root) if root else None
        shops.append(Shop(folder / str(len(shops)), started, roots.warm, quick=quick))
        return shops[-1]

    yield make
    for shop in shops:
        shop.stop_all()
        assert not _left_behind(shop.folder), "a process outlived its driver"


@pytest.fixture
def quick_shop(shop_from: Make) -> Shop:
    """A shop with the baseline, whose commands train nothing."""
    return shop_from("baseline", quick=True)


@pytest.fixture
def wait_for() -> Callable[..., None]:
    return _wait_for


def _wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def _left_behind(folder: Path) -> list[int]:
    """Return processes that still work in this folder, after a moment in which they may end."""
    deadline = time.monotonic() + 15
    while (found := _working_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in found:
        os.kill(process, signal.SIGKILL)
    return found


def _working_in(folder: Path) -> list[int]:
    """Return the living processes whose working folder this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            here = (path / "cwd").readlink() == folder
            if here and (path / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z":
                found.append(int(path.name))
        except OSError:
            continue
    return found
