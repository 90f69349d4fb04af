"""A lock is held by one, told to others, and never kept by the dead."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ablate.storage import locking
from ablate.storage.locking import Held, held, lock, owner_of

HOLD = "import sys, time; from pathlib import Path; from ablate.storage.locking import lock\n"
HOLD += "with lock(Path(sys.argv[1]), device='gpu 3'):\n    print('held', flush=True)\n    time.sleep(600)\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trials" / "abc.lock"


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_comes_second_is_told_who_was_first(path: Path) -> None:
    other = holder(path)
    try:
        with pytest.raises(Held) as caught, lock(path):
            pass
        assert caught.value.owner.pid == other.pid
        assert held(path) is not None
        assert held(path).device == "gpu 3"  # type: ignore[union-attr]
    finally:
        other.kill()
        other.wait()


def test_a_killed_owner_frees_it_at_once(path: Path) -> None:
    other = holder(path)
    other.send_signal(signal.SIGKILL)
    other.wait()

    assert held(path) is None
    with lock(path):
        assert held(path).pid == os.getpid()  # type: ignore[union-attr]
    assert held(path) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"host": '])
def test_a_damaged_file_keeps_nobody_out_and_lets_nobody_in(path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    with lock(path):
        path.write_bytes(damage)
        with pytest.raises(Held), lock(path):
            pass
    assert held(path) is None


def foreign(path: Path, beat: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7, "beat": beat}).ljust(locking.NAME), encoding="utf-8")


def test_an_owner_on_another_machine_is_alive_while_his_heart_beats(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "DEAD", 0.3)
    for beat in range(4):  # longer than DEAD in all, and moving all the while
        foreign(path, beat)
        with pytest.raises(Held), lock(path):
            pass
        time.sleep(0.15)

    time.sleep(0.3)
    with lock(path):
        assert held(path).host == socket.gethostname()  # type: ignore[union-attr]


def test_a_clock_that_jumps_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = holder(path)
    try:
        for jump in (-86400.0, 86400.0):
            monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
            with pytest.raises(Held), lock(path):
                pass
            foreign_path = path.with_name(f"{jump}.lock")
            foreign(foreign_path, 1)
            with pytest.raises(Held), lock(foreign_path):
                pass
    finally:
        other.kill()
        other.wait()


def test_the_heart_beats_while_the_work_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "BEAT", 0.05)
    with lock(path):
        deadline = time.monotonic() + 10
        while held(path).beat < 3:  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_a_heartbeat_after_a_takeover_leaves_the_new_owner_in_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "BEAT", 0.02)
    looks = threading.Semaphore(0)

    with lock(path), monkeypatch.context() as patch:
        # As one that is stopped after its look, and continued after the takeover.
        patch.setattr(locking.Lease, "check", lambda _: looks.release())
        foreign(path, 5)
        assert [looks.acquire(timeout=10) for _ in range(3)] == [True] * 3
        patch.undo()
        assert (owner_of(path).host, owner_of(path).pid) == ("elsewhere", 7)
    assert owner_of(path).host == "elsewhere"


def test_an_owner_whose_successor_has_ended_no_longer_holds_the_lock(path: Path) -> None:
    with lock(path) as lease:
        lease.check()
        foreign(path, 5)
        with pytest.raises(Held, match="elsewhere"):
            lease.check()
        path.write_bytes(b"{}".ljust(locking.NAME))
        with pytest.raises(Held):
            lease.check()
