"""What lies in the folder in which a command is given does not run, unless a `_target_` names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Ablate
from tests.security.traps import Traps

from ablate.grafting.construction import load_class
from ablate.grafting.insertion import GraftError
from ablate.search_path import leave_out_working_folder
from ablate.sources.module_source import module_source

SCRIPT = "import sys; from ablate.__main__ import main; sys.exit(main())"  # what an installer writes as `bin/ablate`
BLOCK = """from torch import nn
from files_helper import Scale


class Block(nn.Conv2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, Scale.size)
"""
HELPER = "class Scale:\n    size = 1\n"
MODULE = "name: mine\n_target_: files_blocks.part.Block\ninsertion: head\n"


@pytest.fixture
def traps(tmp_path: Path) -> Traps:
    folder = tmp_path / "strangers"
    folder.mkdir()
    return Traps(folder, tmp_path / "ran.txt")


@pytest.fixture
def folder(traps: Traps, tmp_path: Path) -> Path:
    """A stranger's folder with traps, and with a module of one's own in a package without `__init__.py`."""
    folder = tmp_path / "strangers"
    (folder / "conf" / "module").mkdir(parents=True)
    (folder / "conf" / "module" / "mine.yaml").write_text(MODULE, encoding="utf-8")
    (folder / "files_blocks").mkdir()
    (folder / "files_blocks" / "part.py").write_text(BLOCK, encoding="utf-8")
    (folder / "files_helper.py").write_text(HELPER, encoding="utf-8")
    return folder


@pytest.mark.security(
    "Working folder",
    "No `rich.py`, `torch.py`, `wandb.py` or `hydra_plugins/` in it runs, in the command or in its workers; a module "
    "that a `_target_` names does, with what it imports beside it.",
)
def test_only_what_a_target_names_is_imported(folder: Path, traps: Traps) -> None:
    words = ["plan", "module=mine", "train=smoke", "probe=false", "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, *words], cwd=folder, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert '"mine@head musgd"' in done.stdout, "its network was built"
    assert traps.ran == ""


@pytest.mark.parametrize("verb", [["--help"], ["status"], ["module=nope"]])
def test_python_dash_m_imports_nothing_from_there_once_it_has_begun(
    folder: Path, traps: Traps, ablate: Ablate, verb: list[str]
) -> None:
    ablate(*verb, cwd=folder)

    assert not [line for line in traps.ran.splitlines() if not line.startswith(("random", "signal", "socket"))]


def test_an_empty_part_of_pythonpath_is_not_the_working_folder(folder: Path, traps: Traps) -> None:
    search = os.pathsep.join([os.environ.get("PYTHONPATH", ""), ""])
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, "plan", "module=nope"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "module=nope" in done.stderr or "nope" in done.stderr
    assert traps.ran == ""


def test_processes_that_it_starts_do_not_look_there_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", *sys.path])
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), "other", os.environ.get("PYTHONPATH", "")]))
    leave_out_working_folder()

    code = "import os, sys; print([entry for entry in sys.path if os.path.realpath(entry) == os.getcwd()])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert str(tmp_path) not in sys.path
    assert str(tmp_path / "other") in os.environ["PYTHONPATH"].split(os.pathsep), "what the user names stays"


class TestModules:
    @pytest.fixture(autouse=True)
    def here(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def test_what_is_read_for_the_signature_is_what_is_imported(self, folder: Path) -> None:
        source = module_source("files_blocks.part.Block")
        cls = load_class("files_blocks.part.Block")
        files = [Path(str(sys.modules[name].__file__)) for name in ("files_blocks.part", "files_helper")]

        assert list(source.files) == files == [folder / "files_blocks" / "part.py", folder / "files_helper.py"]
        assert cls(4).kernel_size == (1, 1)

    @pytest.mark.security(
        "Working folder",
        "A file of the name of an installed package does not stand in for it where a `_target_` names the package.",
    )
    def test_what_is_installed_comes_first(self, traps: Traps) -> None:
        assert load_class("torch.nn.Identity").__module__ == "torch.nn.modules.linear"
        assert module_source("torch.nn.modules.linear.Identity").distributions[0].name == "torch"
        assert traps.ran == ""

    def test_a_library_that_looks_for_another_does_not_find_it_there(self, folder: Path, traps: Traps) -> None:
        load_class("files_blocks.part.Block")
        for code in ("import wandb", "import importlib; importlib.import_module('wandb')"):
            with pytest.raises(ModuleNotFoundError):
                exec(compile(code, "library.py", "exec"), {"__name__": "library.part"})
        assert traps.ran == ""

    def test_a_module_that_computes_a_name_finds_its_neighbour(self, folder: Path) -> None:
        code = "from importlib import import_module\nfrom torch.nn import Identity\n"
        code += "Scale = import_module('files_' + 'helper').Scale\n"
        (folder / "files_computing.py").write_text(code, encoding="utf-8")

        assert load_class("files_computing.Identity").__name__ == "Identity"

    def test_what_is_nowhere_is_named(self) -> None:
        with pytest.raises(GraftError, match="files_nowhere"):
            load_class("files_nowhere.Block")
