"""Names of sweeps, which become folders: each works or is answered in one line, for every command alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.fixtures.comparisons import make_record, write_sweep

from ablate.cli.verbs import find_sweep
from ablate.errors import ConfigError
from ablate.execution.manifest import sweep_name
from ablate.settings.schema import Config, training_arguments
from ablate.settings.validation import check

Ablate = Callable[..., "subprocess.CompletedProcess[str]"]

ODD = [
    "..", ".", "a/b", "/abs", "../x", "a" * 300, "中" * 100, "two\nlines", "\x1b[31mred", "nul\0", "a b", ".hidden",
    "-x", "=x", "~", "$HOME", "*", "a:b", "a\\b", "\u202egnp", "zero\u200bwidth", "",
]  # fmt: skip
GOOD = [
    "ünïcode",
    "пробег",
    "扫描",
    "हिन्दी",
    "CON",
    "NUL.txt",
    "nul",
    "a=b",
    "run+1@home",
    "x" * 120,
    "end.",
    "_",
    "١٢",
]


def config(name: str) -> dict[str, object]:
    return {**asdict(Config()), "train": training_arguments(), "sweep": name}


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="sweep="):
        check(config(name))


@pytest.mark.parametrize("name", GOOD)
def test_a_name_in_any_alphabet_becomes_a_folder_that_every_command_finds(name: str, tmp_path: Path) -> None:
    check(config(name))
    directory = write_sweep(tmp_path, [make_record()], name=name)

    assert find_sweep(tmp_path, name) == directory


@pytest.mark.security(
    "Trial or sweep folder", "A sweep's name such as `..`, `a/b`, or one of 300 characters is refused in one line."
)
@pytest.mark.parametrize("command", [("status",), ("report",), ("latency",), ()])
def test_every_command_answers_a_name_that_is_none_in_one_line(
    command: tuple[str, ...], ablate_here: Ablate, tmp_path: Path
) -> None:
    write_sweep(tmp_path / "multirun", [make_record()])
    before = sorted(tmp_path.rglob("*"))

    for name in ODD:
        if command:
            done = ablate_here(*command, "--", name)
        elif name in ("nul\0", "two\nlines", *ODD[8:]):
            continue  # no command line has a NUL, a line end is the grammar's business, and these take as long
        else:
            done = ablate_here("train=smoke", f"sweep='{name}'")
        assert done.returncode == 2, name
        assert done.stderr.count("\n") == 1, name
        assert done.stderr.startswith("ablate: ")
        assert done.stderr.replace("\n", "").isprintable(), name

    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_with_an_equals_sign_is_no_option_where_a_sweep_has_it(ablate_here: Ablate, tmp_path: Path) -> None:
    write_sweep(tmp_path / "multirun", [make_record()], name="hmha@c3k2[k=3]_shapes")

    assert ablate_here("status", "hmha@c3k2[k=3]_shapes").returncode == 0
    assert "no such option" in ablate_here("report", "k=3").stderr


def test_the_name_that_a_sweep_gets_by_itself_fits_a_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    factors = {"module": "модуль" * 20, "insertion": "head", "data": "данные" * 20, "model": "網" * 90}
    trial = SimpleNamespace(identity=SimpleNamespace(signature="a" * 64, factors=factors))

    assert len(sweep_name([trial]).encode()) <= 255  # type: ignore[list-item]
