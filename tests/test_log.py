"""Log messages: where they go, which level they have, and what they must leave alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablate import log
from ablate.__main__ import main
from ablate.errors import ConfigError
from ablate.launching.devices import Slot
from ablate.launching.local import LocalBackend
from ablate.launching.remote import WorkerContext, run_in_context
from ablate.storage.layout import SweepFolder

LOG = SweepFolder(Path("sweep")).driver_log.name

logger = logging.getLogger("ablate.example")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(log.LEVEL, raising=False)
    ours = logging.getLogger("ablate")
    before = list(ours.handlers), ours.level, ours.propagate
    yield
    ours.handlers[:], ours.level, ours.propagate = before
    ours.manager._clear_cache()  # type: ignore[attr-defined]


def log_in_worker(path: str) -> str:
    """A job that logs as a trial's worker does."""
    with log.log_to(Path(path)):
        logger.debug("a detail")
        logger.info("a decision")
    logger.info("after the trial")
    return "done"


def test_the_driver_log_has_what_was_logged_before_it_was_opened_and_is_appended(tmp_path: Path) -> None:
    for command in ("first", "second"):
        log.configure()
        logger.info("%s early", command)
        log.open_driver_log(tmp_path / LOG)
        logger.info("%s late", command)
        logger.debug("a detail")

    lines = (tmp_path / LOG).read_text(encoding="utf-8").splitlines()
    assert [line.partition(": ")[2] for line in lines] == ["first early", "first late", "second early", "second late"]
    assert all("INFO ablate.example" in line for line in lines)


def test_a_large_driver_log_is_rotated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LARGEST", 1000)
    log.configure()
    log.open_driver_log(tmp_path / LOG)
    for number in range(100):
        logger.info("message %d", number)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver.log", "driver.log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert "message 99" in (tmp_path / "driver.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("verbose", [False, True])
def test_verbose_shows_messages_on_standard_error(
    verbose: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log.configure(verbose=verbose)
    log.open_driver_log(tmp_path / LOG)
    logger.info("a decision")
    logger.warning("a warning")

    output = capfd.readouterr()
    assert output.out == ""
    assert ("a decision" in output.err, "a warning" in output.err) == (verbose, verbose)
    assert "a warning" in (tmp_path / LOG).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "count"), [("debug", 4), ("INFO", 3), ("warning", 2), ("error", 1), ("", 3)])
def test_the_variable_sets_the_level(name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(log.LEVEL, name)
    log.configure()
    log.open_driver_log(tmp_path / LOG)
    for write in (logger.debug, logger.info, logger.warning, logger.error):
        write("a message")

    assert len((tmp_path / LOG).read_text(encoding="utf-8").splitlines()) == count


def test_a_bad_level_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(log.LEVEL, "loud")
    with pytest.raises(ConfigError):
        log.configure()

    assert main(["status"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "ABLATE_LOG=loud" in line
    assert "debug, info, warning, error" in line


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_the_flag_is_taken_off_before_anybody_else_reads_the_words(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[list[str]] = []
    monkeypatch.setattr("ablate.cli.hydra_bridge.run", lambda arguments: words.append(list(arguments)) or 0)

    assert main(["module=hmha", flag, "-m"]) == 0
    assert words == [["module=hmha", "-m"]]
    assert any(isinstance(handler, log._Terminal) for handler in logging.getLogger("ablate").handlers)


def test_other_loggers_are_left_alone(tmp_path: Path) -> None:
    root, library = logging.getLogger(), logging.getLogger("ultralytics")
    before = [(each.level, list(each.handlers), each.propagate) for each in (root, library)]
    log.configure(verbose=True)
    log.open_driver_log(tmp_path / LOG)
    library.error("not ours")

    assert [(each.level, list(each.handlers), each.propagate) for each in (root, library)] == before
    assert not (tmp_path / LOG).exists()


def test_a_log_that_cannot_be_written_disturbs_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.open_driver_log(tmp_path / "absent" / LOG)
    logger.error("lost")

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["debug", "info"])
def test_workers_inherit_the_level_and_log_to_the_file_of_their_trial(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(log.LEVEL, name)
    messages = ["a detail", "a decision"] if name == "debug" else ["a decision"]
    with LocalBackend([Slot("cpu")]) as backend:
        (slot,) = backend.slots()
        outcome = backend.submit(slot, f"{__name__}:log_in_worker", str(tmp_path / "train.log")).result()
    assert outcome.result == "done", outcome.message
    context = WorkerContext.of_driver(cpus=1, gpus=0)
    monkeypatch.setattr("os.environ", {name: value for name, value in os.environ.items() if name != log.LEVEL})
    run_in_context(context, f"{__name__}:log_in_worker", str(tmp_path / "remote.log"))  # as on a cluster

    for file in ("train.log", "remote.log"):
        lines = (tmp_path / file).read_text(encoding="utf-8").splitlines()
        assert [line.partition(": ")[2] for line in lines] == messages
    assert capfd.readouterr() == ("", "")
