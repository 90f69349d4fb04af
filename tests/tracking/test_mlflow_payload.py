"""A record in MLflow's terms, without MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from tests.factories import LACKING, decoded, make_record

from ablate.analysis.table_summary import TableRow, TableSummary
from ablate.storage.files import atomic_write_json
from ablate.tracking import mlflow_payload as entries
from ablate.tracking import parent_run as summary
from ablate.tracking.ui_description import DESCRIPTION, experiment_tags

CONTROL = {"kind": "identity", "comparison_key": "k", "signatures": ["bb"]}
RECORD = decoded(
    metrics={"map50_95": 0.25, "map50_95_small": None, "checkpoint": "best", "epoch": 3},
    metrics_last={"map50_95": 0.2, "map50": float("nan")},
    per_class=[{"name": "red/white", "map50_95": 0.5}, {"name": "größe", "map50_95": None}],
    cost={"params": 10, "energy_kwh": None},
    realised={"batch": 8, "amp": False, "weights": {"sha256": None, "missing": [], "source": None}},
    config={"model": {"name": "yolo26n", "architecture": "yolo26n.yaml", "weights": None}, "data": {"path": None}},
    data={"name": "shapes", "classes": ["a", "b"], "images": {"train": 4}, "instances": {"train": 9},
          "fingerprint": "0123456789" * 6 + "abcd"},
)  # fmt: skip


def test_only_numbers_that_are_there_become_metrics() -> None:
    assert entries.final_metrics(RECORD) == {
        "final/map50_95": 0.25,
        "final/epoch": 3.0,
        "last/map50_95": 0.2,
        "per_class_map50_95/red_white": 0.5,
        "cost/params": 10.0,
    }


def test_a_record_of_an_older_version_has_fewer_metrics_and_no_inputs() -> None:
    later = ("data", "cost", "per_class", "realised", "inputs")
    old = decoded(metrics={"map50_95": 0.25}, config={}, **dict.fromkeys(later, LACKING))
    assert entries.final_metrics(old) == {"final/map50_95": 0.25}
    assert entries.dataset(old) is None
    assert entries.starting_model(old) is None
    assert entries.realised_parameters(old) == {}


def test_of_a_thousand_classes_none_has_a_metric() -> None:
    many = decoded(per_class=[{"name": str(number), "map50_95": 0.5} for number in range(1000)])
    assert not [name for name in entries.final_metrics(many) if name.startswith("per_class")]


def test_what_a_training_really_was_is_told_without_what_is_empty() -> None:
    assert entries.realised_parameters(RECORD) == {"realised.batch": "8", "realised.amp": "False"}


def test_a_data_set_is_named_by_its_fingerprint_and_described_by_its_counts() -> None:
    found = entries.dataset(RECORD)
    assert found is not None
    assert RECORD.data is not None
    assert RECORD.data.fingerprint is not None
    assert found.digest == RECORD.data.fingerprint[:36]
    assert json.loads(found.profile)["fingerprint"] == RECORD.data.fingerprint
    assert json.loads(found.profile)["images_train"] == 4
    assert json.loads(found.source) == {"uri": "ablate: data=shapes"}


def test_each_fold_is_a_data_set_and_a_tag_of_its_own() -> None:
    folds = [
        msgspec.structs.replace(RECORD, fold=index, config={"fold": {"folds": 5, "assignment": "ab"}})
        for index in range(2)
    ]
    one, other = (entries.dataset(record) for record in folds)
    assert one is not None
    assert other is not None
    assert (one.name, other.name) == ("shapes, fold 0 of 5", "shapes, fold 1 of 5")
    assert one.digest != other.digest
    assert json.loads(one.profile)["fingerprint"] == RECORD.data.fingerprint  # type: ignore[union-attr]
    assert [entries.trial_tags(record)["ablate.fold"] for record in folds] == ["0", "1"]
    assert "ablate.fold" not in entries.trial_tags(RECORD)


def test_weights_that_are_not_given_are_the_seeds() -> None:
    found = entries.starting_model(RECORD)
    assert found == entries.StartingModel(
        name="yolo26n", architecture="yolo26n.yaml", weights="random, by the seed", weights_sha256="none"
    )


def test_what_trials_share_is_told_apart_from_what_varies() -> None:
    shared, varying = entries.shared_and_varying(
        [{"seed": 0, "train": {"epochs": 3}}, {"seed": 1, "train": {"epochs": 3}}]
    )
    assert (shared, varying) == ({"train.epochs": "3"}, ["seed"])
    assert entries.shared_and_varying([]) == ({}, [])


def test_a_sweep_is_summed_up_from_its_folder(tmp_path: Path) -> None:
    directory = tmp_path / "sweeps" / "s"
    for seed, signature in enumerate(("aa", "bb")):
        config = {"seed": seed, "device": "cpu"}
        content = make_record(
            signature=signature, variant_key=signature, seed=seed, factors={"module": "none"}, config=config
        )
        atomic_write_json(tmp_path / "trials" / signature / "result.json", content)
    head = {"name": "s", "signatures": ["aa", "bb", "cc"], "controls": {"bb": CONTROL, "x": None}}
    atomic_write_json(directory / "sweep.json", head)
    rows: list[TableRow] = [{"variant": "baseline", "notes": ""}, {"variant": "hmha", "delta_map50_95": 0.02}]

    told = summary.of_sweep(directory, TableSummary(rows, 0.02, 1))

    assert told.metrics == {
        "sweep/trials": 3.0,
        "sweep/finished": 2.0,
        "sweep/failed": 0.0,
        "sweep/variants": 2.0,
        "sweep/largest_delta_map50_95": 0.02,
        "sweep/variants_with_p_holm_below_0.05": 1.0,
    }
    assert told.shared == {"device": "cpu"}
    assert told.tags == {"ablate.module": "none", "ablate.seed": "0, 1", "ablate.varies": "seed"}
    assert told.controls == {"bb": "identity"}
    assert told.table == [{"variant": "baseline", "notes": None}, {"variant": "hmha", "delta_map50_95": 0.02}]


def test_a_sweep_that_declared_a_metric_is_summed_up_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "sweeps" / "s"
    atomic_write_json(directory / "sweep.json", {"name": "s", "signatures": [], "analysis": {"metric": "map50"}})
    told = summary.of_sweep(directory, TableSummary([], 0.02, 1))
    assert told.metrics["sweep/largest_delta_map50"] == 0.02
    assert told.tags == {"ablate.metric": "map50"}


def test_a_folder_without_anything_is_summed_up_as_nothing(tmp_path: Path) -> None:
    told = summary.of_sweep(tmp_path, TableSummary())
    assert told.metrics["sweep/trials"] == 0
    assert (told.table, told.shared, told.controls) == ([], {}, {})


def test_views_and_description_that_somebody_changed_are_left_alone() -> None:
    all_of_them = experiment_tags(0)
    assert all_of_them["mlflow.note.content"] == DESCRIPTION
    views = {
        name: json.loads(value) for name, value in all_of_them.items() if name.startswith("mlflow.sharedViewState.")
    }
    assert len(views) == 4
    assert all(isinstance(json.loads(view["state"])["selectedColumns"], list) for view in views.values())
    for name in ("ablate-trials", "ablate-failed"):  # lists of single trials say which repetition each is
        columns = json.loads(views[f"mlflow.sharedViewState.{name}"]["state"])["selectedColumns"]
        assert {"tags.`ablate.seed`", "tags.`ablate.fold`"} <= set(columns)
    assert set(experiment_tags(0, {"mlflow.note.content": "mine"})) == set(all_of_them) - {"mlflow.note.content"}
    assert experiment_tags(0, all_of_them) == {}
