"""The help is Hydra's to the letter, and comes without Hydra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ablate.cli.help import asks_for_help, help_text
from ablate.cli.hydra_bridge import run


@pytest.fixture
def own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with an option of the user's own in a group of ours, and in one of his own."""
    for name in ("module/mine.yaml", "extra/deep/one.yaml"):
        (tmp_path / "conf" / name).parent.mkdir(parents=True)
        (tmp_path / "conf" / name).write_text("name: mine\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_the_help_is_what_hydra_prints(own_options: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["seed=1", "--help"]) == 0  # with an override it goes through Hydra

    text = capsys.readouterr().out
    assert text == help_text() + "\n"
    assert "mine" in text
    assert "extra/deep: one" in text


def test_help_imports_neither_hydra_nor_what_is_heavier() -> None:
    code = (
        "import sys; from ablate.__main__ import main; codes = main(['--help']), main(['plan', '-h'])\n"
        "heavy = {'hydra', 'omegaconf', 'torch', 'numpy', 'rich', 'mlflow', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy or any(codes) else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [[], ["module=hmha"], ["module=hmha", "--help"], ["status", "--help"], ["--help", "--cfg", "job"]]
)
def test_help_is_asked_for_by_itself(words: list[str]) -> None:
    assert not asks_for_help(words)
