"""How far a trial is can be read from its folder at any moment, whatever state the files are in."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.monitor.epoch_rows import Tail, TrialProgress
from ablate.monitor.trial_state import SweepStates, trial_state
from ablate.records.metrics import EpochRow

Written = Any  # a trial's folder and what its process would write there (see conftest.py)
Trials = Callable[[str], Written]
Holder = Callable[..., "subprocess.Popen[str]"]

NAME = "hmha@c3k2 musgd s0"
GARBAGE = [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"{}\n", b"[" * 10_000, b'{"epoch": "one", "epochs": {}}\n']


def epochs_of(rows: list[EpochRow]) -> list[int]:
    return [row.epoch for row in rows]


# -- the tail of a history ------------------------------------------------------------------------------------------


def test_a_history_that_is_not_there_has_no_rows(written: Trials) -> None:
    assert Tail(written(NAME).folder).new_rows() == []


def test_rows_are_returned_as_they_appear_each_once(written: Trials) -> None:
    trial = written(NAME)
    tail = Tail(trial.folder)
    trial.epoch(0.1)
    trial.epoch(0.2)

    assert tail.new_rows() == list(map(EpochRow, trial.rows))
    assert tail.new_rows() == []
    trial.epoch(0.3)
    assert tail.new_rows() == list(map(EpochRow, trial.rows[2:]))


def test_a_line_without_its_end_waits_for_it(written: Trials) -> None:
    trial = written(NAME)
    trial.epoch()
    tail = Tail(trial.folder)
    tail.new_rows()
    line = json.dumps({"epoch": 2, "epochs": 10})
    with trial.history.open("a", encoding="utf-8") as file:
        file.write(line[:9])
        file.flush()
        assert tail.new_rows() == []
        file.write(line[9:])
        file.flush()
        assert tail.new_rows() == []
        file.write("\n")
    assert epochs_of(tail.new_rows()) == [2]


def test_a_history_that_was_written_anew_gives_only_epochs_that_were_not_seen(written: Trials) -> None:
    trial = written(NAME)
    for _ in range(5):
        trial.epoch()
    tail = Tail(trial.folder)
    tail.new_rows()

    kept, trial.rows = trial.rows[:3], trial.rows[:3]
    trial.history.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    assert tail.new_rows() == []
    for accuracy in (0.7, 0.8, 0.9):
        trial.epoch(accuracy)
    assert epochs_of(tail.new_rows()) == [6]


def test_a_history_replaced_by_a_longer_one_is_read_from_its_start(written: Trials) -> None:
    trial = written(NAME)
    trial.epoch(0.111)
    tail = Tail(trial.folder)
    tail.new_rows()

    trial.history.unlink()
    trial.rows.clear()
    for _ in range(4):
        trial.epoch(0.2)
    assert epochs_of(tail.new_rows()) == [2, 3, 4]


def test_what_an_earlier_try_has_left_can_be_skipped(written: Trials) -> None:
    trial = written(NAME)
    for _ in range(4):
        trial.epoch(0.1)
    tail = Tail(trial.folder, skip=True)
    assert tail.new_rows() == []

    trial.history.unlink()
    trial.rows.clear()
    trial.epoch(0.2)
    assert tail.new_rows() == list(map(EpochRow, trial.rows))


@pytest.mark.parametrize("damage", GARBAGE)
def test_damaged_lines_cost_themselves_only(written: Trials, damage: bytes) -> None:
    trial = written(NAME)
    trial.epoch()
    with trial.history.open("ab") as file:
        file.write(damage.rstrip(b"\n") + b"\n")
    trial.epoch()
    assert epochs_of(Tail(trial.folder).new_rows()) == [1, 2]


# -- a trial that trains --------------------------------------------------------------------------------------------


def test_the_time_left_follows_the_epochs_and_the_batches(written: Trials) -> None:
    trial = written(NAME)
    watch = TrialProgress(trial.folder, epochs=10)
    watch.update()
    assert (watch.epoch, watch.fraction, watch.seconds_left, watch.accuracy) == (0, 0.0, None, None)

    trial.epoch(0.3, seconds=60.0)
    trial.epoch(0.2, seconds=60.0)
    watch.update()
    assert (watch.epoch, watch.fraction, watch.seconds_left) == (2, 0.2, 480.0)
    assert watch.accuracy == 0.3, "the best so far, not the last"

    trial.progress(epoch=3, batch=16, batches=32)
    watch.update()
    assert (watch.fraction, watch.seconds_left) == (0.25, 450.0)


def test_progress_within_another_epoch_than_the_next_is_not_counted(written: Trials) -> None:
    trial = written(NAME)
    trial.epoch()
    trial.epoch()
    watch = TrialProgress(trial.folder)
    for epoch in (1, 2, 5):
        trial.progress(epoch=epoch, batch=16)
        watch.update()
        assert watch.fraction == 0.2


def test_progress_of_an_earlier_try_is_not_counted(written: Trials) -> None:
    trial = written(NAME)
    trial.progress(epoch=1, batch=16, time=1000.0)
    watch = TrialProgress(trial.folder, after=1000.0)
    watch.update()
    assert watch.fraction == 0.0

    trial.progress(epoch=1, batch=8, time=1001.0)
    watch.update()
    assert watch.fraction == 0.025


def test_in_the_first_epoch_the_batches_tell_the_time_left(written: Trials) -> None:
    trial = written(NAME)
    watch = TrialProgress(trial.folder)
    trial.progress(epoch=1, batch=8, batches=32, time=1000.0)
    watch.update()
    assert watch.seconds_left is None, "how long it took to get there is not known"
    trial.progress(epoch=1, batch=16, batches=32, time=1010.0)
    watch.update()
    assert watch.seconds_left == 9.5 * 40.0


def test_one_slow_epoch_does_not_spoil_the_estimate(written: Trials) -> None:
    trial = written(NAME)
    for seconds in (60.0, 60.0, 500.0):
        trial.epoch(seconds=seconds)
    watch = TrialProgress(trial.folder)
    watch.update()
    assert watch.seconds_left == 7 * 60.0


@pytest.mark.parametrize(
    "damage", [*GARBAGE, b'{"epoch": 1, "batch": 1, "batches": 0}', b'{"epoch": 1, "batch": null}']
)
def test_damaged_progress_costs_the_fraction_only(written: Trials, damage: bytes) -> None:
    trial = written(NAME)
    trial.begins()
    (trial.folder / "train" / "progress.json").write_bytes(damage)
    watch = TrialProgress(trial.folder, epochs=10)
    watch.update()
    assert watch.fraction == 0.0


def test_numbers_that_are_none_are_left_out(written: Trials) -> None:
    trial = written(NAME)
    trial.epoch(float("nan"), seconds=float("inf"))
    trial.epoch(0.2, seconds=-3.0)
    watch = TrialProgress(trial.folder)
    watch.update()
    assert (watch.epoch, watch.accuracy, watch.seconds) == (2, 0.2, 0.0)


# -- the state of one trial -----------------------------------------------------------------------------------------


def test_a_trial_goes_through_its_states(written: Trials, holder: Holder) -> None:
    trial = written(NAME)
    assert trial_state(trial.folder, NAME).state == "waiting"

    process = holder(trial, "gpu 3")
    trial.epoch(0.3)
    state = trial_state(trial.folder, NAME)
    assert (state.state, state.device, state.pid, state.epoch, state.epochs) == ("running", "gpu 3", process.pid, 1, 10)
    assert (state.seconds_left, state.minutes, state.accuracy) == (540.0, 1.0, 0.3)

    process.kill()
    process.wait()
    state = trial_state(trial.folder, NAME)
    assert (state.state, state.why, state.epoch) == ("interrupted", "stopped after epoch 1", 1)

    trial.record(map50_95=0.4)
    state = trial_state(trial.folder, NAME)
    assert (state.state, state.accuracy, state.fraction, state.device) == ("done", 0.4, 1.0, "cuda:1")


def test_a_failed_trial_says_why_and_where_its_log_is(written: Trials) -> None:
    trial = written(NAME)
    trial.epoch(0.25)
    trial.record(failure="diverged: the loss is nan in epoch 2")
    state = trial_state(trial.folder, NAME)

    assert (state.state, state.why) == ("failed", "diverged: the loss is nan in epoch 2")
    assert state.failure is not None
    assert (state.failure.type, state.failure.message) == ("diverged", "the loss is nan in epoch 2")
    assert state.failure.log == str(trial.folder / "train.log")
    assert (state.epoch, state.accuracy, state.minutes) == (1, 0.25, 1.0)


def test_a_failed_trial_that_is_tried_again_is_running_and_a_finished_one_stays_done(
    written: Trials, holder: Holder
) -> None:
    failed, done = written("failed s0"), written("done s0")
    failed.record(failure="killed: it died")
    done.record(map50_95=0.4)
    holder(failed)
    holder(done)
    assert trial_state(failed.folder).state == "running"
    assert trial_state(done.folder).state == "done"


def test_progress_from_before_its_process_began_is_not_that_of_a_running_trial(written: Trials, holder: Holder) -> None:
    trial = written(NAME)
    trial.progress(epoch=1, batch=30, time=time.time() - 3600)
    holder(trial)
    assert trial_state(trial.folder).fraction == 0.0
    trial.progress(epoch=1, batch=16, time=time.time() + 1)
    assert trial_state(trial.folder).fraction == 0.05


@pytest.mark.parametrize("damage", GARBAGE)
def test_a_record_that_cannot_be_read_is_damaged(written: Trials, damage: bytes) -> None:
    trial = written(NAME)
    trial.begins()
    (trial.folder / "result.json").write_bytes(damage)
    state = trial_state(trial.folder, NAME)
    assert (state.state, state.name) == ("damaged", NAME)
    assert "result.json" in state.why


@pytest.mark.parametrize("damage", [damage for damage in GARBAGE if len(damage) < 1000])
def test_a_damaged_lock_file_keeps_a_running_trial_running(written: Trials, holder: Holder, damage: bytes) -> None:
    trial = written(NAME)
    holder(trial)
    trial.folder.with_suffix(".lock").write_bytes(damage)
    assert trial_state(trial.folder, NAME).state == "running"


def test_a_record_full_of_the_wrong_things_is_damaged(written: Trials) -> None:
    trial = written(NAME)
    trial.begins()
    odd = {
        "signature": trial.signature, "status": 7, "failure": "yes", "history": [3, {"seconds": "x"}], "metrics": [],
        "config": {"train": 1}, "started": 5, "finished": None, "realised": "cpu", "name": None,
    }  # fmt: skip
    (trial.folder / "result.json").write_text(json.dumps(odd), encoding="utf-8")
    state = trial_state(trial.folder, NAME)
    assert (state.state, state.name, state.accuracy) == ("damaged", NAME, None)


# -- a sweep --------------------------------------------------------------------------------------------------------


def test_a_sweep_is_read_again_and_again_as_it_goes_on(written: Trials, sweep_of: Callable[..., Path]) -> None:
    first, second, third = written("a s0"), written("b s0"), written("c s0")
    first.record(map50_95=0.4)
    states = SweepStates(sweep_of(first, second))
    assert [(trial.name, trial.state) for trial in states.read()] == [("a s0", "done"), ("b s0", "waiting")]

    second.record(failure="killed: it died")
    assert [trial.state for trial in states.read()] == ["done", "failed"]
    (second.folder / "result.json").unlink()
    second.record(map50_95=0.4321)
    sweep_of(first, second, third)
    assert [trial.state for trial in states.read()] == ["done", "done", "waiting"]


def test_a_finished_trial_is_read_once(written: Trials, sweep_of: Callable[..., Path]) -> None:
    trial = written("a s0")
    trial.record(map50_95=0.4)
    states = SweepStates(sweep_of(trial))
    assert states.read()[0] is states.read()[0]


def test_a_failed_trial_is_seen_to_run_again_though_its_record_is_the_old_one(
    written: Trials, sweep_of: Callable[..., Path], holder: Holder
) -> None:
    trial = written("a s0")
    trial.record(failure="killed: it died")
    states = SweepStates(sweep_of(trial))
    assert states.read()[0].state == "failed"
    holder(trial)
    assert states.read()[0].state == "running"


def test_a_sweep_whose_own_file_is_cut_off_still_knows_its_trials(
    written: Trials, sweep_of: Callable[..., Path]
) -> None:
    trial = written("a s0")
    trial.record(map50_95=0.4)
    directory = sweep_of(trial, written("b s0"))
    text = (directory / "sweep.json").read_text(encoding="utf-8")
    (directory / "sweep.json").write_text(text[: text.index('"names"')], encoding="utf-8")
    assert [trial.state for trial in SweepStates(directory).read()] == ["done", "waiting"]


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"sweep\.json"):
        SweepStates(tmp_path)


def test_a_trial_that_the_clock_stopped_has_the_epochs_that_it_trained(written: Trials) -> None:
    trial = written(NAME)
    for _ in range(3):
        trial.epoch(0.2)
    trial.record(map50_95=0.2, epochs=100)
    path = trial.folder / "result.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["config"]["train"]["time"] = 0.5
    path.write_text(json.dumps(record), encoding="utf-8")

    state = trial_state(trial.folder)

    assert (state.state, state.epoch, state.epochs, state.fraction) == ("done", 3, 3, 1.0)
