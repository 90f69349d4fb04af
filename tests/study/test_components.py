"""Components of every kind: modules at points, losses, heads; what cannot be combined is one line before anything."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import ConfigError
from ablate.settings.schema import Config
from ablate.study.designs import Layout, lay_out


def study(design: str, *components: str, loss: dict[str, str] | None = None, **axes: str) -> Layout:
    settings: dict[str, Any] = {**asdict(Config()), "design": design, "components": list(components)}
    settings["loss"] = settings["loss"] | (loss or {})
    return lay_out({key: [f"{key}={level}" for level in text.split(",")] for key, text in axes.items()}, settings)


def test_losses_and_replacements_are_components_beside_grafts() -> None:
    layout = study("leave_one_out", "adown@down", "wiou[delta=2]@box", "focal@cls", "siou@assigner", "hmha@c3k2")

    assert layout.components == ["adown@down", "wiou[delta=2]@box", "focal@cls", "siou@assigner", "hmha@c3k2"]
    assert layout.cells[0] == ()
    assert layout.cells[1] == (
        "loss.box='wiou[delta=2]'", "loss.cls=focal", "loss.assigner=siou", "grafts=['adown@down','hmha@c3k2']",
    )  # fmt: skip
    assert layout.cells[3] == ("loss.cls=focal", "loss.assigner=siou", "grafts=['adown@down','hmha@c3k2']")
    assert [marks.count(True) for marks in layout.marks] == [0, 5, 4, 4, 4, 4, 4]


def test_a_loss_may_be_written_as_an_override_and_a_head_as_a_key(tmp_path: Path) -> None:
    layout = study("add_one_in", "loss.box=wiou", "head=dyhead")

    assert layout.cells[-1] == ("loss.box=wiou", "grafts=['dyhead@detect']")


def test_without_a_loss_a_variant_has_the_command_s() -> None:
    layout = lay_out(
        {"loss.box": ["loss.box=siou"]},
        {**asdict(Config()), "design": "add_one_in", "components": ["wiou@box", "hmha@head"]}
        | {"loss": asdict(Config())["loss"] | {"box": "siou"}},
    )

    assert layout.cells == [
        ("loss.box=siou",),
        ("loss.box=wiou",),
        ("loss.box=siou", "grafts=['hmha@head']"),
        ("loss.box=wiou", "grafts=['hmha@head']"),
    ]


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        (("hmha@box", "wiou@box"), "hmha is a module, and box takes a loss: "),
        (("wiou@down", "hmha@c3k2"), "wiou is a loss; as a component it is wiou@box"),
        (("focal@box", "hmha@c3k2"), "focal is a loss of cls"),
        (("wiou@assigner", "hmha@c3k2"), "wiou has none"),
        (("wou@box", "hmha@c3k2"), "no such loss. did you mean 'wiou'?"),
        (("wiou[@box", "hmha@c3k2"), "components: 'wiou[@box'"),
        (("wiou@box", "siou@box"), "both set loss.box: no variant can have both"),
        (("wiou@box", "loss.box=wiou"), "are the same"),
        (("ciou@box", "hmha@c3k2"), "without it a variant has loss.box=ciou all the same"),
        (("adown@up", "hmha@c3k2"), "components: adown@up: adown is of kind downsample, and up takes kind upsample"),
        (("adown@down", "scdown@down_neck"), "components: adown@down and scdown@down_neck: down replaces"),
        (("adown@down", "spdconv@down"), "both replace the same layers"),
        (("loss=wiou", "hmha@c3k2"), "a loss wiou@box"),
        (("hmah@c3k2", "wiou@box"), "did you mean 'hmha'? A component is a module at a point"),
    ],
)
def test_what_cannot_be_meant_is_one_line(components: tuple[str, ...], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        study("leave_one_out", *components)

    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_loss_that_is_swept_is_no_component() -> None:
    with pytest.raises(ConfigError, match=r"'wiou@box' sets loss\.box, which is swept as well"):
        lay_out(
            {"loss.box": ["loss.box=siou", "loss.box=giou"]},
            {**asdict(Config()), "design": "add_one_in", "components": ["wiou@box", "hmha@head"]},
        )


def test_the_baseline_of_a_loss_joins_by_itself() -> None:
    layout = study("product", **{"loss.box": "wiou,siou", "optimizer": "sgd"})

    assert [cell for cell, joined in zip(layout.cells, layout.joined, strict=True) if joined] == [
        ("module=none", "optimizer=sgd")
    ]
    assert len(layout.cells) == 3
