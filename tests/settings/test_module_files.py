"""A module's file is read in one way, whether it stands in `module=`, `grafts=`, `components=`, `like` or `verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from ablate.__main__ import main
from ablate.settings.graft import GraftSpec
from ablate.settings.option_files import module_file

BLOCKS = """
from torch import nn
class Mine(nn.Module):
    def __init__(self, channels, **options): super().__init__()
"""

# Each as YAML 1.1 or Hydra may read it in a way of its own.
VALUES = [
    *("1e-3", "1E-3", "1.e-3", "010", "0o10", "0x1F", "0b11", "1_000", "1:30", "yes", "no", "on", "off", "~", "null"),
    *("2024-01-01", ".inf", "-.inf", ".5", "+1", "1e", "'1e-3'", "!!str 5", "!!float 1", "12e03", "08", "nan", "-0"),
    *("[1, 2e-3, yes]", "{a: 1e-3, b: no}", "[]", "{}", "1,000", "5 # a comment", '"a # b"', "NO", "y", "'null'"),
]

WAYS = {
    "module": "module=mine",
    "grafts": "grafts=[mine]",
    "components": "components=[mine] design=add_one_in -m",
    "like": "module=convblock module.like=mine",
    "verify": "verify mine",
}

REFUSED = {
    "interpolation": ("insertion: head\ndepth: ${train.imgsz}\n", "depth: ${train.imgsz}: a module file is read by"),
    "relative interpolation": ("insertion: head\na: {b: '${.c}'}\n", "a.b: ${.c}: a module file is read by itself"),
    "environment": ("insertion: head\na: [x, '${oc.env:HOME}']\n", "a: ${oc.env:HOME}: a module file is read by"),
    "defaults": ("insertion: head\ndefaults: [hmha]\n", "defaults: a module file is read by itself"),
    "no plain value": ("insertion: head\na: !!set {b}\n", "conf/module/mine.yaml"),
    "a nested object": (
        "insertion: head\nact: {_target_: torch.nn.SiLU}\n",
        "act._target_: an option is a plain value",
    ),
    "one in a list": ("insertion: head\nact: [{_target_: torch.nn.SiLU}]\n", "act._target_: an option is a plain"),
    "a partial": ("insertion: head\n_partial_: true\n", "_partial_: an option is a plain value, and no object"),
    "arguments": ("insertion: head\n_args_: [1]\n", "_args_: an option is a plain value, and no object"),
    "no value": ("insertion: head\ndepth: ???\n", "depth is missing"),
    "another section": ("insertion: head\n", "# @package train: a module file sets the keys of its module only"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf" / "module").mkdir(parents=True)
    (tmp_path / "file_blocks.py").write_text(BLOCKS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def write(folder: Path, more: str, head: str = "name: mine\n_target_: file_blocks.Mine\n") -> None:
    (folder / "conf" / "module" / "mine.yaml").write_text(head + more, encoding="utf-8")


def test_every_value_is_read_as_hydra_reads_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "insertion: head\n" + "".join(f"v{number}: {text}\n" for number, text in enumerate(VALUES)))

    assert main(["module=mine", "--cfg", "job", "-p", "module"]) == 0
    printed = OmegaConf.to_container(OmegaConf.create(capsys.readouterr().out))

    assert repr(printed) == repr(module_file("mine"))
    assert repr(GraftSpec.from_text("mine").module.to_plain()) == repr(module_file("mine"))
    assert module_file("mine")["v0"] == 0.001
    assert yaml.safe_load(VALUES[0]) == "1e-3", "the reading of a plain YAML loader"


@pytest.mark.security(
    "Module", "A module file makes no objects and reads no environment variables: what asks for it is refused."
)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_refers_to_something_else_is_refused_in_every_way(
    case: str, way: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, expected = REFUSED[case]
    head = "name: mine\n_target_: file_blocks.Mine\n"
    write(folder, more, ("# @package train\n" if case == "another section" else "") + head)
    words = WAYS[way].split()

    code = main(words if way == "verify" else ["plan", *words, "probe=false"])

    printed, errors = capsys.readouterr()
    assert (code, printed) == (2, "")
    assert len(errors.strip().splitlines()) == 1
    assert expected in errors


@pytest.mark.parametrize("way", ["module", "grafts", "components"])
def test_a_file_without_an_insertion_needs_a_place_in_every_way(
    way: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "")

    assert main(["plan", *WAYS[way].split(), "probe=false"]) == 2
    assert "the file of module mine names no" in capsys.readouterr().err
    assert GraftSpec.from_text("mine@c3k2").insertion.name == "c3k2"
