"""Losses are read from the command line, checked from their source, and are part of a variant."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.catalogue.listed_components import Selection, listed_components
from ablate.cli.hydra_bridge import quote_loss
from ablate.errors import ConfigError
from ablate.settings.loss_checks import check_loss
from ablate.settings.losses import LossSettings, LossSpec, loss_names, split_component
from ablate.settings.schema import Config
from ablate.settings.signature import Identity, identify
from ablate.settings.trial_settings import TrialSettings
from ablate.study.grid import expand
from ablate.study.trial_inputs import TrialInputs

TEXTS = ["wiou", "wiou[delta=2]", "inner[of=siou,ratio=0.7]", "inner[of=wiou[delta=2]]", "nwd[of=inner[of=giou]]"]
OPTIONLESS = "class Mine(torch.nn.Module):\n    def __init__(self, power: float = 1.0):\n        super().__init__()\n"


def settings(**losses: object) -> TrialSettings:
    plain: dict[str, Any] = {**asdict(Config()), "data": {"name": "shapes"}}
    return TrialSettings.from_plain({**plain, "loss": {**plain["loss"], **losses}})


def identity(**losses: object) -> Identity:
    return identify(settings(**losses), "f")


def test_a_default_is_no_loss_of_ours_and_in_no_signature() -> None:
    stock = settings(box="ciou", cls="bce", assigner="ciou")
    assert stock.losses == LossSettings()
    assert (stock.losses.key, stock.losses.targets) == ({}, [])
    assert set(identity().factors) == {"module", "insertion", "optimizer", "model", "data"}


@pytest.mark.parametrize("text", TEXTS)
def test_a_loss_is_the_same_as_text_in_a_record_and_in_a_network(text: str) -> None:
    loss = LossSpec.from_text(text, "box")
    assert loss.text == text
    assert LossSpec.from_plain(loss.to_plain()) == loss
    assert settings(box=text).losses == settings(box=loss.to_plain()).losses


def test_a_loss_belongs_to_the_variant_and_not_to_what_it_shares_with_its_baseline() -> None:
    baseline, wiou, other = identity(), identity(box="wiou"), identity(box="wiou[delta=2]")
    assert len({baseline.signature, wiou.signature, other.signature}) == 3
    assert len({baseline.variant_key, wiou.variant_key, other.variant_key}) == 3
    assert baseline.comparison_key == wiou.comparison_key == other.comparison_key
    assert (wiou.variant, other.factors["box_loss"]) == ("wiou@box musgd", "wiou[delta=2]")
    both = identity(cls="focal", assigner="siou")
    assert (both.factors["cls_loss"], both.factors["assigner"]) == ("focal", "siou")


def test_the_source_of_a_loss_and_of_the_loss_in_it_are_inputs_of_a_trial() -> None:
    inputs = TrialInputs.of(settings(box="inner[of=siou]"), "f")
    assert set(inputs.sources) == {"ablate.losses.inner.Inner", "ablate.losses.siou.SIoU"}


def test_losses_of_a_sweep_have_the_baseline_with_the_stock_losses() -> None:
    cells = expand({"loss.box": ["loss.box=wiou", "loss.box=siou"], "seed": ["seed=0"]})
    assert cells == [("module=none", "seed=0"), ("loss.box=wiou", "seed=0"), ("loss.box=siou", "seed=0")]
    assert ("module=none", "loss.box=wiou") in expand({"module": ["module=none"], "loss.box": ["loss.box=wiou"]})


def test_brackets_need_no_quotes_on_the_command_line() -> None:
    assert quote_loss("loss.box=wiou[delta=2],ciou") == "loss.box='wiou[delta=2]',ciou"
    assert quote_loss("loss.box=inner[of=siou,ratio=0.7]") == "loss.box='inner[of=siou,ratio=0.7]'"
    assert quote_loss("loss.box='wiou[delta=2]'") == "loss.box='wiou[delta=2]'"


def test_a_component_names_loss_and_part() -> None:
    assert split_component("wiou[delta=2]@box") == ("wiou[delta=2]", "box")
    assert split_component("hmha@c3k2") is None


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("box", "wio", ("no such loss", "'wiou'", "ciou, diou")),
        ("box", "focal", ("loss.cls=focal",)),
        ("cls", "siou", ("loss.box=siou",)),
        ("assigner", "wiou", ("overlap", "siou")),
        ("assigner", "inner[of=wiou]", ("overlap",)),
        ("box", "wiou[detla=3]", ("'delta'", "momentum")),
        ("box", "wiou[delta=0]", ("delta=0", "> 0")),
        ("box", "wiou[version=v2]", ("v1, v3",)),
        ("box", "wiou[delta=x]", ("number",)),
        ("box", "wiou[delta=2,delta=3]", ("delta is given twice: 2 and 3",)),
        ("box", "wiou[delta]", ("option=value",)),
        ("box", "inner[of=inner[ratio=0]]", ("ratio=0",)),
        ("box", "siou[of=ciou]", ("siou takes no other loss",)),
        ("box", 3, ("name of a loss", "wiou")),
        ("box", None, ("name of a loss",)),
        ("box", "a=b", ("the form is",)),
    ],
)
def test_what_is_wrong_with_a_loss_is_one_line(part: str, value: object, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as failure:
        check_loss(part, value)
    assert "\n" not in str(failure.value)
    for word in (f"loss.{part}", *words):
        assert word in str(failure.value)


@pytest.mark.parametrize("part", ["box", "cls", "assigner"])
def test_every_loss_of_the_catalogue_is_valid(part: str) -> None:
    for name in loss_names(part):
        check_loss(part, name)


def test_a_loss_of_ones_own_is_a_file_and_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "my_losses.py").write_text(f"import torch\n{OPTIONLESS}", encoding="utf-8")
    folder = tmp_path / "conf" / "loss" / "box"
    folder.mkdir(parents=True)
    file = folder / "mine.yaml"
    file.write_text("name: mine\n_target_: my_losses.Mine\npower: 2.0\nabout: {kind: box}\n", encoding="utf-8")

    check_loss("box", "mine[power=3]")
    before = identity(box="mine").signature
    (tmp_path / "my_losses.py").write_text(f"import torch\n# edited\n{OPTIONLESS}", encoding="utf-8")
    assert identity(box="mine").signature != before
    with pytest.raises(ConfigError, match="pow: mine has no such option"):
        check_loss("box", "mine[pow=3]")
    (folder / "broken.yaml").write_text("name: broken\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="_target_ is missing"):
        check_loss("box", "broken")


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ("[box]", "a mapping is needed, such as {family: box loss, kind: box}"),
        ("{kind: cls}", "about.kind=cls: valid: box, assigner"),
        ("{kind: asigner}", "did you mean 'assigner'"),
        ("{family: attention}", "about.family=attention: valid: box loss, control"),
        ("{kind: [", "mine.yaml, line"),
    ],
)
def test_a_file_of_a_loss_is_wrong_only_for_whoever_names_it(
    about: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "loss" / "box"
    folder.mkdir(parents=True)
    text = f"name: mine\n_target_: ablate.losses.siou.SIoU\nabout: {about}\n"
    (folder / "mine.yaml").write_text(text, encoding="utf-8")

    for part in ("box", "assigner"):
        with pytest.raises(ConfigError, match=r"^[^\n]*$") as failure:
            check_loss(part, "mine")
        assert words in str(failure.value)
    check_loss("box", "wiou")
    check_loss("assigner", "siou")
    (row,) = [each for each in listed_components(Selection()) if each.name == "mine"]
    assert words in row.problem
