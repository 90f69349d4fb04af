"""A training that was interrupted, wherever that was, ends as if it had not been: real trainings, real kills."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.training.conftest import small_network
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

from ablate.storage import files
from ablate.training.checkpoint import KEY, TrainingState, read_state, split
from ablate.training.trainer import AblateTrainer
from ablate.training.training_errors import TrainingError

Train = Callable[..., Any]
Whole = Callable[..., Path]
Outcome = dict[str, Any]

RUN = """
import os, signal, sys
from pathlib import Path
from ablate.settings.environment import prepare
prepare()
from ablate.training.trainer import AblateTrainer

def kill_in_mid_epoch(trainer):
    if trainer.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

def kill_while_writing(trainer):
    if trainer.epoch == 2:
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)

trainer = AblateTrainer(overrides=__import__("json").loads(sys.argv[1]))
trainer.add_callback("on_train_batch_end", globals()[sys.argv[2]])
assert not {"mlflow", "ray"} & set(sys.modules), "Ultralytics' integrations are taken off again: none is imported"
trainer.train()
"""


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def interrupt_in(epoch: int, *, batch: int = 1) -> Callable[[Any], None]:
    """Return a callback that interrupts after a batch of an epoch, both counted from 1."""

    def interrupt(trainer: Any) -> None:
        if trainer.epoch + 1 == epoch and trainer._batch == batch:
            raise Interrupted

    return interrupt


def state_of(folder: Path) -> TrainingState:
    """Return the state that a training's last.pt holds."""
    state = read_state(folder / "weights" / "last.pt")
    assert state is not None
    return state


def progress(last: Path) -> tuple[int, int, int]:
    """Return the epochs done, all epochs and the number of resumptions that a checkpoint holds."""
    state = state_of(last.parents[1])
    return state.epoch, state.epochs, state.resumed


def interrupted(build: Train, *words: Any, callbacks: dict[str, Any], **arguments: Any) -> Path:
    """Train until a callback interrupts; return the folder."""
    trainer = build(*words, callbacks=callbacks, **arguments)
    with pytest.raises(Interrupted):
        trainer.train()
    return Path(trainer.save_dir)


def resume(folder: Path, **callbacks: Any) -> Any:
    trainer = AblateTrainer(overrides={"resume": str(folder / "weights" / "last.pt")})
    for event, function in callbacks.items():
        trainer.add_callback(event, function)
    trainer.train()
    return trainer


def facts(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "realised.json").read_text(encoding="utf-8"))
    return content


def outcome(folder: Path) -> Outcome:
    """Return all that a training leaves, except what time it was, and what only a resumed one has to tell."""
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    table = [line.split(",") for line in (folder / "results.csv").read_text(encoding="utf-8").splitlines()]
    weights = {
        name: torch.load(folder / "weights" / name, weights_only=False)["model"].state_dict()
        for name in ("best.pt", "last.pt")
    }
    own = ("resumed", "resume_exact", "peak_memory_gb")
    return {
        "history": [{key: row[key] for key in row if key not in ("time", "seconds")} for row in rows],
        "table": [[*line[:1], *line[2:]] for line in table],
        "realised": {key: value for key, value in facts(folder).items() if key not in own},
        "weights": {f"{file} {key}": value for file, state in weights.items() for key, value in state.items()},
    }


def assert_same(resumed: Path, whole: Path) -> None:
    ours, theirs = outcome(resumed), outcome(whole)
    for part in ("history", "table", "realised"):
        assert ours[part] == theirs[part]
    assert ours["weights"].keys() == theirs["weights"].keys()
    assert [key for key, tensor in ours["weights"].items() if not torch.equal(tensor, theirs["weights"][key])] == []


