"""A user's code is searched as text; a fork of Ultralytics is found as part of the installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from ablate.errors import ConfigError
from ablate.grafting.construction import load_class
from ablate.sources.code_folder import Code
from ablate.sources.module_source import module_source
from ablate.sources.working_folder import code_roots

LAYER = "from torch import nn\n\n\nclass {name}(nn.Identity):\n    pass\n"
# What stands in forks: relative imports of stock layers, and of other files of the fork.
FORKED = """from ..modules.conv import Conv
from .attention import ForkAttention


class ForkBlock(Conv):
    attention = ForkAttention
"""


def fork(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "ultralytics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "ultralytics"


@pytest.mark.parametrize(
    ("file", "code", "target"),
    [
        ("mine.py", "mine.py", "mine.CodeA"),
        ("pack/__init__.py", "pack", "pack.CodeA"),
        ("pack/part/blocks.py", "pack", "pack.part.blocks.CodeA"),
        ("folder/blocks.py", "folder", "blocks.CodeA"),
        ("ultralytics/nn/extra/block.py", "ultralytics/nn/extra", "ultralytics.nn.extra.block.CodeA"),
        ("ultralytics/ultralytics/nn/extra/block.py", "ultralytics/ultralytics/nn", "ultralytics.nn.extra.block.CodeA"),
        ("ultralytics/ultralytics/nn/extra/block.py", "ultralytics", "ultralytics.nn.extra.block.CodeA"),
        ("ultralytics/nn/modules/block.py", "ultralytics", "ultralytics.nn.modules.block__fork.CodeA"),
    ],
)
def test_a_class_has_the_name_by_which_it_is_imported(tmp_path: Path, file: str, code: str, target: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.startswith("pack/"):
        (tmp_path / "pack" / "__init__.py").touch()
    path.write_text(LAYER.format(name="CodeA"), encoding="utf-8")

    found = Code.at(tmp_path / code)

    assert found.find(["CodeA", "CodeB"]) == {"CodeA": target}


def test_a_fork_s_file_reaches_the_installed_layers_and_the_fork_s_own_files(tmp_path: Path) -> None:
    package = fork(
        tmp_path,
        {
            "__init__.py": "raise RuntimeError('the fork itself is not imported')\n",
            "nn/__init__.py": "raise RuntimeError('the fork itself is not imported')\n",
            "nn/extra_fork/__init__.py": "from .block import *\n",
            "nn/extra_fork/block.py": FORKED,
            "nn/extra_fork/attention.py": LAYER.format(name="ForkAttention"),
            "nn/modules/conv.py": LAYER.format(name="ForkConv"),
        },
    )
    code = Code.at(package / "nn")
    code.allow()

    targets = code.find(["ForkBlock", "ForkConv"])

    block = load_class(targets["ForkBlock"])
    assert isinstance(block, type)
    assert block.__mro__[1].__module__ == "ultralytics.nn.modules.conv"
    assert load_class(targets["ForkConv"]).__module__ == "ultralytics.nn.modules.conv__fork"
    files = [path.name for path in module_source(targets["ForkBlock"]).files]
    assert sorted(files) == ["__init__.py", "attention.py", "block.py"]
    before = module_source(targets["ForkBlock"]).sha256
    (package / "nn" / "extra_fork" / "attention.py").write_text("# edited\n" + LAYER.format(name="ForkAttention"))
    assert module_source(targets["ForkBlock"]).sha256 != before


def test_of_two_definitions_the_one_counts_that_the_fork_s_builder_imports(tmp_path: Path) -> None:
    package = fork(
        tmp_path,
        {
            "nn/a.py": LAYER.format(name="Twice"),
            "nn/b.py": LAYER.format(name="Twice"),
            "nn/tasks.py": "from ultralytics.nn.b import Twice\n",
        },
    )

    assert Code.at(package).find(["Twice"]) == {"Twice": "ultralytics.nn.b.Twice"}


def test_what_is_no_python_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("class CodeA(\n", encoding="utf-8")
    (tmp_path / "good.py").write_text(LAYER.format(name="CodeA"), encoding="utf-8")
    (tmp_path / "binary.py").write_bytes(b"\x00CodeA")

    assert Code.at(tmp_path).find(["CodeA"]) == {"CodeA": "good.CodeA"}


@pytest.mark.parametrize("name", ["nowhere", "data.txt"])
def test_code_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.txt").write_text("class CodeA: pass\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="--code="):
        Code.at(tmp_path / name)


def test_a_file_that_is_no_python_is_named_only_where_no_other_defines_the_class(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import torch\nclass CodeA(:\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.py, line 2: it is no Python.* no other file defines CodeA$"):
        Code.at(tmp_path).find(["CodeA"])
    assert Code.at(tmp_path).find(["CodeB"]) == {}

    (tmp_path / "sound.py").write_text(LAYER.format(name="CodeA"), encoding="utf-8")
    assert Code.at(tmp_path).find(["CodeA"]) == {"CodeA": "sound.CodeA"}


def test_the_folder_of_the_installed_packages_is_no_folder_of_named_code() -> None:
    spec = find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    before = module_source("ultralytics.nn.modules.block.C3k2").sha256

    Code.at(Path(spec.origin).parent / "nn" / "modules").allow()

    assert Path(spec.origin).parents[1] not in code_roots()
    assert module_source("ultralytics.nn.modules.block.C3k2").sha256 == before
