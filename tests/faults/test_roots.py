"""An output folder that goes away, cannot be written or belongs to somebody else; a machine with narrow limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

SWEEP = ["module=steady", "-m"]
BASELINE, STEADY = NAMES = ["baseline musgd s0", "steady@neck_p5 musgd s0"]
PRIVATE = ["unshare", "-m", "--propagation", "private"]  # a command with mounts of its own
NOBODY = 65534


def can_mount() -> bool:
    """Tell whether this process may mount."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    words = [*PRIVATE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def mounts() -> None:
    if not can_mount():
        pytest.skip("only root may mount")


@pytest.mark.fault(
    "the output folder renamed or deleted during a sweep",
    "the sweep stops in one line, and no new folder appears; the same command goes on where the folder is back, or "
    "starts over where it is lost",
)
@pytest.mark.parametrize("fate", ["renamed", "deleted"])
def test_root_gone(fate: str, quick_shop: Any) -> None:
    root = quick_shop.folder / "multirun"
    before = quick_shop.records()
    driver = quick_shop.start_held(*SWEEP)
    root.rename(root.with_name("moved"))
    quick_shop.unset("slow")
    out, err = driver.communicate(timeout=60)

    assert driver.returncode == 2, out + err
    (line,) = err.strip().splitlines()
    assert "it was moved or deleted" in line
    assert not root.exists()
    if fate == "renamed":
        root.with_name("moved").rename(root)
        assert quick_shop.records() == before
    finish(quick_shop)


@pytest.mark.fault(
    "the output folder mounted read-only during a sweep",
    "the trial fails in one line, what is recorded stays; the same command goes on once the folder can be written",
)
def test_root_read_only(quick_shop: Any, mounts: None) -> None:
    root = quick_shop.folder / "multirun"
    before = quick_shop.records()
    quick_shop.through = PRIVATE
    driver = quick_shop.start_held(*SWEEP)
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
    subprocess.run(["nsenter", "-t", str(driver.pid), "-m", "sh", "-c", mount, str(root)], check=True)
    quick_shop.unset("slow")
    out, err = driver.communicate(timeout=60)

    assert driver.returncode == 1, out + err
    assert err == ""
    assert "Read-only file system" in out
    assert quick_shop.records() == before
    quick_shop.through = []
    finish(quick_shop)


@pytest.mark.fault(
    "two users on one output folder, whose files the other one cannot write",
    "finished trials are used by both; what MLflow's database does not take is sent by its owner's next command",
)
def test_two_users(quick_shop: Any) -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root may become another user")
    root = quick_shop.folder / "multirun"
    mine = Path(tempfile.mkdtemp())  # a folder of other tests may be closed to him
    before = quick_shop.records()
    for path in (root, *root.rglob("*")):  # folders are shared, trials and the database are not
        path.chmod(0o777 if path.is_dir() and path.parent.name != "trials" else 0o755 if path.is_dir() else 0o644)
    for path in root.glob(".*.lock"):
        path.chmod(0o666)
    os.chown(mine, NOBODY, NOBODY)
    read_all = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # where Python itself is root's
    quick_shop.through = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *read_all]
    other = quick_shop.run(*SWEEP, HOME=str(mine), ABLATE_CACHE=str(mine), MPLCONFIGDIR=str(mine))
    quick_shop.through = []
    shutil.rmtree(mine)

    assert (other.returncode, other.stderr) == (0, ""), other.stdout
    assert "1 done, 1 to run" in other.stdout
    assert other.stdout.count("MLflow does not answer") == 1
    assert quick_shop.trial(STEADY).stat().st_uid == NOBODY
    again = quick_shop.run(*SWEEP)
    assert (again.returncode, again.stderr) == (0, ""), again.stdout
    assert quick_shop.records()[BASELINE] == before[BASELINE]
    quick_shop.assert_all_finished_once(NAMES)


@pytest.mark.fault("64 open files and 64 kB in `/dev/shm`", "no effect on driver, workers and tracker")
def test_narrow_limits(quick_shop: Any, mounts: None) -> None:
    narrow = 'ulimit -n 64 && mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
    quick_shop.through = [*PRIVATE, "bash", "-c", narrow, "-"]

    done = quick_shop.run(*SWEEP, "seed=0,1")

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    quick_shop.assert_all_finished_once([name.replace("s0", f"s{seed}") for name in NAMES for seed in (0, 1)])


def finish(shop: Any) -> None:
    """Give the command again, and see that it ends the sweep without a complaint."""
    again = shop.run(*SWEEP)
    assert (again.returncode, again.stderr) == (0, ""), again.stdout
    shop.assert_all_finished_once(NAMES)
