"""What the README says works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.cli.verbs import VERBS
from ablate.settings.schema import options

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.split("#")[0])[3:]
    for line in README.splitlines()
    if line.startswith("python -m ablate ") and not re.search(r"data\.path|--help|ablate status", line)
]
SMALL = ["data.train_images=8", "data.val_images=4", "data.imgsz=64", "train.imgsz=64"]
Ablate = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_plans(words: list[str], ablate_here: Ablate) -> None:
    command = [word for word in words if word not in ("plan", "-m")]
    done = ablate_here("plan", *command, *SMALL, "--json", "probe=false")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"] > 1


def test_the_example_of_an_own_module_is_enough(ablate_warm: Ablate, tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n# (conf/module/mine\.yaml).*?\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "conf" / "module").mkdir(parents=True)
    (tmp_path / example[0]).write_text(example[1], encoding="utf-8")
    source = "from torch import nn\n\n\nclass MyAttention(nn.Module):\n"
    source += "    def __init__(self, channels: int, heads: int = 4):\n        super().__init__()\n"
    source += "        self.mix = nn.Conv2d(channels, channels, 1, groups=heads)\n\n"
    source += "    def forward(self, x):\n        return x + self.mix(x)\n"
    (tmp_path / "my_blocks.py").write_text(source, encoding="utf-8")

    done = ablate_warm("plan", "module=mine,hmha", *SMALL, "--json", "probe=false")

    assert done.returncode == 0, done.stderr
    assert {trial["factors"]["module"] for trial in json.loads(done.stdout)["trials"]} == {"none", "mine", "hmha"}


@pytest.mark.parametrize("group", ["module", "insertion", "optimizer", "data", "train", "tracking"])
def test_every_option_of_a_group_is_listed(group: str) -> None:
    (row,) = re.findall(rf"^\| `{group}` \|(.*)\|$", README, flags=re.MULTILINE)
    # of the modules those of the first release; `ablate catalogue` lists the others
    for option in ("none", "hmha", "acmix", "sta", "hat") if group == "module" else options(group):
        assert option in row or re.sub(r"p\d$", "p", option) in row.replace("_p3", "_p")


def test_every_verb_is_listed() -> None:
    for verb in VERBS:
        assert f"| `{verb}" in README


ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/README.md")])


def sections(page: Path) -> set[str]:
    """The names by which a link points to a heading of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_and_pages_that_a_page_points_to_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)h][^)]*)\)", text) + re.findall(r'src="([^"]+)"', text):
        name, _, section = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not section or section in sections(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_the_same_in_bash_and_zsh(page: Path) -> None:
    """A pattern that matches no file is an error in zsh, where bash passes it on."""
    for line in page.read_text(encoding="utf-8").splitlines():
        code = line.strip().removeprefix("$ ").split(" #")[0]
        is_usage = re.search(r"\[sweep\]|<\w+>", code)
        if code.startswith("python -m ablate ") and not is_usage:
            assert not re.search(r"[][*?()]", re.sub(r"'[^']*'|\"[^\"]*\"", "", code)), line
