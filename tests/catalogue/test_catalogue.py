"""The catalogue lists what there is from files alone; of each module what it costs, or why it cannot be built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.__main__ import main

BLOCKS = """
from torch import nn
class Gate(nn.Module):
    def __init__(self, channels, odd: bool = False):
        super().__init__()
        if odd:
            raise ValueError("channels must be odd")
        self.weigh = nn.Conv2d(channels, channels, 1, bias=False)
    def forward(self, x):
        return x * self.weigh(x).sigmoid()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules of the user's: a good one, one that cannot be built, one of a missing package."""
    folder = tmp_path / "conf" / "module" / "lab"
    folder.mkdir(parents=True)
    for name, target, more in (
        ("gate", "lab_gates.Gate", "odd: false\nabout: {family: attention, paper: 'ours, 2026'}\n"),
        ("odd", "lab_gates.Gate", "odd: true\n"),
        ("absent", "no_such_package.Gate", ""),
    ):
        text = f"name: lab/{name}\n_target_: {target}\ninsertion: head\n{more}"
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "lab_gates.py").write_text(BLOCKS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, object]]:
    assert main(["catalogue", *words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["components"]
    return {f"{row['name']}@{row['point']}": row for row in rows}


def test_modules_and_losses_are_listed_with_kind_family_and_paper(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = listed(capsys)

    assert rows["hmha@c3k2"]["family"] == "attention"
    assert rows["wiou@box"]["kinds"] == ["box"]
    assert rows["ciou@box"]["kinds"] == ["box", "assigner"]
    assert (rows["lab/gate@head"]["kinds"], rows["lab/gate@head"]["paper"]) == (["insert"], "ours, 2026")
    assert "no_such_package" in str(rows["lab/absent@head"]["problem"])
    assert all(row["kinds"] and row["point"] for row in rows.values())


def test_filters_and_names_select(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(listed(capsys, "lab/g*")) == {"lab/gate@head"}
    assert {row["family"] for row in listed(capsys, "family=attention,mixer").values()} == {"attention", "mixer"}
    kinds = [row["kinds"] for row in listed(capsys, "kind=cls").values()]
    assert kinds
    assert all(kind == ["cls"] for kind in kinds)
    assert set(listed(capsys, "point=head", "lab/*", "hmha")) == {"lab/gate@head", "lab/odd@head", "lab/absent@head"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("hmah", "'hmah': no module or loss. did you mean 'hmha'?"),
        ("family=atention", "did you mean 'attention'? valid: attention"),
        ("kind=downsampling", "did you mean 'downsample'?"),
        ("kind=", "a value is needed"),
        ("famly=mixer", "no such filter. did you mean 'family'?"),
        ("--mesure", "no such flag: --mesure. did you mean '--measure'?"),
    ],
)
def test_what_is_not_there_is_one_line(word: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", word]) == 2
    out, errors = capsys.readouterr()
    assert (out, len(errors.strip().splitlines())) == ("", 1)
    assert expected in errors


def test_listing_imports_neither_torch_nor_a_module_s_file(own: Path) -> None:
    (own / "lab_gates.py").write_text(f"raise SystemExit('imported')\n{BLOCKS}")
    code = (
        "import sys; from ablate.__main__ import main; code = main(['catalogue', 'lab/*', 'family=attention'])\n"
        "sys.exit(code or str({'torch', 'ultralytics', 'mlflow', 'lab_gates'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "lab/gate" in done.stdout
    assert done.stderr.strip() == ""


def test_a_reader_that_goes_away_ends_it_quietly(own: Path) -> None:
    command = [sys.executable, "-m", "ablate", "catalogue"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_figures_are_counted_once_and_a_module_that_cannot_be_built_says_why(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = listed(capsys, "lab/*", "--measure")

    gate = rows["lab/gate@head"]
    assert gate["params_added"] == 64**2 + 128**2 + 256**2  # a 1x1 convolution on each input of YOLO26n's Detect
    assert gate["places"] == 3
    assert isinstance(gate["latency_ratio"], float)
    assert 0.8 < gate["latency_ratio"] < 2
    assert "channels must be odd" in str(rows["lab/odd@head"]["problem"])
    (own / "lab_gates.py").touch()  # as it was: from the cache
    assert listed(capsys, "lab/gate", "--figures")["lab/gate@head"] == gate
