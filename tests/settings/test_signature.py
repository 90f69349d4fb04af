"""A signature changes exactly when something that can change the result does."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.settings.schema import Config, option_file
from ablate.settings.signature import Identity, identify
from ablate.settings.trial_settings import TrialSettings
from ablate.sources.module_source import module_source

Change = Callable[[dict[str, Any]], Any]


def config(module: str = "hmha") -> dict[str, Any]:
    content = asdict(Config())
    content["data"] = {"name": "shapes", "path": None}
    if module == "hmha":
        content["module"] = {
            "name": "hmha",
            "_target_": "ablate.modules.hmha.HMHA",
            "insertion": "c3k2",
            "rerank": "sample",
        }
    return content


def identity(content: dict[str, Any], fingerprint: str = "f") -> Identity:
    return identify(TrialSettings.from_plain(content), fingerprint)


def changed(change: Change, module: str = "hmha") -> Identity:
    content = config(module)
    change(content)
    return identity(content)


SAME: dict[str, Change] = {
    "device": lambda c: c.update(device="cpu"),
    "root": lambda c: c.update(root="elsewhere"),
    "sweep": lambda c: c.update(sweep="mine"),
    "tracking": lambda c: c["tracking"].update(uri="http://x"),
    "plots": lambda c: c["train"].update(plots=False),
    "data path": lambda c: c["data"].update(path="/elsewhere.yaml"),
    "1 for 1.0": lambda c: c["optimizer"].update(lr0=c["optimizer"]["lr0"], warmup_epochs=3),
    "an arithmetic that is chosen by the device": lambda c: c["optimizer"].update(orthogonalise="auto"),
    "a configuration of before there was a choice": lambda c: c["optimizer"].pop("orthogonalise"),
    "customary insertion by name": lambda c: c["insertion"].update(name="c3k2"),
}
OTHER: dict[str, Change] = {
    "seed": lambda c: c.update(seed=1),
    "module option": lambda c: c["module"].update(rerank="batch"),
    "insertion": lambda c: c["insertion"].update(name="head"),
    "layers": lambda c: c["insertion"].update(at=[4]),
    "wiring": lambda c: c["insertion"].update(wiring="rezero"),
    "learning rate": lambda c: c["optimizer"].update(lr0=0.02),
    "optimizer": lambda c: c["optimizer"].update(name="SGD"),
    "arithmetic of the orthogonalisation": lambda c: c["optimizer"].update(orthogonalise="fp32"),
    "epochs": lambda c: c["train"].update(epochs=3),
    "workers, which seed the augmentation": lambda c: c["train"].update(workers=3),
    "augmentation": lambda c: c["train"].update(mosaic=0.0),
    "out-of-memory policy": lambda c: c.update(on_oom="halve"),
    "architecture": lambda c: c["model"].update(architecture="yolo26s.yaml"),
}


@pytest.mark.parametrize("change", SAME)
def test_what_cannot_change_the_result_is_no_identity(change: str) -> None:
    assert changed(SAME[change]).signature == identity(config()).signature


@pytest.mark.parametrize("change", OTHER)
def test_what_can_change_the_result_is_identity(change: str) -> None:
    assert changed(OTHER[change]).signature != identity(config()).signature


def test_the_data_s_content_is_identity() -> None:
    assert identity(config(), "f").signature != identity(config(), "g").signature


def test_the_starting_weights_content_is_identity(tmp_path: Path) -> None:
    signatures = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)
        signatures.append(changed(lambda c, name=name: c["model"].update(weights=str(tmp_path / name))).signature)

    assert signatures[0] == signatures[1]
    assert signatures[0] != signatures[2]


def test_the_module_s_source_is_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    signatures = []
    for body in ("pass", "return 1"):
        (tmp_path / "evolving.py").write_text(f"class M:\n    def forward(self): {body}\n", encoding="utf-8")
        signatures.append(changed(lambda c: c["module"].update(_target_="evolving.M")).signature)

    assert signatures[0] != signatures[1]


def test_what_the_module_stands_on_is_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside and below the module, imported in any manner; not what lies there and is not imported."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "growing"
    (package / "parts").mkdir(parents=True)
    files = {name: package / name for name in ("parts/deep.py", "parts/deeper.py", "parts/__init__.py", "beside.py")}
    imports = "from growing.parts import deep\nclass M:\n    def f(self):\n        from .beside import g\n"
    (package / "block.py").write_text(f"import torch, growing.other, nowhere.growing\n{imports}", encoding="utf-8")
    for file in (package / "__init__.py", package / "other_too.py", *files.values()):
        file.write_text("", encoding="utf-8")
    files["parts/deep.py"].write_text("from . import deeper\nfrom ... import above\n", encoding="utf-8")

    def signature() -> str:
        return changed(lambda c: c["module"].update(_target_="growing.block.M")).signature

    seen = {signature()}
    for number, file in enumerate(files.values(), start=2):
        file.write_text(f"{file.read_text(encoding='utf-8')}# {number}\n", encoding="utf-8")
        seen.add(signature())
        assert len(seen) == number, file
    (package / "other_too.py").write_text("# not imported", encoding="utf-8")
    assert signature() in seen
    assert [path.name for path in module_source("ablate.modules.acmix.ACmix").files][:1] == ["acmix.py"]


def test_the_baseline_does_not_depend_on_where_nothing_is_inserted() -> None:
    def elsewhere(content: dict[str, Any]) -> None:
        content["insertion"].update(name="head", wiring="rezero")

    assert changed(elsewhere, "none").signature == identity(config("none")).signature


def test_replicates_share_the_variant_and_variants_share_the_baseline() -> None:
    first, second = identity(config()), changed(lambda c: c.update(seed=1))
    baseline = identity(config("none"))

    assert first.variant_key == second.variant_key
    assert first.comparison_key == second.comparison_key == baseline.comparison_key
    assert first.variant_key != baseline.variant_key


def test_names_are_readable() -> None:
    assert identity(config()).name == "hmha@c3k2 musgd s0"
    assert identity(config("none")).name == "baseline musgd s0"
    assert changed(lambda c: c["module"].update(rerank="batch")).variant == "hmha[rerank=batch]@c3k2 musgd"
    assert changed(lambda c: c["insertion"].update(at=[6, 4, 6])).variant == "hmha@layer6+4 musgd"
    assert changed(lambda c: c["insertion"].update(wiring="rezero")).variant == "hmha@c3k2[rezero] musgd"


def with_grafts(*grafts: str, module: str = "none") -> dict[str, Any]:
    return {**config(module), "grafts": list(grafts)}


def test_one_graft_is_the_same_trial_whichever_way_it_is_given() -> None:
    by_group, by_list = config("none"), with_grafts("hmha@c3k2")
    by_group["module"] = option_file("module", "hmha")

    assert identity(by_list) == identity(by_group)
    settled = TrialSettings.from_plain(by_list).to_plain()
    assert settled["module"]["name"] == "hmha"
    assert settled["grafts"] == []


def test_the_order_in_which_grafts_are_named_changes_nothing() -> None:
    expected = identity(with_grafts("hmha@c3k2", "acmix@head"))

    assert identity(with_grafts("acmix", "hmha@c3k2")) == expected
    by_both = {**with_grafts("acmix@head"), "module": option_file("module", "hmha")}
    assert identity(by_both) == expected


def test_grafts_at_one_place_are_chained_in_the_order_given() -> None:
    first, second = identity(with_grafts("hmha@head", "sta@head")), identity(with_grafts("sta@head", "hmha@head"))

    assert first.variant == "hmha@head+sta@head musgd"
    assert second.variant == "sta@head+hmha@head musgd"
    assert first.variant_key != second.variant_key


def test_a_settled_configuration_is_settled() -> None:
    given = with_grafts("sta@4+6+4", "hmha[rerank=batch]@c3k2[rezero]", "acmix")
    settled = TrialSettings.from_plain(given).to_plain()

    assert TrialSettings.from_plain(settled).to_plain() == settled
    assert [graft["insertion"]["name"] for graft in settled["grafts"]] == ["head", "layer4+6"]


def test_settling_leaves_the_given_configuration_alone() -> None:
    given = with_grafts("acmix", module="hmha")
    before = deepcopy(given)

    TrialSettings.from_plain(given)

    assert given == before


def test_several_grafts_are_named_and_their_factors_joined() -> None:
    found = identity(with_grafts("acmix", "hmha[rerank=batch]@c3k2[rezero]"))

    assert found.variant == "hmha[rerank=batch]@c3k2[rezero]+acmix@head musgd"
    assert found.factors["module"] == "hmha+acmix"
    assert found.factors["insertion"] == "c3k2+head"
    assert found.comparison_key == identity(config("none")).comparison_key


def test_everything_about_every_graft_is_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "module").mkdir(parents=True)
    (tmp_path / "conf" / "module" / "mine.yaml").write_text("name: mine\n_target_: second_block.M\ninsertion: psa\n")
    signatures = []
    for body, grafts in [("pass", ["hmha@c3k2", "mine"]), ("return 1", ["hmha@c3k2", "mine"])] + [
        ("pass", other)
        for other in (["hmha@c3k2"], ["mine"], ["hmha@c3k2", "mine@head"], ["hmha@c3k2", "mine", "mine"], [])
    ]:
        (tmp_path / "second_block.py").write_text(f"class M:\n    def forward(self): {body}\n", encoding="utf-8")
        signatures.append(identity(with_grafts(*grafts)).signature)

    assert len(set(signatures)) == len(signatures)


def test_a_user_s_data_set_goes_by_the_name_of_its_file() -> None:
    custom = changed(lambda c: c["data"].update(name="custom", path="/somewhere/cells.yaml"))
    assert custom.factors["data"] == "cells"
