"""Records of strangers: whatever they hold, they are read in bounded time and memory, or left out with a reason."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.comparisons import grid, write_sweep

from ablate.analysis.comparison import compare
from ablate.monitor.trial_state import SweepStates, trial_state
from ablate.records import predictions
from ablate.records.checkpoint_origin import checkpoint_signature
from ablate.records.loading import DamagedRecordError, load_record, load_sweep
from ablate.records.predictions import load_predictions
from ablate.report.notebook import execute
from ablate.storage.confined import LARGEST
from ablate.storage.json_text import DEEPEST, parse_json

RECORD = "Record"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_sweep(tmp_path, grid(("none", "hmha"), ("sgd",), (0,)))


@pytest.fixture
def trial(directory: Path) -> Path:
    return sorted((directory.parents[1] / "trials").iterdir())[0]


def reason(directory: Path, trial: Path) -> str:
    """Why a record is left out, while the other one of the sweep is reported."""
    sweep = load_sweep(directory)
    assert compare(sweep).rows
    assert trial_state(trial).state == "damaged"
    (line,) = [line for line in sweep.ignored if line.startswith(trial.name[:12])]
    assert "\n" not in line
    return line


@pytest.mark.security(
    RECORD, "A pipe, a socket or a folder in place of a record is not waited for; its trial is left out."
)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "link to a device"])
def test_what_is_no_plain_file_is_not_waited_for(directory: Path, trial: Path, kind: str) -> None:
    path = trial / "result.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(trial)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("result.json")
        os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")

    assert "cannot be read" in reason(directory, trial)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name",
    ["mlflow.json", "train/progress.json", "train/history.jsonl", "train.log", "../{}.lock", "train/weights/last.pt"],
)
def test_pipes_in_place_of_other_files_are_not_waited_for(directory: Path, trial: Path, name: str) -> None:
    (trial / "result.json").unlink()
    path = trial / name.format(trial.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    assert checkpoint_signature(path) is None
    load_sweep(directory)
    assert SweepStates(directory).read()
    for of_sweep in ("latency.json", "image_intervals.json"):
        (directory / of_sweep).unlink(missing_ok=True)
        os.mkfifo(directory / of_sweep)
    assert load_sweep(directory).latency is None


@pytest.mark.security(
    RECORD, "A record of more than 16 MiB, or of more than 500,000 lists and objects, is left out, soon."
)
def test_a_huge_record_is_left_out(directory: Path, trial: Path) -> None:
    with (trial / "result.json").open("r+b") as file:
        file.truncate(2**30)

    line = reason(directory, trial)

    assert f"at most {LARGEST}" in line
    assert str(2**30) in line
    (trial / "result.json").write_text('{"a": [' + "[]," * 600_000)
    assert "lists and objects" in reason(directory, trial)
    (trial / "result.json").write_text("{" + "".join(f'"{number}": 0,' for number in range(100_000)))
    assert "not complete" in reason(directory, trial)


@pytest.mark.security(RECORD, "Lists inside of lists without end do not end the command; the trial is left out.")
@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 5000, 200_000])
@pytest.mark.parametrize("form", ['{"a":', "["])
def test_a_deep_record_is_left_out(directory: Path, trial: Path, depth: int, form: str) -> None:
    end = {"[": "]", '{"a":': "}"}[form]
    deep = form * depth + "1" + end * depth
    content = (trial / "result.json").read_text()
    (trial / "result.json").write_text(content[:-1] + f', "extra": {deep}}}')

    assert f"more than {DEEPEST} deep" in reason(directory, trial)


@pytest.mark.security(RECORD, "NaN, infinities and numbers beyond all floats are numbers that are not known.")
def test_numbers_that_are_none_are_not_known(directory: Path, trial: Path) -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1E+400", "9" * 5000):
        content = json.loads((trial / "result.json").read_text())
        content["metrics"]["map50_95"] = "?"
        (trial / "result.json").write_text(json.dumps(content).replace('"?"', number))

        assert load_record(trial).metrics.map50_95 is None
        assert compare(load_sweep(directory)).rows


def test_of_a_key_that_is_there_twice_the_last_counts() -> None:
    assert parse_json('{"signature": "a", "signature": "b"}') == {"signature": "b"}


def test_half_a_character_is_replaced() -> None:
    assert parse_json('["\\ud800x", {"\\udc00": "\\ud83d\\ude00"}]') == ["\ufffdx", {"\ufffd": "\U0001f600"}]


@pytest.mark.security(RECORD, "A record that belongs to another trial than its folder says is left out.")
def test_a_record_of_another_trial_is_left_out(directory: Path, trial: Path) -> None:
    content = json.loads((trial / "result.json").read_text())
    for signature in ("f" * 64, "../x", None, 7, ["a"]):
        (trial / "result.json").write_text(json.dumps(content | {"signature": signature}))
        assert "not to this folder" in reason(directory, trial)


@pytest.mark.security(RECORD, "A `latency.json` without measurements is left out and named, whatever it holds.")
@pytest.mark.parametrize("content", ["{}", "[]", '{"protocol": 1}', "", "null", '{"protocol": {}, "variants": [{}]}'])
def test_a_latency_without_measurements_is_named(directory: Path, content: str) -> None:
    (directory / "latency.json").write_text(content)

    sweep = load_sweep(directory)

    assert sweep.latency is None
    assert any("latency.json" in line for line in sweep.ignored)


@pytest.mark.security(RECORD, "Predictions that would fill the memory, or are of another type, are left out.")
def test_predictions_of_a_bomb_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.npz"
    assert predictions.LARGEST == 2**30
    monkeypatch.setattr(predictions, "LARGEST", 2**20)
    np.savez_compressed(path, schema=np.array(1), conf=np.zeros(2**17))
    assert path.stat().st_size < 2**12
    with pytest.raises(DamagedRecordError):
        load_predictions(path)
    for odd in (b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"\x93NUMPY"):
        path.write_bytes(odd)
        with pytest.raises(DamagedRecordError):
            load_predictions(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedRecordError):
        load_predictions(path)


@pytest.mark.security(
    "Trial or sweep folder", "A module such as `numpy.py` in a sweep's folder is not imported by the report's notebook."
)
def test_the_notebook_imports_nothing_from_the_sweeps_folder(directory: Path, tmp_path: Path) -> None:
    for name in ("numpy", "pandas", "ablate", "IPython", "scipy", "sitecustomize"):
        (directory / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise ImportError\n")

    assert execute(directory, directory / "comparison.ipynb").is_file()
    assert not (tmp_path / "ran").exists()


@pytest.mark.security(RECORD, "A record of another version's form is not trained again and not reported, and says so.")
@pytest.mark.parametrize("schema", [2, 0, 99])
def test_a_record_of_another_form_is_named(
    directory: Path, trial: Path, schema: int, ablate_here: Callable[..., Any]
) -> None:
    content = json.loads((trial / "result.json").read_text())
    (trial / "result.json").write_text(json.dumps(content | {"schema": schema}))

    state = trial_state(trial)

    assert state.state == "done"
    assert f"schema {schema}" in state.why
    assert any(f"schema {schema}" in line for line in load_sweep(directory).ignored)
    assert f"schema {schema}" in ablate_here("status", str(directory)).stdout
