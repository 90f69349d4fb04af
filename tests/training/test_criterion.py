"""Other losses in Ultralytics' criterion: each acts, its control changes nothing, and an interrupted one goes on."""

from __future__ import annotations

import json
import pickletools
import sys
import zipfile
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_resuming import Interrupted, assert_same, interrupt_in, state_of
from torch import Tensor
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel, OBBModel, yaml_model_load

from ablate.errors import ConfigError
from ablate.grafting.insertion import GraftError
from ablate.settings.losses import LossSettings, LossSpec, loss_names
from ablate.training.criterion import ReplacedLosses, check_losses
from ablate.training.load import load
from ablate.training.trainer import AblateTrainer
from ablate.training.training_errors import TrainingError

Whole = Callable[..., Path]
IDENTITY = {"box": "identity", "cls": "identity", "assigner": "identity"}
NETWORKS = ("yolo26n", "yolo12n", "yolo11n", "yolov10n", "yolov8n")
OWN = """
import torch


class Mine(torch.nn.Module):
    def forward(self, boxes, targets, scale):
        return {result}
"""
VARIANTS = [
    *((part, name) for part in ("box", "cls", "assigner") for name in loss_names(part)),
    *(("box", text) for text in ("wiou[version=v1]", "eiou[gamma=0.5]", "inner[of=siou]", "nwd[ratio=1.0]")),
]


@cache
def network(name: str) -> DetectionModel:
    content = yaml_model_load(f"{name}.yaml")
    if name != "yolo12n":  # whose attention needs channels in thirty-twos
        content["scales"]["n"][1] = 1 / 16
    torch.manual_seed(0)
    built = DetectionModel(content, nc=3, verbose=False)
    built.args = get_cfg()
    return built.train()


@cache
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "img": torch.rand(2, 3, 64, 64, generator=generator),
        "batch_idx": torch.tensor([0.0, 0, 1, 1]),
        "cls": torch.tensor([[0.0], [1], [2], [1]]),
        "bboxes": torch.tensor(
            [[0.3, 0.4, 0.3, 0.5], [0.7, 0.7, 0.2, 0.2], [0.5, 0.5, 0.9, 0.4], [0.2, 0.8, 0.3, 0.3]]
        ),
    }


@cache
def step(name: str, losses: tuple[tuple[str, str], ...] = (), how: str = "") -> tuple[Tensor, ...]:
    """Return the losses of one step and the gradient of every parameter.

    Args:
        name: The network.
        losses: Those that are not stock.
        how: "mixed" precision, or "empty" images.
    """
    model = network(name)
    model.criterion = None
    model.zero_grad()
    ReplacedLosses(LossSettings.from_plain(dict(losses))).install(model)
    torch.manual_seed(0)
    images = {**batch(), **{key: batch()[key][:0] for key in ("batch_idx", "cls", "bboxes") if how == "empty"}}
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "mixed"):
        loss, items = model(images)
    loss.sum().backward()
    return (*items.values(), *(p.grad.clone() for p in model.parameters() if p.grad is not None))


