"""A glob means the modules that match, fit the insertion points of the command and are of the families named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.__main__ import main
from ablate.cli.module_glob import expand_glob
from ablate.errors import ConfigError
from ablate.settings.about import FAMILIES
from ablate.settings.option_files import about_module
from ablate.settings.schema import CONTROL_MODULES, conf_dir


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with modules of two kinds and families in a folder of the user's own."""
    folder = tmp_path / "conf" / "module" / "lab"
    folder.mkdir(parents=True)
    for name, about in {"gate": "attention", "mix": "mixer", "shrink": "downsampler, kind: downsample"}.items():
        text = f"name: lab/{name}\n_target_: torch.nn.Identity\ninsertion: head\nabout: {{family: {about}}}\n"
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def meant(*words: str) -> set[str]:
    (module, *_) = expand_glob(words)
    return set(module.removeprefix("module=choice(").removesuffix(")").split(","))


def test_a_star_stands_for_no_slash() -> None:
    at_the_top = {path.stem for path in (conf_dir() / "module").glob("*.yaml")} - {"none", *CONTROL_MODULES}

    assert meant("module=glob(*)") <= at_the_top
    assert {"hmha", "acmix", "adown"} <= meant("module=glob(*)")
    assert meant("module=glob(lab/*)") == {"lab/gate", "lab/mix", "lab/shrink"}
    assert meant("module=glob([lab/*,hm*],exclude=[lab/s*])") == {"hmha", "lab/gate", "lab/mix"}


def test_controls_are_never_matched() -> None:
    assert {about_module(name).family for name in meant("module=glob(*)")} <= {*FAMILIES, ""} - {"control"}


def test_only_what_fits_every_insertion_point_is_meant() -> None:
    assert meant("module=glob(lab/*)", "insertion=c3k2,head") == {"lab/gate", "lab/mix"}
    assert meant("module=glob(lab/*)", "insertion=down") == {"lab/shrink"}
    assert all("downsample" in about_module(name).kinds for name in meant("module=glob(*)", "insertion=down_neck"))


@pytest.mark.parametrize("words", [("family=attention,mixer",), ("family=[attention,mixer]",)])
def test_families_select(words: tuple[str, ...]) -> None:
    expanded = expand_glob(["module=glob(lab/*)", *words, "seed=0,1"])

    assert expanded == ["module=choice(lab/gate,lab/mix)", "seed=0,1"]
    assert meant("module=glob(lab/*)", "kind=downsample") == {"lab/shrink"}


def test_losses_and_heads_are_matched_too() -> None:
    (box, head) = expand_glob(["loss.box=glob(*iou)", "head=glob(d*)"])

    assert {"ciou", "wiou", "siou"} <= set(box.removeprefix("loss.box=choice(").removesuffix(")").split(","))
    assert head == "head=choice(dyhead)"
    (cls,) = expand_glob(["loss.cls=glob(*)"])
    assert "focal" in cls
    assert "identity" not in cls


def test_words_without_a_glob_stay_as_they_are() -> None:
    words = ["module=hmha,acmix", "insertion=head", "+x=glob(", "seed=range(0,3)"]
    assert expand_glob(words) == words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("module=glob(lab/*) family=atention", "family=atention: did you mean 'attention'? valid: attention, mixer"),
        ("module=glob(lab/*) family=", "family=: a value is needed; valid: attention"),
        ("module=hmha family=attention", "it selects from what a glob of modules matches: 'module=glob(*)' family="),
        ("loss.box=glob(*) kind=head", "kind=head: it selects from what a glob of modules matches"),
        ("module=glob(lab/*) family=fusion", "no module that matches fits; those that match are of: attention, down"),
        ("module=glob(x*)", "it matches no option; valid: acmix"),
    ],
)
def test_what_selects_nothing_is_one_line(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$"):
        expand_glob(words.split())
    assert main(["plan", *words.split(), "-m"]) == 2
    out, errors = capsys.readouterr()
    assert (out, len(errors.strip().splitlines())) == ("", 1)
    assert expected in errors
