"""What a sweep of twelve trials may cost its driver and its store: each network, image and data set once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated.fake_trainer import run_job
from sqlalchemy import event
from sqlalchemy.engine import Engine

from ablate.cli.hydra_bridge import run
from ablate.data import scanning
from ablate.data.shapes import encode_png
from ablate.execution import run_sweep as sweep
from ablate.execution.conclude import Conclusion
from ablate.launching.jobs import Observer, Outcome
from ablate.preflight.builders import NetworkJob
from ablate.tracking import tracker

TRIALS, NETWORKS = 12, 4
GRID = ["module=hmha,acmix,sta", "seed=range(0,3)", "train=smoke", "latency.enabled=false", "notebook=false"]
IMAGES = {"train": 4, "val": 2}

# What MLflow 3 sends for twelve trials of five epochs, and for a command that finds all of them done. One statement
# more for each trial is twelve more.
QUERIES, QUERIES_OF_NOTHING = 1184 + 5, 39 + 5


class OneByOne:
    """A launch that runs trials here, one after the other; each only writes down what a training leaves."""

    def __init__(self, train: Callable[[Mapping[str, Any]], Any]) -> None:
        self._train = train

    def check(self, device: str) -> None: ...

    def slots(self, device: str) -> int:
        return 1

    def local_slots(self, device: str) -> Sequence[Any]:
        return []

    def open_cores(self, device: str) -> int | None:
        return None

    def share(self, layout: Any) -> None: ...

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: Observer) -> None:
        for index, payload in enumerate(payloads):
            observer.start(index, "cpu")
            observer.end(index, Outcome(result=self._train(payload)))


class TrackerHere(tracker.Tracker):
    """The tracker without its process, so that what it sends can be counted."""

    def __enter__(self) -> TrackerHere:
        return self

    def __exit__(self, *exception: Any) -> None: ...

    def _send(self, call: tracker.Call) -> Future[Any]:
        self._last = Future()
        self._last.set_result(Outcome(result=tracker.serve(call)))
        self._take_answer(self._last)
        assert self.problem is None
        return self._last


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A user's own data set of two classes."""
    for split, count in IMAGES.items():
        for kind in ("images", "labels"):
            (tmp_path / "set" / kind / split).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((32, 32, 3), 40 * index + len(split), dtype=np.uint8)
            (tmp_path / "set" / "images" / split / f"{index}.png").write_bytes(encode_png(pixels))
            (tmp_path / "set" / "labels" / split / f"{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.3 0.3\n")
    file = tmp_path / "set" / "data.yaml"
    file.write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n", encoding="utf-8")
    return file


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: list[NetworkJob], data: Path) -> Callable[[], int]:
    """Run a sweep of twelve trials from its command line, all of it in this process; return the exit code."""
    monkeypatch.chdir(tmp_path)
    real = sweep.run_sweep
    launch = OneByOne(run_job)
    monkeypatch.setattr(sweep, "run_sweep", lambda request, _, words: real(request, launch, words))
    monkeypatch.setattr(sweep, "Tracker", TrackerHere)
    monkeypatch.setattr(sweep, "conclude", lambda *_: Conclusion())
    monkeypatch.setattr(tracker, "_store", None)
    return lambda: run([*GRID, "data=custom", f"data.path={data}", "-m"])


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that SQLAlchemy sends from here on, without those that make the tables."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


def test_a_sweep_of_twelve_does_each_thing_once(
    swept: Callable[[], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watched: Callable[[], Any],
    parsed: list[str],
    composed: list[list[str]],
    built: list[NetworkJob],
    statements: list[str],
) -> None:
    scanned: list[Any] = []
    scan = scanning._scan
    monkeypatch.setattr(scanning, "_scan", lambda *given: scanned.append(given) or scan(*given))
    opened = tracker.Store.__init__

    def opening(self: Any, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        statements.clear()  # those that make the tables

    monkeypatch.setattr(tracker.Store, "__init__", opening)
    with watched() as disk:
        assert swept() == 0

    trials = list((tmp_path / "multirun" / "trials").glob("*/result.json"))
    assert len(trials) == TRIALS
    assert len(built) == NETWORKS
    assert len(composed) <= NETWORKS + 2
    assert len(scanned) == 1
    images = Counter(disk.opens(under=tmp_path / "set", names=("*.png",)))
    assert images.total() == sum(IMAGES.values())
    assert max(images.values()) == 1
    assert queries(statements) <= QUERIES
    statements.clear()
    assert swept() == 0  # once more: all is there
    assert len(built) == NETWORKS
    assert queries(statements) <= QUERIES_OF_NOTHING


def queries(statements: Sequence[str]) -> int:
    """Return how many statements read or write rows; MLflow sets up each connection by others."""
    return sum(statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE") for statement in statements)