def differing(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> int:
    return sum(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("name", "how"), [*((name, "") for name in NETWORKS), ("yolo26n", "mixed"), ("yolov8n", "empty")]
)
def test_stock_losses_through_our_path_give_the_digits_of_the_stock_network(name: str, how: str) -> None:
    assert differing(step(name, (), how), step(name, tuple(IDENTITY.items()), how)) == 0


@pytest.mark.parametrize(("part", "text"), [("box", "wiou"), ("box", "mpdiou"), ("cls", "slide"), ("assigner", "nwd")])
@pytest.mark.parametrize("how", ["mixed", "empty"])
def test_losses_are_finite_in_mixed_precision_and_on_images_without_objects(part: str, text: str, how: str) -> None:
    assert all(torch.isfinite(tensor).all() for tensor in step("yolo26n", ((part, text),), how))


@pytest.mark.parametrize(("part", "text"), [case for case in VARIANTS if case[1] not in ("identity", "ciou", "bce")])
def test_every_loss_acts(part: str, text: str) -> None:
    changed = step("yolo26n", ((part, text),))
    assert all(torch.isfinite(tensor).all() for tensor in changed)
    assert differing(step("yolo26n"), changed) > len(changed) / 2


@pytest.mark.parametrize(("name", "heads"), [("yolo26n", ("one_to_many", "one_to_one")), ("yolov8n", ("detect",))])
def test_a_record_says_in_which_heads_a_loss_ran(name: str, heads: tuple[str, ...]) -> None:
    losses = ReplacedLosses(LossSettings.from_plain({"box": "inner[of=siou]"}))
    network(name).criterion = None
    losses.install(network(name))
    (report,) = losses.report()
    assert (report.part, report.loss, report.heads) == ("box", "inner[of=siou]", heads)
    assert report.classes == ("ablate.losses.inner.Inner", "ablate.losses.siou.SIoU")


def test_a_validation_moves_no_running_mean() -> None:
    losses = ReplacedLosses(LossSettings.from_plain({"box": "wiou[momentum=0.5]"}))
    model = network("yolo26n")
    model.criterion = None
    losses.install(model)
    with torch.inference_mode():
        model.loss(batch())
    assert {float(mean) for mean in losses.state().values()} == {1.0}
    model.loss(batch())
    assert set(losses.state()) == {"one_to_many.box.mean", "one_to_one.box.mean"}
    assert all(float(mean) < 1.0 for mean in losses.state().values())


@pytest.mark.slow
def test_a_training_with_stock_losses_through_our_path_is_that_of_the_baseline(uninterrupted: Whole) -> None:
    ours, stock = uninterrupted(losses=IDENTITY), uninterrupted()
    realised = [json.loads((folder / "realised.json").read_text(encoding="utf-8")) for folder in (ours, stock)]
    assert [report["part"] for report in realised[0].pop("losses")] == ["box", "cls", "assigner"]
    weights = [torch.load(f / "weights" / "last.pt", weights_only=False)["model"].state_dict() for f in (ours, stock)]
    assert [name for name, tensor in weights[1].items() if not torch.equal(tensor, weights[0][name])] == []
    for folder_file in ("results.csv", "history.jsonl"):
        rows = [_rows(folder / folder_file) for folder in (ours, stock)]
        assert rows[0] == rows[1]


def _rows(file: Path) -> list[Any]:
    lines = file.read_text(encoding="utf-8").splitlines()
    if file.suffix == ".csv":
        return [[*line.split(",")[:1], *line.split(",")[2:]] for line in lines]
    return [
        {key: value for key, value in json.loads(line).items() if "time" not in key and key != "seconds"}
        for line in lines
    ]


def test_a_loss_with_a_running_mean_goes_on_exactly(build: Callable[..., Any], uninterrupted: Whole) -> None:
    words: dict[str, Any] = {"losses": {"box": "wiou[momentum=0.3]"}, "optimizer": "SGD", "epochs": 2}
    whole = uninterrupted(**words)
    trainer = build(callbacks={"on_train_batch_end": interrupt_in(2)}, **words)
    with pytest.raises(Interrupted):
        trainer.train()
    folder = Path(trainer.save_dir)
    mean = state_of(folder).losses["one_to_many.box.mean"]
    assert 0 < float(mean) < 1
    other = build(losses={"box": "siou"}).args.model
    with pytest.raises(TrainingError, match="other losses"):
        AblateTrainer(overrides={"resume": str(folder / "weights" / "last.pt"), "model": other})

    AblateTrainer(overrides={"resume": str(folder / "weights" / "last.pt")}).train()

    assert_same(folder, whole)
    for name in ("last.pt", "best.pt"):
        assert not [text for text in _names_in(folder / "weights" / name) if "losses" in text]
    assert YOLO(folder / "weights" / "best.pt").model.names  # as plain Ultralytics opens it


def _names_in(checkpoint: Path) -> list[str]:
    """Return the modules and names of classes that a checkpoint asks for."""
    with zipfile.ZipFile(checkpoint) as archive:
        pickle = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    return [str(value) for code, value, _ in pickletools.genops(pickle) if code.name in ("GLOBAL", "STACK_GLOBAL")]


def test_a_head_that_is_trained_otherwise_is_refused() -> None:
    model = OBBModel("yolo11n-obb.yaml", nc=3, verbose=False)
    with pytest.raises(ConfigError, match="RotatedBboxLoss; only BboxLoss can be replaced"):
        check_losses(model, LossSettings.from_plain({"box": "siou"}))


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ("(boxes - targets).abs().mean()", "a tensor \\(\\); finite numbers \\(2,\\)"),
        ("boxes.detach().sum(-1)", "without a gradient"),
        ("1 / 0", "ZeroDivisionError"),
        ("(boxes / 0).sum(-1)", "finite numbers"),
    ],
)
def test_a_loss_of_ones_own_is_tried_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_losses", raising=False)
    (tmp_path / "my_losses.py").write_text(OWN.format(result=result), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(GraftError, match=problem):
        check_losses(network("yolov8n"), LossSettings(box=LossSpec("my_losses.Mine", name="mine")))


@pytest.mark.security("Checkpoint", "A loss that it names is not imported when its network is loaded.")
def test_a_checkpoint_runs_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trap_losses.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    model = deepcopy(network("yolov8n"))
    model.criterion = None
    model.yaml["ablate_losses"] = {"box": {"name": "trap", "_target_": "trap_losses.Mine"}}
    torch.save({"model": model, "train_args": {}}, tmp_path / "best.pt")

    assert load(tmp_path / "best.pt").names

    assert "trap_losses" not in sys.modules
