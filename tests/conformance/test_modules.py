"""Every module of the registry does what every module must do; a new one is tested by existing."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import ablate.modules
from ablate.settings.schema import option_file
from ablate.verifying.conformance import CHECKS, Subject
from ablate.verifying.registry import registry

ROOT = Path(__file__).parents[2]
FIRST = ("acmix", "convblock", "hat", "hmha", "identity", "sta")  # the checks of later modules are in test_catalogue.py
MODULES = registry(FIRST)


def test_a_module_is_a_file_its_options_and_its_card() -> None:
    rooms = [path for path in (ROOT / "src/ablate/modules").rglob("[!_]*.py") if path.parent.name != "kernels"]
    files = {path.stem for path in rooms}
    options = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "conf/module").glob("*.yaml")}
    cards = {path.stem for path in (ROOT / "docs/modules").glob("*.md")}
    named = {name: re.findall(r"docs/modules/(\w+)\.md", text) for name, text in options.items() if name != "none"}
    assert files >= set(FIRST)
    assert files <= set(named) & cards
    assert not {name: card for name, card in named.items() if len(card) != 1 or card[0] not in cards}


@pytest.mark.parametrize("name", FIRST)
def test_its_class_is_a_name_of_the_package(name: str) -> None:
    home, _, leaf = str(option_file("module", name)["_target_"]).rpartition(".")
    assert home == f"ablate.modules.{name}"
    assert getattr(ablate.modules, leaf) is getattr(import_module(home), leaf)
    assert leaf in dir(ablate.modules)


def test_a_module_with_a_fused_form_is_checked_in_both_forms() -> None:
    assert {"acmix[fused=true]", "acmix[fused=false]", "convblock"} <= set(MODULES)
    assert "acmix" not in MODULES


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("module", MODULES)
def test_module(module: str, check: str) -> None:
    assert list(CHECKS[check](Subject(MODULES[module]))) == []