def flat(tree: Any) -> Any:
    """Return nested values so that they can be compared: tensors and arrays as their bytes."""
    if isinstance(tree, dict):
        return {key: flat(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list | tuple):
        return [flat(value) for value in tree]
    return tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else getattr(tree, "tolist", lambda: tree)()


ACCUMULATING = {"nbs": 16, "optimizer": "MuSGD", "epochs": 3}
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "musgd, accumulating, in warm-up": (3, ACCUMULATING),
    "musgd, accumulating, after warm-up": (2, {**ACCUMULATING, "nbs": 12, "warmup_epochs": 0}),
    "sgd, before mosaic is closed": (2, {"optimizer": "SGD", "epochs": 3, "close_mosaic": 1}),
    "sgd, when mosaic is closed": (3, {"optimizer": "SGD", "epochs": 3, "close_mosaic": 1}),
    "sgd, after mosaic was closed": (3, {"optimizer": "SGD", "epochs": 3, "close_mosaic": 2, "batch": 3}),
    "adamw, all at random": (
        2,
        {"optimizer": "AdamW", "epochs": 2, "multi_scale": 0.5, "mixup": 0.5, "close_mosaic": 0},
    ),
    "sgd, frozen layers, not validated": (2, {"optimizer": "SGD", "epochs": 3, "freeze": 5, "val": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(build: Train, uninterrupted: Whole, case: str) -> None:
    epoch, arguments = CASES[case]
    whole = uninterrupted(**arguments)
    folder = interrupted(build, callbacks={"on_train_batch_end": interrupt_in(epoch)}, **arguments)
    state = state_of(folder)
    assert (state.epoch, state.epochs) == (epoch - 1, arguments["epochs"])
    assert (state.waiting > 0) == ("accumulating" in case), "gradients wait for the optimizer, or nothing is tested"

    resume(folder)

    assert_same(folder, whole)
    assert (facts(folder)["resumed"], facts(folder)["resume_exact"], facts(folder)["workers"]) == (1, True, 0)
    assert (facts(whole)["resumed"], facts(whole)["resume_exact"]) == (0, None)


def test_a_resumed_training_leaves_the_same_state_to_the_last_bit(build: Train) -> None:
    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    whole = interrupted(build, callbacks={"on_model_save": stop}, **ACCUMULATING)
    folder = interrupted(build, callbacks={"on_train_batch_end": interrupt_in(2)}, **ACCUMULATING)
    with pytest.raises(Interrupted):
        resume(folder, on_model_save=stop)

    ours, theirs = state_of(folder), state_of(whole)
    assert ours.tensors is not None
    assert theirs.tensors is not None
    for part, mine, joined in zip(theirs.tensors._fields, ours.tensors, theirs.tensors, strict=True):
        assert flat(split(mine)) == flat(split(joined)), part
    for part in ("random", "loader", "waiting", "metrics", "fitness", "epoch", "stage"):
        assert flat(getattr(ours, part)) == flat(getattr(theirs, part))


def test_a_graft_on_weights_of_other_classes_interrupted_in_every_epoch_ends_as_an_uninterrupted_one(
    build: Train, uninterrupted: Whole, tmp_path: Path
) -> None:
    stock = DetectionModel(small_network(), nc=80, verbose=False)
    torch.save({"model": stock, "train_args": {}}, tmp_path / "coco.pt")
    words = ("ablate.modules.hmha.HMHA", "neck_p5")
    arguments = {"epochs": 3, "pretrained": str(tmp_path / "coco.pt")}
    whole = uninterrupted(*words, **arguments)
    folder = interrupted(build, *words, callbacks={"on_train_batch_end": interrupt_in(2)}, **arguments)
    with pytest.raises(Interrupted):
        resume(folder, on_train_batch_end=interrupt_in(3, batch=2))

    resume(folder)

    assert_same(folder, whole)
    assert facts(folder)["weights"]["transferred"] > 0
    assert (facts(folder)["resumed"], facts(folder)["resume_exact"]) == (2, True)
    head = torch.load(folder / "weights" / "best.pt", weights_only=False)["model"].model[-1]
    assert head.cv3[0][-1].weight.shape[:2] == (6, 80), "six classes in a branch as wide as that of 80"


@pytest.mark.parametrize("moment", ["kill_in_mid_epoch", "kill_while_writing"])
def test_a_killed_process_loses_nothing_but_its_epoch(uninterrupted: Whole, tmp_path: Path, moment: str) -> None:
    whole = uninterrupted(**ACCUMULATING)
    overrides = yaml.safe_load((whole / "args.yaml").read_text(encoding="utf-8"))
    overrides |= {"project": str(tmp_path / "killed"), "save_dir": None}
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ["ABLATE_CPU_THREADS"]}
    process = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(overrides), moment], env=environment, capture_output=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    folder = tmp_path / "killed" / "train"
    assert bool(list((folder / "weights").glob(".*.tmp"))) == (moment == "kill_while_writing")

    resume(folder)

    assert_same(folder, whole)
    assert [path.name for path in sorted((folder / "weights").iterdir())] == ["best.pt", "last.pt"]


def test_an_epoch_whose_checkpoint_is_written_is_not_lost(build: Train, uninterrupted: Whole) -> None:
    def stop(trainer: Any) -> None:  # between the checkpoint and the row of history.jsonl
        raise Interrupted

    whole = uninterrupted(epochs=2)
    folder = interrupted(build, epochs=2, callbacks={"on_model_save": stop})
    assert not (folder / "history.jsonl").exists()

    resumed = resume(folder)

    assert resumed.start_epoch == 1
    assert_same(folder, whole)


def test_a_best_checkpoint_that_was_not_written_any_more_is_made_up_for(
    build: Train, uninterrupted: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted(epochs=2)
    written: list[str] = []

    def stop_before_best(path: Path, content: bytes) -> None:
        written.append(path.name)
        if written.count("best.pt") == 2:
            raise Interrupted
        files.atomic_write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("ablate.training.checkpoint.atomic_write_bytes", stop_before_best)
        folder = interrupted(build, epochs=2, callbacks={})
    assert written == ["last.pt", "best.pt"] * 2

    resume(folder)

    assert_same(folder, whole)


def test_the_last_evaluation_can_be_interrupted_too(build: Train, uninterrupted: Whole) -> None:
    def stop(validator: Any) -> None:
        if not validator.training:
            raise Interrupted

    whole = uninterrupted(epochs=2)
    folder = interrupted(build, epochs=2, callbacks={"on_val_end": stop})
    (folder / "history.jsonl").unlink()
    assert progress(folder / "weights" / "last.pt") == (2, 2, 0)

    resumed = resume(folder)

    assert resumed.epoch == 1, "no epoch is trained again"
    assert_same(folder, whole)
    assert (facts(folder)["resumed"], facts(folder)["resume_exact"]) == (1, True)


def test_a_training_that_stopped_early_is_not_trained_further(build: Train, uninterrupted: Whole) -> None:
    def stop_early(trainer: Any) -> None:
        trainer.stop = True

    def interrupt(trainer: Any) -> None:
        raise Interrupted

    whole = uninterrupted(epochs=3, callbacks={"on_train_epoch_end": stop_early})
    folder = interrupted(build, epochs=3, callbacks={"on_train_epoch_end": stop_early, "on_model_save": interrupt})

    resume(folder)

    assert facts(folder)["early_stop"]
    assert_same(folder, whole)


def test_a_training_that_is_over_is_left_as_it_is(uninterrupted: Whole) -> None:
    folder = uninterrupted(epochs=2)
    last = folder / "weights" / "last.pt"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "args.yaml"}

    assert progress(last) == (2, 2, 0)
    resume(folder)

    assert {path: path.read_bytes() for path in before} == before


def test_stock_ultralytics_reads_the_checkpoint_of_an_interrupted_training(build: Train, tiny_data: Path) -> None:
    folder = interrupted(build, epochs=2, callbacks={"on_train_batch_end": interrupt_in(2)})

    model = YOLO(folder / "weights" / "last.pt")
    metrics = model.val(data=str(tiny_data), imgsz=64, plots=False, device="cpu", project=str(folder), name="val")

    assert len(model.names) == 6
    assert "metrics/mAP50-95(B)" in metrics.results_dict


def test_a_full_disk_leaves_the_checkpoint_before(build: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def full(trainer: Any) -> None:
        def refuse(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", refuse if trainer.epoch == 1 else fsync)

    trainer = build(epochs=3, callbacks={"on_train_epoch_end": full})
    with pytest.raises(OSError, match="No space left on device") as caught:
        trainer.train()
    weights = Path(trainer.save_dir) / "weights"

    assert caught.value.errno == errno.ENOSPC
    assert progress(weights / "last.pt") == (1, 3, 0)
    assert [path.name for path in sorted(weights.iterdir())] == ["best.pt", "last.pt"]


def test_the_caller_says_where_a_training_goes_on_and_the_checkpoint_what_it_is(
    build: Train, uninterrupted: Whole, tiny_data: Path, tmp_path: Path
) -> None:
    whole = uninterrupted(epochs=2)
    old = interrupted(build, epochs=2, callbacks={"on_train_batch_end": interrupt_in(2)})
    moved, data = tmp_path / "moved" / "train", tmp_path / "elsewhere"
    shutil.move(old, moved)
    shutil.copytree(tiny_data.parent, data)
    content = yaml.safe_load(tiny_data.read_text(encoding="utf-8"))
    (data / tiny_data.name).write_text(yaml.safe_dump({**content, "path": str(data)}), encoding="utf-8")

    trainer = AblateTrainer(
        overrides={
            "resume": str(moved / "weights" / "last.pt"),
            "data": str(data / tiny_data.name),
            "device": "cpu",
            "model": "yolo26s.yaml",
            "epochs": 9,
            "batch": 2,
            "optimizer": "AdamW",
            "project": str(tmp_path / "nowhere"),
            "name": "other",
        }
    )
    trainer.train()

    assert Path(trainer.save_dir) == moved
    assert not old.exists()
    assert not (tmp_path / "nowhere").exists()
    assert all(Path(file).is_relative_to(data) for file in trainer.train_loader.dataset.im_files)
    ours, theirs = outcome(moved), outcome(whole)
    assert ours["history"] == theirs["history"]
    assert ours["realised"]["evaluations"] == theirs["realised"]["evaluations"]


def test_with_loader_processes_a_training_goes_on_and_says_that_it_is_not_the_same(build: Train) -> None:
    trainer = build(epochs=2, callbacks={"on_train_batch_end": interrupt_in(2)})
    trainer.args.workers = 1  # Ultralytics has just set it to 0, as always on a CPU
    with pytest.raises(Interrupted):
        trainer.train()
    trainer.train_loader.close()

    resumed = AblateTrainer(overrides={"resume": str(trainer.last)})
    resumed.args.workers = 1
    resumed.train()

    told = facts(Path(trainer.save_dir))
    assert (told["epochs"], told["workers"], told["resumed"], told["resume_exact"]) == (2, 1, 1, False)


def test_a_training_that_need_not_repeat_itself_does_not_go_on_exactly(build: Train) -> None:
    folder = interrupted(build, epochs=2, deterministic=False, callbacks={"on_train_batch_end": interrupt_in(2)})
    resume(folder)
    assert (facts(folder)["epochs"], facts(folder)["resume_exact"]) == (2, False)


def test_without_its_checkpoint_a_training_does_not_go_on_with_another(
    build: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(build, epochs=2, callbacks={"on_train_batch_end": interrupt_in(2)})
    last = folder / "weights" / "last.pt"
    stock = folder / "stock.pt"
    content = torch.load(last, weights_only=False)
    del content[KEY]
    torch.save(content, stock)
    monkeypatch.chdir(folder)  # Ultralytics searches below the working folder

    for path in (stock, folder / "missing.pt"):
        with pytest.raises(TrainingError, match=f"{path.name} carries no state"):
            AblateTrainer(overrides={"resume": str(path)})


def test_a_new_training_in_an_old_folder_forgets_the_old_one(build: Train) -> None:
    folder = interrupted(build, epochs=3, callbacks={"on_train_batch_end": interrupt_in(3)})
    arguments = {"project": str(folder.parent), "epochs": 3}

    interrupted(build, callbacks={"on_train_batch_end": interrupt_in(1)}, **arguments)

    assert read_state(folder / "weights" / "last.pt") is None
    assert not (folder / "history.jsonl").exists()


@pytest.mark.security(
    "Checkpoint", "A `last.pt` cannot bring another graft, nor that graft's file, into a trial that resumes."
)
def test_a_checkpoint_with_another_graft_is_not_resumed(build: Train, tmp_path: Path) -> None:
    folder = interrupted(build, epochs=2, callbacks={"on_train_batch_end": interrupt_in(2)})
    last = folder / "weights" / "last.pt"
    content = torch.load(last, weights_only=False)
    place = {"name": "head", "at": None, "wiring": "plain"}
    content["ema"].yaml["ablate"] = {"module": {"_target_": "antigravity.Module"}, "insertion": place}
    torch.save(content, last)
    (model,) = folder.parent.glob("*.yaml")

    with pytest.raises(TrainingError, match="other grafts"):
        AblateTrainer(overrides={"resume": str(last), "model": str(model)})
    assert "antigravity" not in sys.modules
