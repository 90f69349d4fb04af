"""`until=decided`: seeds are added until variants are decided, by what the records say and not by when they came."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tests.fixtures.planted_sweeps import COMMAND, TINY, Killed, Machine, Ran, sweeps_in

import ablate
from ablate.analysis.comparison import Comparison, compare
from ablate.findings.all_findings import findings
from ablate.findings.looks_findings import looks_findings
from ablate.monitor.status import show_status
from ablate.records.loading import load_manifest, load_sweep
from ablate.report.figure_list import figure_list, write_figures
from ablate.settings.budget import seconds_of
from ablate.statistics.verdict import Verdict
from ablate.storage.layout import SweepFolder


@dataclass(frozen=True)
class Story:
    """The sweep of `COMMAND`, which several tests look at.

    Attributes:
        folder: The folder whose `here` holds it.
        started: Names of its trials, in order.
        shown: What it printed.
    """

    folder: Path
    started: list[str]
    shown: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder, machine, shown = tmp_path_factory.mktemp("story"), Machine(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown):
        assert sweeps_in(folder, patch)(machine) == 0
    return Story(folder, machine.started, shown.getvalue())


def the_folder(tmp_path: Path, folder: str = "here") -> SweepFolder:
    (path,) = (tmp_path / folder / "multirun" / "sweeps").iterdir()
    return SweepFolder(path)


def compared(tmp_path: Path, folder: str = "here") -> Comparison:
    return compare(load_sweep(the_folder(tmp_path, folder).path))


def verdicts(comparison: Comparison) -> dict[str, tuple[str, int]]:
    """Module -> verdict and number of seeds that it rests on."""
    return {
        row.module: (str(row.difference.verdict), len(row.difference.looks.differences))
        for row in comparison.rows
        if row.difference is not None and row.difference.looks is not None
    }


def test_variants_stop_when_they_are_decided(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compared(story.folder)
    found = verdicts(comparison)
    assert {module: verdict for module, (verdict, _) in found.items()} == {
        "acmix": "equivalent", "sta": "worse", "identity": "equivalent",
    }  # fmt: skip
    assert all(3 <= seeds < 12 for _, seeds in found.values())
    assert found["identity"][1] == 3
    assert len(story.started) == len(set(story.started)) < 4 * 12
    texts = " ".join(finding.text for finding in looks_findings(comparison))
    said = findings(comparison)  # by the looks alone: other tests are for a number of seeds fixed beforehand
    assert [one for one in said if one.claims] == [one for one in looks_findings(comparison) if one.claims]
    assert "Worse: sta@head" in texts
    assert "Equivalent within" in texts
    manifest = load_manifest(the_folder(story.folder))
    assert sorted(manifest.names.values()) == sorted(story.started)
    assert manifest.analysis.tests == 3
    assert "after seed 2: " in story.shown
    assert "sta@head musgd worse (-" in story.shown
    assert "identity@head musgd equivalent" in story.shown

    show_status(the_folder(story.folder).path, Console(width=200))
    shown = capsys.readouterr().out
    assert "worse: sta@head musgd (-" in shown
    assert "equivalent: acmix@" in shown


def test_the_looks_are_a_figure_that_shows_where_and_how_each_variant_was_decided(
    story: Story, swept: Ran, tmp_path: Path
) -> None:
    comparison = compared(story.folder)
    (entry,) = [entry for entry in figure_list(comparison) if entry.name == "looks"]
    drawing = entry.draw()
    assert drawing is not None
    rows = [row for row in comparison.rows if row.difference is not None and row.difference.looks is not None]
    assert drawing.rows == tuple(row.key for row in rows)
    for axes, row in zip(drawing.figure.axes, rows, strict=True):
        assert row.difference is not None
        looks = row.difference.looks
        assert looks is not None
        texts = [axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)]
        assert f"{looks.verdict} after {looks.made[-1].seeds} seeds" in texts
        assert row.label in texts[0].replace("\n", " ")
        dashed = [line for line in axes.lines if line.is_dashed()]
        assert [line.get_xdata()[0] for line in dashed] == [looks.made[-1].seeds]
        assert f"{row.label}: {looks.verdict} after {looks.made[-1].seeds} seeds" in drawing.alt
        for look in looks.made:
            if look.interval is not None:
                low, high = axes.get_ylim()
                drawn = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [look.seeds] * 2]
                ends = [max(look.interval.low, low), min(look.interval.high, high)]
                assert any(list(one) == pytest.approx(ends) for one in drawn)
    assert "±0.02" in drawing.caption
    assert "for all 3 variants together" in drawing.caption

    out = tmp_path / "out"
    out.mkdir()
    pictures, _, problems = write_figures(comparison, out, ["svg"])
    assert not problems
    (picture,) = [picture for picture in pictures if picture.name == "looks"]
    assert picture.alt == drawing.alt
    assert {one.name: one.alt for one in ablate.load_sweep(the_folder(story.folder).path).figures()}[
        "looks"
    ] == drawing.alt
    swept(Machine(), "module=sta", "seed=range(0,3)", *TINY, "-m", folder="fixed")
    (entry,) = [entry for entry in figure_list(compared(tmp_path, "fixed")) if entry.name == "looks"]
    assert entry.draw() is None


def test_what_is_decided_does_not_depend_on_the_order_in_which_trials_end(
    story: Story, swept: Ran, tmp_path: Path
) -> None:
    assert swept(other := Machine(slots=7, order=2)) == 0
    assert other.started != story.started
    assert verdicts(compared(tmp_path)) == verdicts(compared(story.folder))


def test_a_killed_command_goes_on_to_the_same_decisions(story: Story, swept: Ran, tmp_path: Path) -> None:
    begun: list[str] = []
    for kills in range(10):
        machine = Machine(2, kills, kill_after=10)
        try:
            swept(machine)
        except Killed:
            begun += machine.started
            continue
        begun += machine.started
        break
    assert kills > 1
    assert len(begun) == len(set(begun))  # no trial twice
    assert verdicts(compared(tmp_path)) == verdicts(compared(story.folder))
    assert the_folder(tmp_path).path.name == the_folder(story.folder).path.name


def test_a_repeated_command_runs_nothing_and_keeps_its_trials(story: Story, swept: Ran, tmp_path: Path) -> None:
    shutil.copytree(story.folder / "here", tmp_path / "here")
    before = load_manifest(the_folder(tmp_path)).signatures
    again = Machine()
    assert swept(again) == 0
    assert again.started == []
    assert set(load_manifest(the_folder(tmp_path)).signatures) == set(before)


def test_a_failed_seed_ends_a_variant_undecided_and_says_why(swept: Ran, tmp_path: Path) -> None:
    machine = Machine(1, failing="acmix@head musgd s1")
    swept(machine)
    (row,) = [row for row in compared(tmp_path).rows if row.module == "acmix"]
    assert row.difference is not None
    assert row.difference.verdict is Verdict.UNDECIDED
    assert any("seed 1 failed: diverged" in note for note in row.notes)
    assert "acmix@head musgd s3" not in machine.started
    assert verdicts(compared(tmp_path))["sta"][0] == "worse"


def test_a_budget_ends_the_sweep_and_is_counted_across_commands(swept: Ran, tmp_path: Path) -> None:
    words = [*COMMAND[:-1], "budget=1m", "-m"]
    swept(Machine(1, kill_after=10**9), *words)
    folder = the_folder(tmp_path)
    manifest = load_manifest(folder)
    assert manifest.analysis.budget == 60
    assert 0 < manifest.spent_seconds < 60
    content = json.loads(folder.manifest.read_text(encoding="utf-8"))
    folder.manifest.write_text(json.dumps({**content, "spent_seconds": 61}), encoding="utf-8")
    (folder.root.trials / next(iter(manifest.signatures)) / "result.json").unlink()
    (folder.root.trials / next(iter(manifest.signatures)) / "result.backup.json").unlink()
    late = Machine()
    swept(late, *words)
    assert late.started == []
    assert {verdict for verdict, _ in verdicts(compared(tmp_path)).values()} <= {"out of budget"}
    larger = Machine()
    swept(larger, *COMMAND[:-1], "budget=2h", "-m")  # the same sweep goes on
    assert larger.started
    assert len(list((tmp_path / "here" / "multirun" / "sweeps").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["module=hmha", "until=decided", "seed=range(0,3)", "-m"], "seed"),
        (["module=hmha", "until=decided"], "-m"),
        (["optimizer=sgd,musgd", "until=decided", "-m"], "baseline"),
        (["module=hmha", "until=bored", "-m"], "decided"),
        (["module=hmha", "until=decided", "max_seeds=2", "-m"], "max_seeds"),
        (["module=hmha", "until=decided", "budget=8", "-m"], "8h"),
        (["module=hmha", "max_seeds=20", "-m"], "add until=decided"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    words: list[str], said: str, swept: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept(Machine(), *TINY, *words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_name_is_not_given_to_two_declarations(swept: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["module=hmha", "until=decided", "delta=0.02", "sweep=mine", *TINY, "-m"]
    assert swept(Machine(), *words) == 0
    assert swept(Machine(), *words) == 0
    assert swept(Machine(), *words[:2], "delta=0.03", *words[3:]) == 2
    assert "sweep mine was declared with delta=0.02" in capsys.readouterr().err
    capsys.readouterr()
    assert swept(Machine(), "module=acmix", *words[1:]) == 2
    assert "other variants" in capsys.readouterr().err


def test_a_growing_number_of_seeds_is_noticed_and_gets_a_valid_p_value(
    swept: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seeds in (2, 3, 4):
        swept(Machine(), "module=sta", f"seed=range(0,{seeds})", *TINY, "-m")
        folders = [SweepFolder(path) for path in (tmp_path / "here" / "multirun" / "sweeps").iterdir()]
        (folder,) = [folder for folder in folders if len(load_manifest(folder).signatures) == 2 * seeds]
        folder.report("html").write_text("reported", encoding="utf-8")
        shown = capsys.readouterr().out
        assert ("20 % false alarms" in shown) == (seeds > 2)
    assert load_manifest(folder).looks == (2, 3)
    comparison = compare(load_sweep(folder.path))
    (row,) = [row for row in comparison.rows if row.difference is not None]
    assert row.difference is not None
    assert row.difference.p_value is not None
    assert row.difference.p_sequential is not None
    assert row.difference.p_sequential > row.difference.p_value
    (finding,) = looks_findings(comparison)
    assert "2 and 3 seeds" in finding.text

    swept(Machine(), "module=hmha", "seed=range(0,4)", *TINY, "-m")  # another comparison
    assert "20 % false alarms" not in capsys.readouterr().out


def test_budgets_are_minutes_hours_or_days() -> None:
    assert [seconds_of(text) for text in ("30m", "8h", "2d", "1.5h")] == [1800, 28800, 172800, 5400]
