"""Records that are damaged, in every file and in every way, and repaired or passed over by one command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SEEDS = 7
SWEEP = ["module=steady", f"seed=range(0,{SEEDS})", "-m"]
NAMES = [f"{variant} musgd s{seed}" for variant in ("baseline", "steady@neck_p5") for seed in range(SEEDS)]

Damage = Callable[[Path, Path], object]  # of a file, by a file of the same kind of another trial


def of_wrong_types(path: Path, _: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    wrong = {key: 7 if isinstance(value, dict) else {"a": [1]} for key, value in content.items() if key != "signature"}
    path.write_text(json.dumps({**content, **wrong}), encoding="utf-8")


def without_fields(path: Path, _: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"signature": content.get("signature")}), encoding="utf-8")


def huge(path: Path, _: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(200_000_000)


def a_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Damage] = {
    "truncated": lambda path, _: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path, _: path.write_bytes(b""),
    "binary": lambda path, _: path.write_bytes(bytes(range(256)) * 8),
    "a list": lambda path, _: path.write_text("[]", encoding="utf-8"),
    "nested too deeply": lambda path, _: path.write_text("[" * 100_000, encoding="utf-8"),
    "of another trial": lambda path, other: path.write_bytes(other.read_bytes()),
    "missing": lambda path, _: path.unlink(),
    "of wrong types": of_wrong_types,
    "without fields": without_fields,
    "huge": huge,
    "a folder": a_folder,
    "a pipe": a_pipe,
}
FILES = ["result.json", "mlflow.json", "tries.json", "config.yaml", "system.jsonl", "train/history.jsonl"]


def damage(shop: Any) -> dict[str, Path]:
    """Damage the files of a trial in each way; return its folder."""
    folders = [shop.trial(name) for name in NAMES]
    for (kind, apply), folder, other in zip(DAMAGES.items(), folders, folders[1:], strict=False):
        for file in FILES:
            if file.endswith(".json") or kind not in ("of wrong types", "without fields"):
                apply(folder / file, other / file)
    return dict(zip(DAMAGES, folders, strict=False))


@pytest.fixture(scope="module")
def finished(module_shop_from: Any) -> Any:
    """A sweep of 14 trials that have all finished."""
    shop = module_shop_from(None, quick=True)
    done = shop.run(*SWEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    return shop


@pytest.fixture
def shop(finished: Any, shop_from: Any) -> Any:
    """A copy of it."""
    shop = shop_from(None, quick=True)
    shutil.copytree(finished.folder / "multirun", shop.folder / "multirun")
    return shop


def verb(shop: Any, word: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ablate", word], cwd=shop.folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.fault(
    "`result.json` and the files beside it truncated, empty, binary, huge, without fields, of wrong types, of another "
    "trial, missing, or a folder or a pipe instead",
    "the record is restored from its backup; nothing is trained or recorded again",
)
def test_damaged_files(shop: Any) -> None:
    before = shop.records()
    folders = damage(shop)

    status = verb(shop, "status")
    again = shop.run(*SWEEP)

    assert (status.returncode, status.stderr) == (0, "")
    assert f"{len(NAMES)} done" in status.stdout
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{len(NAMES)} trials, {len(NAMES)} done, 0 to run" in again.stdout
    shutil.rmtree(folders["a folder"] / "result.json")  # of which the backup still holds the record
    shutil.copy(folders["a folder"] / "result.backup.json", folders["a folder"] / "result.json")
    assert shop.records() == before
    assert sorted(name for _, name, _ in shop.runs()) == sorted(NAMES)


@pytest.mark.fault(
    "`result.json` and its backup both damaged",
    "that trial counts as unfinished, in one line, and runs again; the others are reused; one run each in MLflow",
)
def test_damaged_backups(shop: Any) -> None:
    before, damaged = shop.records(), {}
    folders = {name: shop.trial(name) for name in NAMES}
    kinds = {kind: apply for kind, apply in DAMAGES.items() if kind not in ("a folder", "missing")}
    for (kind, apply), name in zip(kinds.items(), NAMES, strict=False):
        damaged[name] = kind
        for file in ("result.json", "result.backup.json"):
            apply(folders[name] / file, folders[NAMES[-1]] / file)

    again = shop.run(*SWEEP)

    assert (again.returncode, again.stderr) == (0, "")
    assert f"{len(NAMES)} trials, {len(NAMES) - len(damaged)} done, {len(damaged)} to run" in again.stdout
    assert again.stdout.count("ignored: ") == len(damaged)
    after = shop.records()
    assert {name: len(record["tries"]) for name, record in after.items()} == {
        name: 2 if name in damaged else 1 for name in NAMES
    }
    assert all(after[name] == before[name] for name in NAMES if name not in damaged)
    assert sorted(name for _, name, _ in shop.runs()) == sorted(NAMES)


@pytest.mark.fault(
    "`sweep.json` truncated", "it is written again; the sweep keeps its run in MLflow, and nothing is trained again"
)
def test_damaged_manifest(shop: Any) -> None:
    (manifest,) = shop.folder.glob("multirun/sweeps/*/sweep.json")
    before = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_bytes(manifest.read_bytes()[:400])
    (manifest.parent / "latency.json").write_bytes(b"\0" * 99)

    again = shop.run(*SWEEP)

    assert (again.returncode, again.stderr) == (0, "")
    assert "sweep.json is not complete JSON" in again.stdout
    assert f"{len(NAMES)} done, 0 to run" in again.stdout
    after = json.loads(manifest.read_text(encoding="utf-8"))
    assert after["mlflow_run_id"] == before["mlflow_run_id"]
    assert after["signatures"] == before["signatures"]
