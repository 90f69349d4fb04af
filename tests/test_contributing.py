"""The map of the package in CONTRIBUTING.md: every name in its walks exists, and every package is in the picture."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGES = {path.stem for path in (SOURCE / "ablate").iterdir()} | {"hydra_plugins"}
NAMES = [name for name in re.findall(r"`([a-z_]+(?:\.\w+)+)`", PAGE) if name.partition(".")[0] in PACKAGES]


def defines(file: Path, names: list[str]) -> bool:
    """Tell whether a file defines a name, or a class with an attribute of a name."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for name in names:
        for node in body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            if getattr(node, "name", None) == name or any(getattr(target, "id", None) == name for target in targets):
                body = getattr(node, "body", [])
                break
        else:
            return False
    return True


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_a_name_in_the_walks_exists(name: str) -> None:
    parts = name.split(".")
    folder = SOURCE if parts[0] == "hydra_plugins" else SOURCE / "ablate"
    while (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    assert defines(folder / f"{parts[0]}.py", parts[1:])


def test_the_walks_have_names() -> None:
    assert len(NAMES) >= 30


def test_the_picture_has_every_package_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [
        name.removeprefix("ablate.") for layer in contract["contracts"][0]["layers"] for name in layer.split(" | ")
    ]
    picture = PAGE.split("```")[1]
    assert [name for name in layers if not re.search(rf"\b{name}\b", picture)] == []
