"""The analysis is declared before the results: a sweep with results takes no other, and a late one is told."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.execution.test_plan import trial as make_trial
from tests.fixtures.planted_sweeps import TINY, Machine, Ran

from ablate.analysis.comparison import compare
from ablate.errors import ConfigError
from ablate.execution.manifest import open_sweep, sweep_name
from ablate.findings.all_findings import sentences
from ablate.records.judged import sweep_as_chosen
from ablate.records.loading import load_manifest, load_record, load_sweep, save_record
from ablate.records.sweep_record import AnalysisPlan
from ablate.report.captions import accuracy_caption
from ablate.report.terminal_table import print_table
from ablate.report.write import as_json, csv_text, markdown
from ablate.storage.layout import SweepFolder
from ablate.storage.locking import lock
from ablate.study.trial import Trial

replace_record = msgspec.structs.replace
STA = ["module=sta", "seed=range(0,3)", *TINY, "-m"]


class Clocked(Machine):
    """A machine whose trials end now."""

    def _train(self, job: Any) -> Any:
        outcome, folder = super()._train(job), job.planned.trial.folder
        ended = replace_record(load_record(folder), finished=datetime.now(UTC).isoformat())
        save_record(folder, ended)
        return outcome


def the_sweep(tmp_path: Path, name: str) -> SweepFolder:
    return SweepFolder(tmp_path / "here" / "multirun" / "sweeps" / name)


def by(trial: Trial, metric: str) -> Trial:
    return replace(trial, settings=replace(trial.settings, command=replace(trial.settings.command, metric=metric)))


def test_the_manifest_has_the_metric_and_another_one_is_another_declaration_as_long_as_nothing_is_known(
    tmp_path: Path,
) -> None:
    trial = make_trial(tmp_path, "none")
    folder = open_sweep([by(trial, "map50")], ["module=none"])
    assert load_manifest(folder).analysis.metric == "map50"
    open_sweep([trial], ["module=none"])
    assert load_manifest(folder).analysis.metric == "map50_95"


def test_a_sweep_with_results_takes_no_other_metric(tmp_path: Path) -> None:
    trial = make_trial(tmp_path, "none")
    folder = open_sweep([trial], ["module=none"])
    result = folder.trial(trial.identity.signature).result
    result.parent.mkdir(parents=True)
    result.write_text("{}", encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        open_sweep([by(trial, "map50")], ["module=none"])

    message = str(caught.value)
    assert "metric=map50_95 and has results" in message
    assert f"report {folder.path.name} metric=map50" in message
    assert "\n" not in message
    assert load_manifest(folder).analysis.metric == "map50_95"
    open_sweep([trial], ["module=none"])


def test_trials_are_the_same_whatever_they_are_compared_by(tmp_path: Path) -> None:
    trial = make_trial(tmp_path, "none")
    assert Trial.of(by(trial, "recall").settings, trial.data).identity == trial.identity


def test_a_sweep_whose_seeds_are_added_has_its_old_name_and_another_one_by_another_metric() -> None:
    factors = {"module": "hmha", "insertion": "c3k2", "optimizer": "sgd", "model": "yolo26n", "data": "shapes"}
    trials: Any = [SimpleNamespace(identity=SimpleNamespace(signature="ab" * 32, factors=factors))]
    plan = AnalysisPlan(delta=0.02, until="decided", max_seeds=6, budget=60.0, tests=2)
    other = AnalysisPlan(delta=0.02, until="decided", max_seeds=6, budget=60.0, tests=2, metric="map50")
    assert sweep_name(trials, plan=plan) == "hmha_shapes_yolo26n_3da873"
    assert sweep_name(trials, plan=other) != sweep_name(trials, plan=plan)


@pytest.mark.parametrize(
    ("words", "old", "shown"),
    [
        (["delta=0.02"], "no delta", "delta=0.02"),
        (["judge=last"], "judge=best", "judge=last"),
        (["metric=map50", "delta=0.02"], "metric=map50_95, no delta", "metric=map50 delta=0.02"),
    ],
)
def test_a_sweep_with_results_takes_no_other_declaration_and_says_what_goes(
    words: list[str], old: str, shown: str, swept: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept(Clocked(), "sweep=mine", *STA) == 0
    before = capsys.readouterr()
    comparison = compare(load_sweep(the_sweep(tmp_path, "mine").path))
    assert "declared_late" not in csv_text(comparison)
    assert "declared_late" not in as_json(comparison)
    for plan in (False, True):
        assert swept(Clocked(), "sweep=mine", *words, *STA, plan=plan) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"declared with {old} and has results" in line
        assert f"report mine {shown} shows them" in line
    assert swept(Clocked(), "sweep=mine", *STA) == 0
    assert "declared" not in before.out


def test_a_margin_that_is_left_out_later_is_refused_too(swept: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    swept(Clocked(), "sweep=mine", "delta=0.02", *STA)
    capsys.readouterr()
    assert swept(Clocked(), "sweep=mine", *STA) == 2
    line = capsys.readouterr().err
    assert "no delta: sweep mine was declared with delta=0.02" in line
    assert "report" not in line


def test_another_sweep_of_the_same_trials_says_in_every_output_that_its_margin_came_after_the_results(
    swept: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(Clocked(), *STA)
    capsys.readouterr()
    assert swept(Clocked(), "sweep=second", "delta=0.05", "judge=last", *STA) == 0

    assert "delta=0.05 after the results of 3 trials" in capsys.readouterr().out
    (late,) = load_manifest(the_sweep(tmp_path, "second")).late
    assert late.words == ("judge=last", "delta=0.05")
    assert late.trials == 3  # of sta, and not the three of the baseline
    assert datetime.fromisoformat(late.date).date() == datetime.now(UTC).date()

    comparison = compare(load_sweep(the_sweep(tmp_path, "second").path))
    told = f"judge=last and delta=0.05 were declared on {late.date[:10]}, after the results of 3 trials"
    print_table(comparison)
    terminal = " ".join(capsys.readouterr().out.split())
    (rows, baseline) = csv.DictReader(csv_text(comparison).splitlines())
    outputs = (
        accuracy_caption(comparison),
        markdown(comparison),
        json.dumps(as_json(comparison)["findings"]),
        terminal,
    )
    for output in (*outputs, rows["declared_late"], baseline["declared_late"], *as_json(comparison)["declared_late"]):
        assert told in output
    chosen = compare(sweep_as_chosen(load_sweep(the_sweep(tmp_path, "second").path), delta=0.01))
    assert "judge=last was declared on" in accuracy_caption(chosen)  # and no word of the margin that is not used
    assert "delta=0.01 was chosen for this report, after the results; the command declared delta=0.05" in (
        accuracy_caption(chosen)
    )

    capsys.readouterr()
    assert swept(Clocked(), "sweep=second", "delta=0.05", "judge=last", *STA) == 0  # repeated: it stays
    assert len(load_manifest(the_sweep(tmp_path, "second")).late) == 1


def test_a_declaration_before_the_results_is_not_late_in_a_further_sweep(
    swept: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(Clocked(), "sweep=first", "delta=0.02", *STA)
    swept(Clocked(), "sweep=second", "delta=0.02", "module=sta,hmha", "seed=range(0,4)", *TINY, "-m")
    assert load_manifest(the_sweep(tmp_path, "second")).late == ()
    swept(Clocked(), "sweep=third", "delta=0.02", *STA)
    assert load_manifest(the_sweep(tmp_path, "third")).late == ()
    assert "every table and report says so" not in capsys.readouterr().out


def test_results_of_the_baseline_alone_are_none(swept: Ran, tmp_path: Path) -> None:
    swept(Clocked(), "module=none", "seed=range(0,3)", *TINY, "-m")
    swept(Clocked(), "sweep=mine", "delta=0.02", *STA)
    assert load_manifest(the_sweep(tmp_path, "mine")).late == ()


def test_going_back_to_the_default_after_another_declaration_is_late(swept: Ran, tmp_path: Path) -> None:
    swept(Clocked(), "sweep=first", "judge=last", *STA)
    swept(Clocked(), "sweep=second", *STA)
    (late,) = load_manifest(the_sweep(tmp_path, "second")).late
    assert late.words == ("judge=best",)


def test_a_larger_number_of_seeds_is_another_sweep_that_says_that_results_were_there(
    swept: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["module=sta", "until=decided", "delta=0.02", *TINY, "-m"]
    swept(Clocked(), "sweep=small", "max_seeds=4", *words)
    assert load_manifest(the_sweep(tmp_path, "small")).late == ()
    capsys.readouterr()
    assert swept(Clocked(), "sweep=small", "max_seeds=6", *words) == 2
    error = capsys.readouterr().err
    assert "until=decided max_seeds=4 seed=0 and has results" in error
    assert "report" not in error  # it cannot show another rule
    assert swept(Clocked(), "sweep=large", "max_seeds=6", *words) == 0
    (late,) = load_manifest(the_sweep(tmp_path, "large")).late
    assert late.words == ("until=decided max_seeds=6 seed=0",)
    texts = sentences(compare(load_sweep(the_sweep(tmp_path, "large").path)))
    assert any("if these results did not lead to it" in text for text in texts)


def test_a_fixed_number_of_seeds_that_looks_have_decided_gets_the_valid_p_value(swept: Ran, tmp_path: Path) -> None:
    swept(Clocked(), "sweep=first", "module=sta", "until=decided", "max_seeds=5", *TINY, "-m")
    seeds = len(load_manifest(the_sweep(tmp_path, "first")).signatures) // 2
    swept(Clocked(), "sweep=fixed", "module=sta", "seed=range(0,6)", *TINY, "-m")
    assert load_manifest(the_sweep(tmp_path, "fixed")).looks == tuple(range(3, seeds + 1))


def test_a_declaration_may_change_as_long_as_there_is_no_result(swept: Ran, tmp_path: Path) -> None:
    class Dead(Machine):
        def run(self, *_: Any) -> None: ...

    words = ["sweep=mine", "module=sta", "until=decided", *TINY, "-m"]
    swept(Dead(), *words, "delta=0.02")
    swept(Clocked(), *words, "delta=0.03")
    manifest = load_manifest(the_sweep(tmp_path, "mine"))
    assert manifest.analysis.delta == 0.03
    assert manifest.late == ()


def test_a_damaged_manifest_does_not_stop_the_command_that_was_declared(swept: Ran, tmp_path: Path) -> None:
    swept(Clocked(), "sweep=mine", "delta=0.02", *STA)
    manifest = the_sweep(tmp_path, "mine").manifest
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text[: text.index('"analysis"')], encoding="utf-8")
    assert swept(Clocked(), "sweep=mine", "delta=0.02", *STA) == 0
    assert load_manifest(the_sweep(tmp_path, "mine")).analysis.delta == 0.02


def test_a_sweep_that_another_command_runs_is_not_declared_anew(
    swept: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dead(Machine):
        def run(self, *_: Any) -> None: ...

    swept(Dead(), "sweep=mine", "delta=0.02", *STA)
    sweep = the_sweep(tmp_path, "mine")
    with lock(sweep.trial(load_manifest(sweep).signatures[0]).lock):
        capsys.readouterr()
        assert swept(Dead(), "sweep=mine", "delta=0.03", *STA) == 2
        assert "declared with delta=0.02 and runs now" in capsys.readouterr().err
    assert swept(Dead(), "sweep=mine", "delta=0.03", *STA) == 0


def test_results_of_baselines_and_failed_trials_do_not_keep_a_sweep_from_another_declaration(
    swept: Ran, tmp_path: Path
) -> None:
    class Failing(Clocked):
        def _train(self, job: Any) -> Any:
            name = job.planned.trial.identity.name
            self._failing = "" if name.startswith("baseline") else name
            return super()._train(job)

    swept(Failing(), "sweep=mine", *STA)
    assert swept(Clocked(), "sweep=mine", "delta=0.02", "retry=failed", *STA) == 0
    manifest = load_manifest(the_sweep(tmp_path, "mine"))
    assert manifest.analysis.delta == 0.02
    assert manifest.late == ()


def test_seeds_with_results_that_join_while_a_sweep_runs_are_told_as_late(swept: Ran, tmp_path: Path) -> None:
    swept(Machine(), "module=acmix", "seed=3,4", *TINY, "-m")  # long ago: a clock has seconds
    words = ["sweep=mine", "module=acmix", "until=decided", "max_seeds=5", *TINY, "-m"]
    for _ in range(2):
        assert swept(Clocked(), *words) == 0
        manifest = load_manifest(the_sweep(tmp_path, "mine"))
        assert len(manifest.signatures) == 10  # nothing was decided
        assert {word for each in manifest.late for word in each.words} == {"until=decided max_seeds=5 seed=0"}
        assert sum(each.trials for each in manifest.late) == 2


def test_a_comparison_that_was_reported_stays_what_it_is_when_fewer_seeds_are_looked_at_later(
    swept: Ran, tmp_path: Path
) -> None:
    for name, seeds in (("all", 4), ("fewer", 3), ("all", 4)):
        assert swept(Clocked(), f"sweep={name}", "module=sta", f"seed=range(0,{seeds})", *TINY, "-m") == 0
        the_sweep(tmp_path, name).report("html").touch()
    assert load_manifest(the_sweep(tmp_path, "all")).looks == ()
    swept(Clocked(), "sweep=more", "module=sta", "seed=range(0,5)", *TINY, "-m")
    assert load_manifest(the_sweep(tmp_path, "more")).looks == (3, 4)
