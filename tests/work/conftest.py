"""What is counted: files opened, sources parsed, configurations composed, networks built. Never seconds."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from ablate.grafting.contract_findings import Findings
from ablate.launching.jobs import Observer, Outcome
from ablate.preflight import networks as preflight
from ablate.preflight.builders import NetworkJob
from ablate.preflight.network_answer import NetworkAnswer, NetworkCost

BUILT = NetworkAnswer((), 0, 0, Findings(), NetworkCost(1_000_000, 1_000_000, 1.0, 1.0))

_listeners: list[Callable[[str, tuple[Any, ...]], None]] = []
_is_hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    for listener in _listeners:
        listener(event, arguments)


class Disk:
    """What this process opened and listed, counted by the interpreter's own audit events.

    Attributes:
        opened: Paths of files, once for each time that one was opened.
        listed: Paths of folders, once for each time that one was listed.
    """

    def __init__(self) -> None:
        self.opened: list[Path] = []
        self.listed: list[Path] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            self.opened.append(Path(os.fsdecode(arguments[0])))
        elif event in ("os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | os.PathLike):
            self.listed.append(Path(os.fsdecode(arguments[0])))

    def opens(self, *, under: Path | None = None, names: Sequence[str] = ("*",)) -> list[Path]:
        """Return what was opened of the files below a folder with these patterns of names."""
        return [
            path
            for path in self.opened
            if (under is None or path.is_relative_to(under)) and any(path.match(name) for name in names)
        ]


@pytest.fixture
def watched() -> Callable[[], Any]:
    """Return a context in which what this process reads from disk is counted."""
    global _is_hooked
    if not _is_hooked:
        sys.addaudithook(_audit)  # it cannot be taken away again, so it only passes on
        _is_hooked = True

    @contextmanager
    def watch() -> Iterator[Disk]:
        disk = Disk()
        _listeners.append(disk.hear)
        try:
            yield disk
        finally:
            _listeners.remove(disk.hear)

    return watch


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the Python files that are parsed from here on, once for each time."""
    names: list[str] = []
    real = ast.parse

    def counting(source: Any, filename: Any = "<unknown>", *arguments: Any, **options: Any) -> Any:
        names.append(str(filename))
        return real(source, filename, *arguments, **options)

    monkeypatch.setattr(ast, "parse", counting)
    return names


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The overrides of each configuration that Hydra composes from here on."""
    overrides: list[list[str]] = []
    real = ConfigLoaderImpl.load_configuration

    def counting(self: ConfigLoaderImpl, *arguments: Any, **options: Any) -> Any:
        overrides.append(list(options.get("overrides", arguments[1:2])))
        return real(self, *arguments, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counting)
    return overrides


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[NetworkJob]:
    """What is asked of the builders of networks from here on; none is really built, and none was before."""
    jobs: list[NetworkJob] = []
    folder = tmp_path_factory.mktemp("cache")  # not in the working folder, whose state is one of a source

    def answer(backend: Any, function: str, payloads: Sequence[Any], observer: Observer, limits: Any) -> None:
        jobs.extend(payloads)
        for index in range(len(payloads)):
            observer.end(index, Outcome(result=BUILT))

    class OfThisTest(preflight.Cache[Any]):
        def __init__(self, name: str, kind: type[Any]) -> None:
            super().__init__(name, kind)
            self._folder = folder / name

    monkeypatch.setattr(preflight, "run_jobs", answer)
    monkeypatch.setattr(preflight, "Cache", OfThisTest)
    return jobs
