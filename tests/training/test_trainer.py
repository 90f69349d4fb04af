"""Real, tiny trainings: what is silent in Ultralytics is an error or a record here."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.events import events

from ablate.data.cache import cache_dir
from ablate.evaluation.average_precision import ultralytics_ap
from ablate.records.metrics import EpochRow
from ablate.records.predictions import load_predictions
from ablate.training.checkpoint import KEY
from ablate.training.history import best_epoch
from ablate.training.musgd import fast_arithmetic
from ablate.training.training_errors import Diverged, OutOfMemory

Train = Callable[..., Any]
YOLO26N = 1 / 4  # its width


def realised(trainer: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(trainer.save_dir) / "realised.json").read_text(encoding="utf-8"))
    return content


def history(trainer: Any) -> list[dict[str, Any]]:
    text = (Path(trainer.save_dir) / "history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_training_writes_down_what_it_was(train: Train) -> None:
    trainer = train("ablate.modules.hmha.HMHA", "c3k2", epochs=2, width=YOLO26N)

    facts, epochs = realised(trainer), history(trainer)
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert {"train/box_loss", "val/box_loss", "map50_95", "lr/pg0", "seconds", "fitness"} <= set(epochs[0])
    assert facts["batch"] == 4
    assert facts["optimizer"] == "MuSGD"
    assert facts["orthogonalise"] == fast_arithmetic(trainer.device)
    assert facts["epochs"] == 2
    assert not facts["early_stop"]
    assert not facts["amp"], "there is no automatic mixed precision on a CPU"
    assert len(facts["graft"]["places"]) == 13
    labels = Path(trainer.data["path"]) / "labels"
    boxes = {s: sum(len(p.read_text().splitlines()) for p in (labels / s).glob("*.txt")) for s in ("train", "val")}
    assert (facts["images"], facts["instances"]) == ({"train": 8, "val": 4}, boxes)
    assert set(facts["evaluations"]) == {"best", "last"}
    for evaluation in facts["evaluations"].values():
        evidence = load_predictions(Path(trainer.save_dir) / evaluation["evidence"])
        assert list(evidence.names) == [f"images/val/{number:06d}.png" for number in range(4)]
        assert ultralytics_ap(evidence).map50_95 == pytest.approx(evaluation["metrics"]["map50_95"], abs=1e-9)
        assert len(evaluation["per_class"]) == len(trainer.data["names"])
    assert len(facts["samples"]) == 4
    grouped = {name for group in facts["parameter_groups"] for name in group["tensors"]}
    assert grouped == {name for name, _ in trainer.model.named_parameters()}


def test_the_last_epoch_is_evaluated_as_the_best_one_is(train: Train) -> None:
    def let_the_first_be_best(trainer: Any) -> None:
        validate = trainer.validate

        def judged() -> tuple[dict[str, float], float]:
            metrics, _ = validate()
            trainer.best_fitness = 1.0
            return metrics, 1.0 - trainer.epoch / 10

        trainer.validate = judged

    trainer = train(epochs=2, callbacks={"on_pretrain_routine_end": let_the_first_be_best})
    facts = realised(trainer)
    assert {which: found["evidence"] for which, found in facts["evaluations"].items()} == {
        "best": "evidence/best.npz",
        "last": "evidence/last.npz",
    }
    best, last = (load_predictions(Path(trainer.save_dir) / "evidence" / f"{which}.npz") for which in ("best", "last"))
    assert list(best.names) == list(last.names)
    assert best.conf.shape != last.conf.shape or (best.conf != last.conf).any(), "other weights see other things"


def test_an_identity_graft_reproduces_the_baseline_exactly(train: Train) -> None:
    baseline = train(epochs=2)
    control = train("ablate.modules.identity.Identity", "c3k2", epochs=2)

    def comparable(trainer: Any) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k not in ("time", "seconds")} for row in history(trainer)]

    assert comparable(control) == comparable(baseline)
    theirs = list(baseline.model.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(control.model.state_dict().values(), theirs, strict=True))


@pytest.mark.filterwarnings("ignore:`get_trial_id`:UserWarning")  # Ultralytics asks Ray wherever it is installed
def test_the_baseline_is_what_ultralytics_own_trainer_gives(train: Train, tiny_data: Path, tmp_path: Path) -> None:
    ours = train(epochs=2, orthogonalise="bf16", width=YOLO26N)
    (tmp_path / "bare").mkdir()
    bare = DetectionTrainer(
        overrides={
            "model": "yolo26n.yaml",
            "data": str(tiny_data),
            "pretrained": False,
            "device": "cpu",
            "epochs": 2,
            "batch": 4,
            "nbs": 4,
            "imgsz": 64,
            "plots": False,
            "optimizer": "MuSGD",
            "project": str(tmp_path / "bare"),
        }
    )
    bare.train()

    theirs = list(bare.model.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(ours.model.state_dict().values(), theirs, strict=True))


def test_out_of_memory_ends_the_training_instead_of_halving_the_batch(train: Train, user_modules: str) -> None:
    with pytest.raises(OutOfMemory, match=r"batch=4, imgsz=64: CUDA out of memory"):
        train(f"{user_modules}.OutOfMemoryAbove", options={"batch": 2})


def test_halving_happens_where_it_is_asked_for_and_is_recorded(train: Train, user_modules: str) -> None:
    trainer = train(f"{user_modules}.OutOfMemoryAbove", options={"batch": 2}, on_oom="halve")

    assert realised(trainer)["oom_retries"] == 1
    assert realised(trainer)["batch"] == 2


def test_a_loss_that_is_not_a_number_ends_the_training(train: Train, user_modules: str) -> None:
    with pytest.raises(Diverged, match="nan in epoch 1"):
        train(f"{user_modules}.Nan")


def test_an_early_stop_is_recorded(train: Train) -> None:
    def stop(trainer: Any) -> None:
        trainer.stop = trainer.epoch == 1

    trainer = train(epochs=5, callbacks={"on_train_epoch_end": stop})

    assert realised(trainer)["early_stop"]
    assert realised(trainer)["stopped_by"] == "patience"
    assert realised(trainer)["epochs"] == 2
    assert realised(trainer)["epochs_asked"] == 5


def test_a_detector_that_sees_nothing_has_an_accuracy_of_nothing(train: Train) -> None:
    trainer = train(conf=1.0)

    facts = realised(trainer)
    assert set(facts["evaluations"]) == {"best", "last"}
    for evaluation in facts["evaluations"].values():
        evidence = load_predictions(Path(trainer.save_dir) / evaluation["evidence"])
        assert (len(evidence.cls), len(evidence.names)) == (0, 4)
        assert {evaluation["metrics"][name] for name in ("map50_95", "map50", "map75", "precision", "recall")} == {0.0}
        assert {evaluation["metrics"][f"map50_95_{size}"] for size in ("small", "medium", "large")} <= {0.0, None}
        rows = {row["name"]: (row["map50_95"], row["instances"]) for row in evaluation["per_class"]}
        assert set(rows.values()) > {(None, 0)}, "a class without objects has no accuracy"
        assert all((accuracy == 0.0) == (instances > 0) for accuracy, instances in rows.values())


def test_epochs_that_nobody_validated_have_no_figures_and_the_last_one_is_the_best(train: Train) -> None:
    trainer = train(epochs=3, val=False, plots=True)

    rows = history(trainer)
    figures = [{name for name in row if name.startswith(("val/", "map", "precision", "recall"))} for row in rows]
    assert figures[:2] == [set(), set()]
    assert {"val/box_loss", "map50_95", "recall"} <= figures[2]
    assert [row["fitness"] is None for row in rows] == [True, True, False]
    assert {"train/box_loss", "lr/pg0", "seconds"} <= set(rows[0])
    assert best_epoch(list(map(EpochRow, rows))) == 3
    facts = realised(trainer)
    assert facts["evaluations"]["best"] == facts["evaluations"]["last"]
    table = list(csv.DictReader((Path(trainer.save_dir) / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["metrics/mAP50-95(B)"] for row in table[:2]] == ["nan", "nan"]
    assert float(table[2]["val/box_loss"]) > 0
    assert (Path(trainer.save_dir) / "results.png").is_file()


def test_a_training_that_the_clock_stops_says_so(train: Train) -> None:
    facts = realised(trainer := train(epochs=9, time=1e-6))

    assert (facts["epochs"], facts["epochs_asked"], facts["hours_asked"]) == (1, None, 1e-6)
    assert (facts["stopped_by"], facts["early_stop"]) == ("time", False)
    assert facts["last_epoch_batches"] == [1, 2]
    assert trainer.epochs != 9, "Ultralytics counts its epochs anew"
    trainer.journal.rows[-1] = EpochRow({"epoch": 1})  # as in a checkpoint of an earlier version
    assert trainer._report().last_epoch_batches == (None, 2)


def test_integrations_of_ultralytics_are_taken_off(train: Train) -> None:
    trainer = train()

    homes = {f.__module__ for functions in trainer.callbacks.values() for f in functions}
    assert not any(home.startswith("ultralytics.utils.callbacks.") and not home.endswith(".base") for home in homes)
    assert not events.enabled, "Ultralytics would report this training to its makers"
    assert not mlflow.active_run()


def test_an_average_of_weights_that_is_not_finite_ends_the_training(train: Train) -> None:
    def poison(trainer: Any) -> None:
        trainer.ema.ema.model[0].bn.running_var.fill_(float("inf"))

    with pytest.raises(Diverged, match="average of the weights is not finite in epoch 1"):
        train(callbacks={"on_train_epoch_end": poison})


def test_checkpoints_of_a_training_that_is_over_have_weights_only(train: Train) -> None:
    weights = Path(train().save_dir) / "weights"
    last = torch.load(weights / "last.pt", weights_only=False)
    best = torch.load(weights / "best.pt", weights_only=False)

    assert sorted(last.pop(KEY)) == ["epoch", "epochs", "format", "resumed", "stage"]
    assert last.keys() <= best.keys()
    assert (last["epoch"], last["ema"], last["optimizer"]) == (-1, None, None)
    assert all(parameter.dtype == torch.half for parameter in last["model"].parameters())


def test_every_epoch_is_on_disk_when_it_ends_and_progress_is_told_within(train: Train) -> None:
    rows: list[int] = []
    progress: list[dict[str, Any]] = []

    def look(trainer: Any) -> None:
        folder = Path(trainer.save_dir)
        rows.append(len((folder / "history.jsonl").read_text(encoding="utf-8").splitlines()))

    def follow(trainer: Any) -> None:
        progress.append(json.loads((Path(trainer.save_dir) / "progress.json").read_text(encoding="utf-8")))

    train(epochs=2, callbacks={"on_fit_epoch_end": look, "on_train_batch_start": follow})

    assert rows[:2] == [1, 2]
    assert sorted(progress[0]) == ["batch", "batches", "epoch", "epochs", "time"]
    assert [progress[0][key] for key in ("epoch", "epochs", "batch", "batches")] == [1, 2, 1, 2]


@pytest.mark.security("Working folder", "A `weights/yolo26n.pt` in it is not what mixed precision is checked with.")
def test_mixed_precision_is_checked_with_a_checkpoint_of_the_cache(
    build: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics import utils
    from ultralytics.engine import trainer as stock

    folders = []

    def check(model: Any) -> bool:
        folders.append(utils.WEIGHTS_DIR)
        raise Stop

    monkeypatch.setattr(stock, "check_amp", check)
    before = utils.WEIGHTS_DIR
    with pytest.raises(Stop):
        build(amp=True).train()

    assert folders == [cache_dir() / "weights"]
    assert before == utils.WEIGHTS_DIR


class Stop(Exception):
    """Ends a training."""
