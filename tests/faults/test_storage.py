"""Disks, files, clocks and trackers that misbehave."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

WaitFor = Callable[..., None]
SWEEP = ["module=steady", "-m"]
BASELINE, STEADY = NAMES = ["baseline musgd s0", "steady@neck_p5 musgd s0"]

# Imported by every Python process of the command: writing files of a name fails as on a full disk.
NO_SPACE = """
import errno, os
from pathlib import Path

full = Path(os.environ["ABLATE_TEST_FULL"])
real = os.fsync


def fsync(descriptor):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if full.exists() and full.read_text() in name:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real(descriptor)


os.fsync = fsync
"""

# The clock jumps back by an hour, again and again, for whoever asks it in Python.
JUMPING = """
import time

real = time.time
time.time = lambda: real() - 3600 * (int(real() / 2) % 3)
"""


# A worker dies in the moment after its record is written.
DYING = """
import os, signal

real = os.replace


def replace(source, target):
    real(source, target)
    if str(target).endswith("result.backup.json") and "ABLATE_SLOT" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)


os.replace = replace
"""


@pytest.mark.parametrize("file", ["last.pt", "result.json"])
@pytest.mark.fault(
    "a disk that is full while a checkpoint or `result.json` is written",
    "the trial fails with that reason; files on disk stay intact; `retry=failed` resumes once there is space",
)
def test_full_disk(file: str, shop_from: Any) -> None:
    shop = shop_from("baseline")
    full = shop.folder / "full"
    shop.hook(NO_SPACE)
    environment = {"ABLATE_TEST_FULL": str(full)}
    before = shop.records()[BASELINE]
    full.write_text(file, encoding="utf-8")

    failed = shop.run(*SWEEP, **environment)
    full.unlink()
    mended = shop.run(*SWEEP, "retry=failed", **environment)

    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "No space left on device" in failed.stdout
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert shop.records()[BASELINE] == before
    assert not list(shop.folder.rglob("*.tmp"))
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "a worker that dies right after its record is written", "the record counts; nothing is trained again"
)
def test_dead_after_the_record(quick_shop: Any) -> None:
    quick_shop.hook(DYING)
    done = quick_shop.run(*SWEEP, "hydra.launcher.max_retries=0")

    assert done.returncode == 0, done.stdout + done.stderr
    quick_shop.assert_all_finished_once(NAMES)


@pytest.mark.fault("`last.pt` truncated", "that trial starts over; others are not affected")
def test_cut_checkpoint(shop_from: Any) -> None:
    shop = shop_from("interrupted")
    before = shop.records()[BASELINE]
    last = shop.trial(STEADY) / "train" / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])

    again = shop.run(*SWEEP)

    assert again.returncode == 0, again.stdout + again.stderr
    assert shop.records()[BASELINE] == before
    assert [t["epochs_done"] for t in shop.records()[STEADY]["tries"]] == [0, 0]
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault("a lock file truncated", "locking still works: no process is blocked, none enters twice")
def test_cut_lock(shop_from: Any) -> None:
    shop = shop_from("interrupted", quick=True)
    shop.trial(STEADY).with_suffix(".lock").write_bytes(b'{"ho')

    again = shop.run(*SWEEP)

    assert again.returncode == 0, again.stdout + again.stderr
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "the SQLite store locked for longer than SQLite's own timeout",
    "training continues; results are recorded when it is free, each once",
)
def test_locked_store(quick_shop: Any) -> None:
    database = sqlite3.connect(quick_shop.folder / "multirun" / "mlflow.db", check_same_thread=False)
    database.execute("begin exclusive")
    free = threading.Timer(7, lambda: (database.rollback(), database.close()))
    free.start()
    try:
        done = quick_shop.run(*SWEEP)
    finally:
        free.join()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "does not answer" not in done.stdout
    quick_shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "an MLflow server that is down for the whole sweep and returns later",
    "training continues; the next command sends everything, each trial once",
)
def test_server_comes_back(shop_from: Any, new_root: Any, wait_for: WaitFor) -> None:
    shop = shop_from(None, quick=True)
    import socket
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*SWEEP, "tracking=server", f"tracking.uri=http://127.0.0.1:{port}", "tracking.artifacts=false"]

    down = shop.run(*words)
    new_root(shop.folder / "multirun")
    store = f"sqlite:///{shop.folder}/multirun/mlflow.db"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port), "--workers", "1"],
        cwd=shop.folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # which takes processes of its own
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:

        def answers() -> bool:
            try:
                return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200)
            except OSError:
                return False

        wait_for(answers)
        up = shop.run(*words)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    assert down.returncode == 0, down.stdout + down.stderr
    assert "MLflow does not answer" in down.stdout
    assert up.returncode == 0, up.stdout + up.stderr
    assert "2 trials, 2 done, 0 to run" in up.stdout
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault("a system clock that jumps back", "no effect: no decision uses the time of day")
def test_clock(shop_from: Any) -> None:
    shop = shop_from("interrupted", quick=True)
    shop.hook(JUMPING)

    again = shop.run(*SWEEP)

    assert again.returncode == 0, again.stdout + again.stderr
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault("a results folder that cannot be written", "a one-line error, exit code 2, before anything starts")
def test_read_only(shop_from: Any) -> None:
    shop = shop_from(None)
    done = shop.run(*SWEEP, "root=/proc/ablate")

    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "root=/proc/ablate: results cannot be written there" in line
    assert done.stdout == ""
    assert not list(shop.folder.glob("multirun"))
