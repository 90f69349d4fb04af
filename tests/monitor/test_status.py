"""Status tells from any shell what a sweep is doing, while it runs and after."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablate.monitor import status
from ablate.monitor.status import FAILURES, MANY, show_status

Written = Any  # a trial's folder and what its process would write there (see conftest.py)
Trials = Callable[[str], Written]
Holder = Callable[..., "subprocess.Popen[str]"]
SweepOf = Callable[..., Path]
Terminals = Callable[..., Any]  # what a terminal shows of what is written to it (see conftest.py)

LONG = "hmha[rerank=batch,cache=paper]@backbone_p3+neck_p4 musgd"


@pytest.fixture(autouse=True)
def _no_forced_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def shown(directory: Path, width: int | None = None, **options: bool) -> tuple[str, int]:
    """What status prints on a terminal of this width, or into a pipe, and its exit code."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=width is not None, width=width or 80, height=24, color_system=None)
    code = show_status(directory, console, **options)
    return out.getvalue(), code


def document(directory: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    show_status(directory, Console(stderr=True), as_json=True)
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def line_of(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return line.removeprefix(name).split()


@pytest.fixture
def every_state(written: Trials, sweep_of: SweepOf, holder: Holder) -> Path:
    """A sweep with a trial in each state."""
    names = ("done", "failed", "damaged", "running", "interrupted", "waiting")
    trials = {name: written(f"{name} s0") for name in names}
    for trial in (trials[name] for name in names[:-1]):
        trial.epoch(0.25, seconds=60.0)
    trials["done"].record(map50_95=0.4)
    trials["failed"].record(failure="diverged: the loss is nan in epoch 2")
    (trials["damaged"].folder / "result.json").write_text("{", encoding="utf-8")
    holder(trials["running"], "gpu 3")
    died = holder(trials["interrupted"])
    died.kill()
    died.wait()
    return sweep_of(*trials.values())


def test_accuracies_are_of_the_metric_that_the_sweep_declared(
    written: Trials, sweep_of: SweepOf, capsys: pytest.CaptureFixture[str]
) -> None:
    done, stopped = written("a s0"), written("b s0")
    done.record(map50_95=0.4, map50=0.6)
    for map50_95, map50 in ((0.3, 0.5), (0.2, 0.7)):
        stopped.epoch(map50_95, map50=map50)
    directory = sweep_of(done, stopped)
    manifest = json.loads((directory / "sweep.json").read_text())
    (directory / "sweep.json").write_text(json.dumps({**manifest, "analysis": {"metric": "map50"}}))
    text, _ = shown(directory, width=None)
    assert "mAP50" in text.split()
    assert "mAP50-95" not in text
    assert "0.6000" in line_of(text, "a s0")
    assert "0.5000" in line_of(text, "b s0"), "of the epoch with the highest mAP50-95"
    rows = document(directory, capsys)["trials"]
    assert [row["map50"] for row in rows] == [0.6, 0.5]


def test_each_trial_is_told_with_its_state(every_state: Path) -> None:
    text, code = shown(every_state)
    assert code == 1, "a trial failed"
    assert line_of(text, "done s0")[1:] == ["done", "1/10", "0.4000", "cuda:1"]
    assert line_of(text, "running s0")[1:6] == ["running", "1/10", "0.2500", "9", "min"]
    assert "gpu 3" in text
    assert "the loss is nan" in " ".join(line_of(text, "failed s0"))
    assert line_of(text, "interrupted s0")[1:] == ["interrupted", "1/10", "0.2500", "stopped", "after", "epoch", "1"]
    assert line_of(text, "damaged s0")[1:4] == ["damaged", "result.json", "is"]
    assert line_of(text, "waiting s0")[1:] == ["waiting"]
    assert "1 done, 1 failed, 1 damaged, 1 running, 1 interrupted, 1 waiting" in text


def test_a_sweep_whose_list_of_trials_is_cut_off_says_so(every_state: Path) -> None:
    manifest = every_state / "sweep.json"
    manifest.write_bytes(manifest.read_bytes()[:40])
    text, code = shown(every_state)
    assert code == 0
    assert "ignored: " in text
    assert "sweep.json is not complete JSON (40 bytes)" in text


def test_json_says_the_same_as_plain_values(every_state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = document(every_state, capsys)
    rows = {row["state"]: row for row in content["trials"]}

    assert content["sweep"] == "hmha_shapes_yolo26n_1a2b3c"
    assert content["counts"] == dict.fromkeys(rows, 1)
    assert set(rows) == {"done", "failed", "damaged", "running", "interrupted", "waiting"}
    for row in rows.values():
        assert set(row) >= {
            "trial", "signature", "state", "epoch", "epochs", "map50_95", "seconds_left", "device", "minutes",
            "failure", "why",
        }  # fmt: skip
    running, failure = rows["running"], rows["failed"]["failure"]
    assert (running["epoch"], running["epochs"], running["seconds_left"], running["minutes"]) == (1, 10, 540.0, 1.0)
    assert (failure["type"], failure["message"]) == ("diverged", "the loss is nan in epoch 2")
    assert failure["log"].endswith("/train.log")
    assert rows["done"]["map50_95"] == 0.4
    # one at a time: 9 min of the running one, 9 of the interrupted one, 10 of the waiting one
    assert content["seconds_left"] == 28 * 60
    ahead = datetime.fromisoformat(content["finish"]).timestamp() - time.time()
    assert ahead == pytest.approx(28 * 60, abs=30)


def test_there_is_no_finish_where_nothing_runs(
    written: Trials, sweep_of: SweepOf, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = written("a s0")
    trial.epoch()
    content = document(sweep_of(trial, written("b s0")), capsys)
    assert content["finish"] is None
    assert content["counts"]["interrupted"] == 1
    text, code = shown(sweep_of(trial, written("b s0")))
    assert "nothing runs now; to go on: python -m ablate module=hmha -m\n" in text
    assert code == 0


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("every", [True, False])
def test_the_table_fits_the_terminal(every_state: Path, width: int, every: bool) -> None:
    text, _ = shown(every_state, width, every=every)
    table, _, _ = text.partition("1 done")
    assert all(len(line) <= width for line in table.splitlines())
    assert ("signature" in table) == (width >= 120)


def test_into_a_pipe_goes_all_of_it(written: Trials, sweep_of: SweepOf) -> None:
    trials = [written(f"{LONG} s{seed}") for seed in range(MANY + 20)]
    for trial in trials[:10]:
        trial.record(failure="code: it broke")
    text, _ = shown(sweep_of(*trials))
    for trial in trials:
        assert trial.name in text
        assert trial.signature[:12] in text
    assert text.count("log: ") == 10


def test_a_large_sweep_is_shown_by_variant_on_a_terminal(written: Trials, sweep_of: SweepOf, holder: Holder) -> None:
    trials = [written(f"{variant} s{seed}") for variant in (LONG, "baseline sgd") for seed in range(MANY)]
    for seed in range(4):
        trials[MANY + seed].record(map50_95=0.1 * (seed + 1))
    for trial in trials[: FAILURES + 3]:
        trial.record(failure="code: it broke")
    holder(trials[-1])
    trials[-1].epoch()
    directory = sweep_of(*trials)

    text, _ = shown(directory, 100)
    assert line_of(text, "baseline sgd ") == ["4", "1", "35", "0.2500"]
    assert "80 trials of 2 variants; --all shows each trial" in text
    assert line_of(text, f"baseline sgd s{MANY - 1}")[1:3] == ["running", "1/10"], "what runs is shown by trial too"
    assert text.count("log: ") == FAILURES
    assert "and 3 more; --all shows each" in text

    text, _ = shown(directory, 100, every=True)
    assert "baseline sgd s7 " in text
    assert text.count("log: ") == FAILURES + 3


@pytest.mark.parametrize(
    ("failures", "word"),
    [
        (["out_of_memory: no room", "out_of_memory: none"], "oom"),
        (["code: it broke", "killed: it died"], "failed"),
        (["code: it broke", "out_of_memory: no room"], "all"),
    ],
)
def test_failures_are_listed_by_type_with_the_command_that_tries_them_again(
    written: Trials, sweep_of: SweepOf, failures: list[str], word: str
) -> None:
    trials = [written(f"a s{seed}") for seed in range(2)]
    for trial, failure in zip(trials, failures, strict=True):
        trial.record(failure=failure)
    text, code = shown(sweep_of(*trials), 300)
    assert code == 1
    for trial, failure in zip(trials, failures, strict=True):
        kind, _, message = failure.partition(": ")
        assert f"{kind}: " in text
        assert f"  {trial.name}: {message}\n      log: {trial.folder / 'train.log'}\n" in text
    assert text.endswith(f"to try what failed again: python -m ablate module=hmha -m retry={word}\n")


def test_watch_shows_the_display_until_all_is_done(
    written: Trials, sweep_of: SweepOf, holder: Holder, terminal_of: Terminals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "EVERY", 0.02)
    trial, terminal = written("a s0"), terminal_of()
    trial.epoch(0.3)
    process = holder(trial, "gpu 3")

    def finish() -> None:
        while "9 min" not in terminal.raw.getvalue():
            time.sleep(0.02)
        trial.record(map50_95=0.4)
        process.kill()

    threading.Thread(target=finish, daemon=True).start()
    assert show_status(sweep_of(trial), terminal.console, watch=True) == 0
    raw = terminal.raw.getvalue()
    assert "best mAP" in raw
    assert "1 running" in raw
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
    assert "1 done" in terminal.text, "the whole status is there in the end"
    assert "best mAP" not in terminal.text, "and in the display's place"


def test_watch_into_a_pipe_says_only_what_changes(
    written: Trials, sweep_of: SweepOf, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "EVERY", 0.01)
    first, second = written("a s0"), written("b s0")
    process = holder(first)
    out = io.StringIO()
    directory = sweep_of(first, second)

    def finish() -> None:
        while "1 running, 1 waiting" not in out.getvalue():
            time.sleep(0.02)
        time.sleep(0.2)
        second.record(map50_95=0.4)
        first.record(map50_95=0.4)
        process.kill()

    threading.Thread(target=finish, daemon=True).start()
    assert show_status(directory, Console(file=out, width=80), watch=True) == 0
    assert out.getvalue().startswith("1 running, 1 waiting; time left not known yet\n")
    assert out.getvalue().count("1 running, 1 waiting") == 1
    assert out.getvalue().endswith("2 done\n")


def test_status_needs_neither_torch_nor_mlflow(every_state: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from ablate.monitor.status import show_status\n"
        "show_status(Path(sys.argv[1]), Console())\n"
        "print({'torch', 'mlflow', 'ultralytics', 'numpy', 'pandas'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(every_state)],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_ctrl_c_ends_watching_without_a_complaint(
    written: Trials, sweep_of: SweepOf, terminal_of: Terminals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    terminal = terminal_of()
    assert show_status(sweep_of(written("a s0")), terminal.console, watch=True) == 0
    assert terminal.screen[0].endswith("nothing runs now")
    assert terminal.screen[1] == "1 waiting"


def test_a_stock_network_that_is_a_control_is_called_so_whatever_its_record_is_called(
    written: Trials, sweep_of: SweepOf, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = [written(name) for name in ("baseline musgd s0", "baseline musgd s1")]  # s1 stands for another network
    for trial in trials:
        trial.record(map50_95=0.4)
    directory = sweep_of(*trials)
    manifest = json.loads((directory / "sweep.json").read_text())
    control = trials[1].signature
    manifest["controls"] = {"other": {"kind": "scale", "comparison_key": "same", "signatures": [control]}}

    (directory / "sweep.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "baseline musgd s1 (control: scale)" in shown(directory)[0]  # as older versions wrote the manifest

    manifest["names"][control] = "control: scale yolo26s musgd s0"
    (directory / "sweep.json").write_text(json.dumps(manifest), encoding="utf-8")
    text, _ = shown(directory)
    assert line_of(text, "control: scale yolo26s musgd s0")
    assert "(control: scale)" not in text
    assert [(one["trial"], one["control"]) for one in document(directory, capsys)["trials"]] == [
        ("baseline musgd s0", None),
        ("control: scale yolo26s musgd s0", "scale"),
    ]
