"""Files of real sweeps are read into types and written back without loss; the docs have the types' schemas."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.factories import make_failure, make_record
from tests.records.schemas import FILES, FOLDER, schema_text

from ablate.records.json_struct import from_json, to_json
from ablate.records.latency_record import LatencyReport
from ablate.records.loading import load_manifest, load_run_link, save_manifest, save_run_link
from ablate.records.sweep_record import SweepManifest
from ablate.records.trial_record import TryList, decode_record, encode_record
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import SweepFolder, TrialFolder

GOLDEN = Path(__file__).parents[1] / "golden_sweeps" / "root"
# What records of earlier versions lack.
LATER = [
    ("inputs",),
    ("tries",),
    ("metrics_last",),
    ("per_class_last",),
    ("cost", "params_added"),
    ("cost", "seconds_per_epoch"),
    ("realised", "code"),
    ("realised", "compiled"),
    ("realised", "stopped_by"),
    ("realised", "trainable"),
    ("realised", "images"),
    ("realised", "instances"),
    ("realised", "promised"),
    ("realised", "weights", "missing"),
    ("data", "root"),
    ("artifacts", "log"),
    ("artifacts", "evidence"),
]


def contents(name: str) -> list[Any]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.rglob(name))]
    assert found, f"there is no {name} below {GOLDEN}"
    return found


def same_text(one: object, other: object) -> bool:
    """Equal, and with the keys in the same order."""
    return json.dumps(one) == json.dumps(other)


@pytest.mark.parametrize("content", contents("result.json"), ids=lambda content: content["name"])
def test_a_real_record_is_written_as_it_was_read(content: dict[str, Any]) -> None:
    assert same_text(encode_record(decode_record(content)), content)


@pytest.mark.parametrize("content", contents("sweep.json"), ids=lambda content: content["name"])
def test_a_real_manifest_is_written_as_it_was_read(content: dict[str, Any]) -> None:
    assert same_text(to_json(from_json(content, SweepManifest)), content)


def test_real_latencies_and_tries_are_written_as_they_were_read() -> None:
    for content in contents("latency.json"):
        assert same_text(to_json(from_json(content, LatencyReport)), content)
    for record in contents("result.json"):
        content = {"signature": record["signature"], "tries": record["tries"]}
        assert same_text(to_json(from_json(content, TryList)), content)


@pytest.mark.parametrize(
    "content",
    [
        {"run_id": "r1", "uri": "sqlite:///x", "state": "running", "sweeps": []},
        {"run_id": "r1", "uri": "https://x", "state": "complete", "sweeps": ["a", "b"]},
        {"run_id": "r1", "uri": "sqlite:///x"},  # of an earlier version
    ],
)
def test_a_link_to_a_run_is_written_as_it_was_read(tmp_path: Path, content: dict[str, Any]) -> None:
    folder = TrialFolder(tmp_path)
    atomic_write_json(folder.run_link, content)
    save_run_link(folder, load_run_link(folder))
    assert same_text(json.loads(folder.run_link.read_text()), content)


def test_what_a_later_version_adds_to_a_manifest_stays_when_it_is_rewritten(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    content = {**contents("sweep.json")[0], "novelty": {"a": [1]}}
    atomic_write_json(folder.manifest, content)
    save_manifest(folder, replace(load_manifest(folder), mlflow_run_id="r2", controls={}))
    rewritten = json.loads(folder.manifest.read_text())
    assert rewritten["novelty"] == {"a": [1]}
    assert rewritten["mlflow_run_id"] == "r2"
    assert "controls" not in rewritten


@pytest.mark.parametrize("path", LATER, ids=".".join)
def test_a_record_of_an_earlier_version_is_written_as_it_was_read(path: tuple[str, ...]) -> None:
    content = deepcopy(next(content for content in contents("result.json") if content["status"] == "finished"))
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    assert same_text(encode_record(decode_record(content)), content)


def test_what_a_later_version_adds_is_no_damage() -> None:
    content = make_record(novelty={"a": 1})
    content["cost"]["co2_kg"] = 0.1
    assert decode_record(content) == decode_record(make_record())


@pytest.mark.parametrize(
    ("late", "words"),
    [
        ("x", "late: expected a list, not a text"),
        ([{"words": [], "date": "", "trials": 1}], "late[0].words: expected a list of length >= 1"),
        ([{"words": ["delta=0.1"], "date": "", "trials": 0}], "late[0].trials: expected a whole number >= 1"),
    ],
)
def test_what_a_manifest_may_not_hold_is_told_in_plain_words(late: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        from_json({"signatures": [], "late": late}, SweepManifest)


def test_a_failed_record_has_no_empty_parts() -> None:
    content = make_failure("code", "it broke")
    assert content["metrics"] == {}
    assert not {"cost", "realised", "graft", "samples", "artifacts", "per_class", "history"} & set(content)
    assert same_text(encode_record(decode_record(content)), content)


@pytest.mark.parametrize("name", FILES)
def test_the_schemas_in_the_docs_are_those_of_the_types(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == schema_text(FILES[name]), (
        "python tests/records/schemas.py writes them anew"
    )
