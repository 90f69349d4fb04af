"""A file of the user's in ./conf that is not what its group needs is one line that names it, and nothing runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ablate.__main__ import main
from ablate.settings.graft import GraftSpec
from ablate.settings.schema import options
from ablate.storage.yaml_files import YamlFileError, read_mapping

BLOCKS = """
from torch import nn
class Mine(nn.Module):
    def __init__(self, channels, depth: int = 1): super().__init__()
class Loose(nn.Module):
    def __init__(self, channels, **options): super().__init__()
class Needs(nn.Module):
    def __init__(self, channels, depth): super().__init__()
class Without(nn.Module):
    def __init__(self): super().__init__()
class Inherits(nn.Module):
    def forward(self, x): return x
class Plain:
    def __init__(self, channels): pass
class PlainTwice(Plain): pass
"""


def module(target: str = "my_blocks.Mine", name: str = "mine", more: str = "insertion: head\n") -> str:
    return f"name: {name}\n_target_: {target}\n{more}"


# The file, its content, the words that choose it, and what is said.
CASES: dict[str, tuple[str, str | bytes, str, str]] = {
    "empty": ("module/mine", "", "module=mine", "conf/module/mine.yaml is empty; a module file needs name, _target_"),
    "comments only": ("module/mine", "# to do\n", "module=mine", "conf/module/mine.yaml is empty"),
    "no target": ("module/mine", "name: mine\ninsertion: head\n", "module=mine", "_target_ is missing; a module file"),
    "target misspelt": ("module/mine", "name: mine\n_targt_: a.B\n", "module=mine", "(is '_targt_' meant to be it?)"),
    "target without _": ("module/mine", "name: mine\ntarget: a.B\n", "module=mine", "(is 'target' meant to be it?)"),
    "target null": ("module/mine", module("null"), "module=mine", "_target_ has no value"),
    "target a list": ("module/mine", module("[a]"), "module=mine", "_target_: ['a'] is no dotted path"),
    "no name": ("module/mine", "_target_: my_blocks.Mine\ninsertion: head\n", "module=mine", "name is missing"),
    "another name": ("module/mine", module(name="hmha"), "module=mine", "it must be that of the file: name: mine"),
    "no insertion": ("module/mine", module(more=""), "module=mine", "insertion is missing"),
    "insertion's key misspelt": ("module/mine", module(more="insertoin: head\n"), "module=mine", "mean 'insertion'?"),
    "insertion misspelt": ("module/mine", module(more="insertion: haed\n"), "module=mine", "did you mean 'head'?"),
    "option misspelt": ("module/mine", module(more="insertion: head\ndepht: 2\n"), "module=mine", "mean 'depth'?"),
    "unknown file": ("module/mine", module("my_block.Mine"), "module=mine", "did you mean 'my_blocks'?"),
    "too deep": ("module/mine", module("my_blocks.Mine.x"), "module=mine", "Mine.x' cannot be imported: type "),
    "a script": ("module/mine", module("script.Mine"), "module=mine", "ends the process when it is imported"),
    "unknown class": ("module/mine", module("my_blocks.Min"), "module=mine", "did you mean 'Mine'?"),
    "no nn.Module": ("module/mine", module("my_blocks.Plain"), "module=mine", "is no torch.nn.Module"),
    "none by its base": ("module/mine", module("my_blocks.PlainTwice"), "module=mine", "it derives from Plain"),
    "no forward": ("module/mine", module("my_blocks.Without"), "module=mine", 'missing the required "forward"'),
    "an option is missing": ("module/mine", module("my_blocks.Needs"), "module=mine", "module.depth: my_blocks.Needs"),
    "any keyword": ("module/mine", module("my_blocks.Loose", more="insertio: head\n"), "module=mine insertion=head",
                    "did you mean 'insertion'?"),
    "a list": ("module/mine", "- name: mine\n", "module=mine", "it holds a list; a mapping is needed"),
    "a key twice": ("module/mine", module(more="name: mine\n"), "module=mine", "line 3: the key 'name' is there"),
    "a tab": ("module/mine", "name: mine\n\t_target_: a.B\n", "module=mine", "line 2: a tab, where YAML needs spaces"),
    "another encoding": ("module/mine", "name: mine # ä".encode("latin-1"), "module=mine", "byte 14 is no UTF-8"),
    "UTF-16": ("module/mine", "name: mine".encode("utf-16"), "module=mine", "is no UTF-8"),
    "in a sweep": ("module/mine", "", "module=hmha,mine", "conf/module/mine.yaml is empty"),
    "by a pattern": ("module/mine", "", "module=glob(m*)", "conf/module/mine.yaml is empty"),
    "among grafts": ("module/mine", "", "grafts=[mine@head]", "conf/module/mine.yaml is empty"),
    "as a component": ("module/mine", "", "design=add_one_in components=[mine@head,hmha]", "mine.yaml is empty"),
    "as what a block is like": ("module/mine", "", "module=convblock module.like=mine", "mine.yaml is empty"),
    "about a text": ("module/mine", module(more="insertion: head\nabout: new\n"), "module=mine", "about: new: a map"),
    "about, key": ("module/mine", module(more="about: {famly: mixer}\n"), "module=mine", "about.famly: no such"),
    "about, family": ("module/mine", module(more="about: {family: mixr}\n"), "module=mine", "you mean 'mixer'?"),
    "about, kind": ("module/mine", module(more="about: {kind: [block, dwn]}\n"), "module=mine", "kind=dwn: valid:"),
    "about, no kind": ("module/mine", module(more="about: {kind: []}\n"), "module=mine", "at least one kind"),
    "about, paper": ("module/mine", module(more="about: {paper: 2023}\n"), "module=mine", "paper=2023: a text is"),
    "in a subfolder": ("module/lab/mine", module(), "module=lab/mine", "it must be that of the file: name: lab/mine"),
    "a name of ours": ("module/hmha", module(name="hmha"), "module=hmha", "is never read: ablate has an option"),
    "optimizer": ("optimizer/fast", "name: SGD\nlr: 0.1\n", "optimizer=fast", "conf/optimizer/fast.yaml: lr: no such"),
    "optimizer empty": ("optimizer/fast", "", "optimizer=fast", "conf/optimizer/fast.yaml is empty; valid keys: name"),
    "insertion": ("insertion/early", "name: c3k2\nwirng: plain\n", "insertion=early", "did you mean 'wiring'?"),
    "data": ("data/cells", "name: cells\npth: x.yaml\n", "data=cells", "conf/data/cells.yaml: pth: no such key"),
    "model": ("model/small", "name: small\nweight: x.pt\n", "model=small", "did you mean 'weights'?"),
    "train": ("train/long", "epohcs: 3\n", "train=long", "conf/train/long.yaml: epohcs: not an Ultralytics training"),
    "train's lr0": ("train/long", "lr0: 0.1\n", "train=long", "conf/train/long.yaml: lr0: set it with optimizer.lr0"),
    "train elsewhere": ("train/long", "# @package nowhere.x\nepochs: 3\n", "train=long", "Key 'nowhere' not in"),
    "a number as name": ("module/5", module(name="5"), "module=5", "begins with a letter"),
    "a number as name of a graft": ("module/5", module(name="5"), "grafts=[5@head]", "5 is no text; file and name"),
    "train twice": ("train/long", "epochs: 3\nepochs: 4\n", "train=long", "line 2: the key 'epochs' is there already"),
    "train for all": ("train/long", "# @package _global_\ntrian:\n  epochs: 3\n", "train=long", "you mean 'train'?"),
    "train for all, inside": ("train/long", "# @package _global_\noptimizer:\n  lr: 3\n", "train=long", "r.lr:"),
    "tracking": ("tracking/mine", "name: mine\nurl: http://x\n", "tracking=mine", "did you mean 'uri'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_is_not_what_its_group_needs_is_named(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, words, expected = CASES[case]
    path = tmp_path / "conf" / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "my_blocks.py").write_text(BLOCKS)
    (tmp_path / "script.py").write_text(f"{BLOCKS}\nraise SystemExit(2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    code = main(["plan", *words.split(), "probe=false", "latency.enabled=false"])

    out, errors = capsys.readouterr()
    assert (code, out) == (2, ""), errors
    assert expected in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_module_s_file_may_be_in_a_subfolder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "conf" / "module" / "lab" / "deep" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(module("my_blocks.Mine", "lab/deep/mine", "insertion: head\ndepth: 1\n"), encoding="utf-8")
    (tmp_path / "my_blocks.py").write_text(BLOCKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    assert "lab/deep/mine" in options("module")
    assert main(["module=lab/deep/mine", "--cfg", "job", "-p", "module.name"]) == 0
    assert capsys.readouterr().out.strip() == "lab/deep/mine"
    graft = GraftSpec.from_text("lab/deep/mine[depth=2]@c3k2")
    assert (graft.text, graft.module.options) == ("lab/deep/mine[depth=2]@c3k2", {"depth": 2})
    assert main(["plan", "module=lab/deep/min", "-m"]) == 2
    assert "did you mean 'lab/deep/mine'?" in capsys.readouterr().err


def test_a_file_that_nobody_chose_keeps_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "module").mkdir(parents=True)
    (tmp_path / "conf" / "module" / "broken.yaml").write_text("\t")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    assert main(["module=identity", "--cfg", "job", "-p", "module.name"]) == 0
    assert capsys.readouterr().out.strip() == "identity"

    assert main(["plan", "module=identity", "exclude=[{modul: x}]"]) == 2
    assert "exclude: modul: no such key" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"a: [1\n", b"a: *x\n", b"a: !!python/name:os.system x\n", b"a: 1\n---\nb: 2\n", b"\x00", b"1: 2\n", b"x"],
)
def test_what_is_no_mapping_of_texts_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)

    with pytest.raises(YamlFileError, match=r"^conf/odd\.yaml[:,]") as refused:
        read_mapping(path, "conf/odd.yaml")
    assert "\n" not in str(refused.value)


def test_numbers_are_read_as_hydra_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1e-3\nb: 10\nc: .5\nd: true\ne: null\n")

    assert read_mapping(path) == {"a": 0.001, "b": 10, "c": 0.5, "d": True, "e": None}
