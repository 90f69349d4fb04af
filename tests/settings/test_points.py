"""An insertion point has a kind, a module's file says what the module can be, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.__main__ import main
from ablate.errors import ConfigError
from ablate.settings.about import KINDS
from ablate.settings.graft import GraftSpec, InsertionSpec, split
from ablate.settings.module_checks import check_module
from ablate.settings.point_checks import check_kind, check_points
from ablate.settings.points import POINTS, point_of, points_for
from ablate.settings.schema import InsertionConfig, option_file, options
from ablate.settings.trial_settings import TrialSettings

BLOCKS = """
from torch import nn
class Layer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, *, width: int = 1): super().__init__()
    def forward(self, x): return x
class Adapter(nn.Module):
    def __init__(self, channels): super().__init__()
    def forward(self, x): return x
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "layers_of_mine.py").write_text(BLOCKS)
    (tmp_path / "conf" / "module").mkdir(parents=True)
    kinds = {"lower": "downsample", "body": "block", "both": "[block, downsample]", "added": "insert"}
    for name, kind in kinds.items():
        text = f"name: {name}\n_target_: layers_of_mine.Layer\ninsertion: down\nwidth: 2\nabout: {{kind: {kind}}}\n"
        (tmp_path / "conf" / "module" / f"{name}.yaml").write_text(text)
    (tmp_path / "conf" / "module" / "silent.yaml").write_text("name: silent\n_target_: layers_of_mine.Layer\n")
    top = "name: top\n_target_: layers_of_mine.Adapter\nabout: {kind: head}\n"
    (tmp_path / "conf" / "module" / "top.yaml").write_text(top)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_point_has_a_file_and_every_kind_a_point() -> None:
    assert set(options("insertion")) - {"customary"} == set(POINTS)
    assert all(option_file("insertion", name)["name"] == name for name in POINTS)
    assert {point.kind for point in POINTS.values()} == set(KINDS)


def test_layers_by_index_are_followed_or_replaced() -> None:
    followed, replaced = GraftSpec.from_text("hmha@4+6"), GraftSpec.from_text("identity@replace_layer4+6")
    assert (followed.insertion.name, followed.insertion.at, followed.kind) == ("layer4+6", (4, 6), "insert")
    assert (replaced.insertion.name, replaced.insertion.at, replaced.kind) == ("replace_layer4+6", (4, 6), "block")
    assert GraftSpec.from_plain(replaced.to_plain()) == replaced
    assert GraftSpec.from_text(replaced.text) == replaced
    assert point_of("layers") is None
    named = InsertionSpec.from_plain({"name": "customary"}, "replace_layer6+8")
    assert named == InsertionSpec("replace_layer6+8", (6, 8))


def test_kinds_are_read_from_the_file_and_are_no_option(folder: Path) -> None:
    graft = GraftSpec.from_text("both@down")
    assert graft.module.kinds == ("block", "downsample")
    assert graft.module.options == {"width": 2}
    assert "about" not in str(graft.to_plain()) + graft.text + str(graft.key)
    assert GraftSpec.from_text("silent@down").module.kinds is None
    assert points_for(("downsample",)) == ["down", "down_backbone", "down_neck", "down_stem", "replace_layer"]


def test_a_head_is_a_graft_at_detect(folder: Path) -> None:
    (folder / "conf" / "module" / "heads.yaml").write_text("name: heads\n_target_: layers_of_mine.Layer\nwidth: 1\n")
    plain = {"data": {"name": "shapes"}, "head": "heads[width=3]"}
    settings = TrialSettings.from_plain(plain)
    assert [graft.text for graft in settings.grafts] == ["heads[width=3]@detect"]
    assert TrialSettings.from_plain(settings.to_plain()) == settings
    with pytest.raises(ConfigError, match="a head goes to detect"):
        GraftSpec.from_head("heads@neck_p3")


REFUSED = {
    "grafts=[lower@c3k2]": "kind downsample, and c3k2 takes kind insert; lower fits down, down_backbone",
    "grafts=[body@down]": "body is of kind block, and down takes kind downsample",
    "grafts=[added@up]": "added is of kind insert, and up takes kind upsample",
    "module=lower insertion=sppf": "lower is of kind downsample, and sppf takes kind block",
    "module=lower insertion=down insertion.wiring=rezero": "wiring=rezero: only a module that is inserted",
    "grafts=[lower@down,both@down]": "both replace the same layers",
    "grafts=[lower@down,both@down_neck]": "down replaces the layers of down_neck as well",
    "grafts=[body@c3k2_block,both@bottleneck]": "c3k2_block replaces the layers of bottleneck as well",
    "grafts=[body@c2psa,both@psa_attention]": "c2psa replaces the layers of psa_attention as well",
    "grafts=[body@replace_layer4+6,both@replace_layer6]": "both replace the same layers",
    "grafts=[body@c3k2_block,hmha@c3k2]": "the places of c3k2 are inside of the layers that c3k2_block replaces",
    "grafts=[top@detect] head=top": "a network has one head",
    "grafts=[body@replace_layer]": "it needs the layers to replace",
    "module=body insertion=sppf module.about.kind=down": "module.about: it describes the module in its file",
    "module=bad": "about.kind=down: did you mean 'downsample'?",
}


WHOLE = ("grafts=[lower@c3k2]", "grafts=[lower@down,both@down]", "grafts=[body@replace_layer]")  # whole commands


def checked(grafts: list[GraftSpec]) -> None:
    for graft in grafts:
        check_kind(graft)
    check_points(grafts)


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_one_line(words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = "name: bad\n_target_: layers_of_mine.Layer\nabout: {kind: down}\n"
    (folder / "conf" / "module" / "bad.yaml").write_text(bad)
    if words.startswith("grafts=") and "head=" not in words and words not in WHOLE:
        grafts = [GraftSpec.from_text(text) for text in split(words.removeprefix("grafts=[").removesuffix("]"))]
        with pytest.raises(ConfigError) as refused:
            checked(grafts)
        error = f"{refused.value}\n"
    else:
        assert main(words.split()) == 2
        error = capsys.readouterr().err
    assert REFUSED[words] in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", ["lower@down", "both@bottleneck_conv", "silent@sppf", "added@sppf", "body@sppf"])
def test_what_a_constructor_gets_from_the_replaced_layer_needs_no_value(words: str, folder: Path) -> None:
    graft = GraftSpec.from_text(words)
    check_module(graft.module.to_plain(), "grafts: ", InsertionConfig(**graft.insertion.to_plain()))
