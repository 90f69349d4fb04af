"""Reading and writing of records: whole or not at all, and damage costs only the damaged file."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import make_record

from ablate.records.json_struct import finite_number
from ablate.records.loading import (
    DamagedRecordError,
    leading_fields,
    load_record,
    load_sweep,
    save_record,
)
from ablate.records.predictions import load_predictions
from ablate.records.trial_record import DamagedTrial, decode_record, encode_record
from ablate.storage.files import atomic_write_json

FIRST, SECOND = "a" * 64, "b" * 64


def record(signature: str, **fields: Any) -> dict[str, Any]:
    return make_record(signature=signature, variant="hmha@c3k2 sgd", variant_key="k1", **fields)


def write_sweep(root: Path, records: list[dict[str, Any]]) -> Path:
    for found in records:
        atomic_write_json(root / "trials" / found["signature"] / "result.json", found)
    sweep = root / "sweeps" / "s"
    head = {"name": "s", "command": ["python", "-m", "ablate"], "signatures": [r["signature"] for r in records]}
    atomic_write_json(sweep / "sweep.json", head)
    return sweep


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    content = decode_record(record(FIRST, history=[{"epoch": 1, "map50_95": 0.1}], name="Größe ±"))
    save_record(tmp_path / FIRST, content)
    assert load_record(tmp_path / FIRST) == content
    assert json.loads((tmp_path / FIRST / "result.json").read_text()) == encode_record(content)


def test_nothing_but_the_file_is_left_behind(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "x.json", {"a": 1})
    atomic_write_json(tmp_path / "x.json", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 2}


def test_what_cannot_be_written_leaves_the_old_file_alone(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError, match="object cannot be written"):
        atomic_write_json(tmp_path / "x.json", {"a": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "x.json", {"a": 1})
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from ablate.storage.files import atomic_write_json\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "atomic_write_json(Path(sys.argv[1]), {'a': 'x' * 100_000})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.json")], env=environment, capture_output=True, text=True
    )
    assert "OSError" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_numbers_of_numpy_and_paths_become_json_and_nan_becomes_null(tmp_path: Path) -> None:
    content = {"f": np.float32(0.5), "a": np.arange(2), "p": Path("a/b"), "n": math.nan, "i": [math.inf], "t": True}
    atomic_write_json(tmp_path / "x.json", content)
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "f": 0.5,
        "a": [0, 1],
        "p": "a/b",
        "n": None,
        "i": [None],
        "t": True,
    }


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        atomic_write_json(tmp_path / "x.json", {})
    finally:
        os.umask(previous)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o644


def test_a_missing_record_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_record(tmp_path / FIRST)


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '{"signature": "', "\x00\xff", "[" * 100_000])
def test_a_damaged_record_says_so_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FIRST).mkdir()
    (tmp_path / FIRST / "result.json").write_text(content)
    with pytest.raises(DamagedRecordError) as raised:
        load_record(tmp_path / FIRST)
    assert str(raised.value).startswith("aaaaaaaaaaaa/result.json")
    assert "\n" not in str(raised.value)


def test_a_record_in_the_folder_of_another_trial_is_refused(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / FIRST / "result.json", record(SECOND))
    with pytest.raises(DamagedRecordError, match="belongs to signature bbbbbbbbbbbb"):
        load_record(tmp_path / FIRST)


def test_a_sweep_keeps_the_order_of_its_trials_and_finds_their_runs(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path, [record(SECOND), record(FIRST)])
    atomic_write_json(tmp_path / "trials" / FIRST / "mlflow.json", {"run_id": "r1", "uri": "sqlite:///x"})
    sweep = load_sweep(directory)
    assert [trial.signature for trial in sweep.trials] == [SECOND, FIRST]
    assert sweep.run_ids == {FIRST: "r1"}
    assert (sweep.latency, sweep.ignored, sweep.missing) == (None, [], [])
    assert sweep.command == "python -m ablate"
    assert sweep.folder.trial(FIRST).path == tmp_path.resolve() / "trials" / FIRST


def test_a_truncated_result_keeps_its_identity_but_none_of_its_numbers(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path, [record(FIRST), record(SECOND)])
    path = tmp_path / "trials" / SECOND / "result.json"
    path.write_text(path.read_text()[:-5])
    sweep = load_sweep(directory)
    damaged = sweep.trials[1]
    assert isinstance(damaged, DamagedTrial)
    assert (damaged.status, damaged.variant, damaged.variant_key) == ("damaged", "hmha@c3k2 sgd", "k1")
    assert len(sweep.ignored) == 1
    assert "bbbbbbbbbbbb/result.json is not complete" in sweep.ignored[0]


def test_a_trial_without_result_is_missing_not_damaged(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path, [record(FIRST), record(SECOND)])
    (tmp_path / "trials" / SECOND / "result.json").unlink()
    sweep = load_sweep(directory)
    assert sweep.missing == [SECOND]
    assert len(sweep.trials) == 1


def test_a_damaged_sweep_file_still_gives_up_its_trials(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path, [record(FIRST), record(SECOND)])
    path = directory / "sweep.json"
    path.write_text(path.read_text().rstrip()[:-3])
    sweep = load_sweep(directory)
    assert FIRST in sweep.signatures
    assert sweep.name == "s"
    assert sweep.ignored


@pytest.mark.parametrize("link", ["", '{"run_id": 7}'])
def test_damaged_latency_and_run_files_cost_only_themselves(tmp_path: Path, link: str) -> None:
    directory = write_sweep(tmp_path, [record(FIRST)])
    (directory / "latency.json").write_text('{"variants": [')
    (tmp_path / "trials" / FIRST / "mlflow.json").write_text(link)
    sweep = load_sweep(directory)
    assert sweep.latency is None
    assert sweep.run_ids == {}
    assert len(sweep.trials) == 1
    assert len(sweep.ignored) == 2


def test_a_record_of_another_schema_is_read_and_mentioned(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path, [record(FIRST, schema=7)]))
    assert len(sweep.trials) == 1
    assert "schema 7" in sweep.ignored[0]


def test_a_folder_that_is_no_sweep_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no sweep\.json"):
        load_sweep(tmp_path)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5), st.data())
def test_leading_fields_of_a_cut_object_are_never_wrong(content: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(content)
    cut = data.draw(st.integers(0, len(text)))
    fields = leading_fields(text[:cut])
    assert list(fields.items()) == list(content.items())[: len(fields)]
    if cut == len(text):
        assert fields == content


@pytest.mark.parametrize("found", [None, "0.5", True, math.nan, math.inf, [], {}])
def test_only_finite_numbers_are_numbers(found: object) -> None:
    assert finite_number(found) is None


def test_reading_records_imports_nothing_heavy() -> None:
    code = (
        "import sys; import ablate.records.loading; "
        "print([m for m in ('torch', 'ultralytics', 'mlflow', 'pandas', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_predictions_that_the_system_does_not_give_are_not_called_incomplete(tmp_path: Path) -> None:
    (tmp_path / "best.npz").mkdir()
    with pytest.raises(DamagedRecordError, match="cannot be read"):
        load_predictions(tmp_path / "best.npz")
