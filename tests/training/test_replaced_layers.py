"""A network with replaced layers is trained, resumed, loaded, trained on and exported as one with grafts is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import NARROW, make_trainer
from torch import Tensor, nn
from ultralytics import YOLO
from ultralytics.nn.modules.block import ADown, C2f
from ultralytics.nn.modules.conv import Concat
from ultralytics.nn.modules.head import Detect

import ablate
from ablate.grafting.replaced_layer import replaced_names, stock_name
from ablate.settings.graft import GraftSpec, InsertionSpec, ModuleSpec, write_grafts
from ablate.training.integrations import without_integrations
from ablate.training.trainer import AblateTrainer

Train = Callable[..., Any]
ULTRALYTICS = "ultralytics.nn.modules"
HERE = __name__
CONTENT = "replacement"


class Shuffle(nn.Module):
    """Upsampling by a convolution and a pixel shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(x), 2)


class Weighted(Concat):
    """A concatenation of weighted maps."""

    def __init__(self, channels: list[int], out_channels: int) -> None:
        super().__init__(1)
        self.weights = nn.Parameter(torch.ones(len(channels)))

    def no_weight_decay(self) -> set[str]:
        return {"weights"}

    def forward(self, x: list[Tensor]) -> Tensor:
        return super().forward([weight * each for weight, each in zip(self.weights, x, strict=True)])


class Adapter(nn.Module):
    """A scale of each input of Detect."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(1, c, 1, 1)) for c in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [scale * x for scale, x in zip(self.scales, maps, strict=True)]


class Shared(Detect):
    """A head with a layer of its own before it."""

    def __init__(self, nc: int, reg_max: int, end2end: bool, ch: tuple[int, ...]) -> None:
        super().__init__(nc, reg_max, end2end, ch)
        self.before = nn.ModuleList(nn.Conv2d(c, c, 1) for c in ch)

    def forward(self, x: list[Tensor]) -> Any:
        return super().forward([layer(each) for layer, each in zip(self.before, x, strict=True)])


# One of each kind; the head is either replaced or adapted.
KINDS = {
    "c3k2_block": f"{ULTRALYTICS}.C2f",
    "down": f"{ULTRALYTICS}.ADown",
    "up": f"{HERE}.Shuffle",
    "fuse": f"{HERE}.Weighted",
    "detect": f"{HERE}.Shared",
}


def written(**kinds: str) -> Any:
    return write_grafts([GraftSpec(ModuleSpec(target), InsertionSpec(point)) for point, target in kinds.items()])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Any:
    """A trainer that has trained a network with one replacement of each kind for two epochs."""
    trainer = make_trainer(tmp_path_factory.mktemp("kinds"), tiny_data, grafts=written(**KINDS), epochs=2, width=NARROW)
    trainer.train()
    return trainer


def weights(trainer: Any) -> dict[str, Tensor]:
    """Return the average of the weights under the names of the stock network."""
    network = trainer.ema.ema
    names = replaced_names(network)
    return {str(stock_name(name, names)): tensor for name, tensor in network.state_dict().items()}


SAME = ["stock@down", "stock@up", "stock@fuse", "stock@c3k2_block", "stock@sppf", "stock@psa_attention", "stock@detect"]
EVERY = [
    "c3k2_block", "bottleneck", "bottleneck_conv", "sppf", "c2psa", "psa_attention", "down", "down_backbone",
    "down_neck", "down_stem", "up", "fuse", "detect", "replace_layer4+6",
]  # fmt: skip


@pytest.mark.parametrize(
    "grafts", [SAME, *(pytest.param([f"stock@{point}"], marks=pytest.mark.slow) for point in EVERY)], ids=str
)
def test_a_layer_in_its_own_place_trains_exactly_as_the_baseline(train: Train, grafts: list[str]) -> None:
    content = write_grafts([GraftSpec.from_text(graft) for graft in grafts])
    baseline = train(epochs=2, width=NARROW)
    same = train(epochs=2, grafts=content, width=NARROW)

    ours, theirs = weights(same), weights(baseline)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert same.metrics == baseline.metrics


def test_a_training_says_what_was_replaced_and_what_was_kept(trained: Any) -> None:
    rows = [place.content for place in trained.graft_report.places]
    assert {row["replaced"] for row in rows} == {"C3k2", "Conv", "Upsample", "Concat", "Detect"}
    kept = {row["place"]: (row["kept"], row["tensors"]) for row in rows}
    assert kept["model.23"] == (240, 240)
    assert kept["model.12"] == (0, 0)
    assert kept["model.1"] == (0, 6)
    assert 0 < kept["model.4"][0] < kept["model.4"][1]
    types = [type(getattr(layer, CONTENT, layer)) for layer in trained.model.model]
    assert [types.count(each) for each in (ADown, C2f, Shuffle, Weighted, Shared)] == [6, 8, 2, 4, 1]
    exempt = [group for group in trained._groups if any("replacement.weights" in name for name in group.tensors)]
    assert [(group.weight_decay, group.orthogonalised) for group in exempt] == [(0.0, False)]


def test_an_interrupted_training_ends_as_one_that_was_not(trained: Any, build: Train) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    cut = build(grafts=written(**KINDS), epochs=2, width=NARROW, callbacks={"on_train_batch_end": interrupt})
    with pytest.raises(Interrupted):
        cut.train()
    resumed = AblateTrainer(overrides={"resume": str(Path(cut.save_dir) / "weights" / "last.pt")})
    resumed.train()

    ours, theirs = resumed.ema.ema.state_dict(), trained.ema.ema.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_ablate_and_plain_ultralytics_open_its_checkpoint(trained: Any) -> None:
    x = torch.rand(1, 3, 64, 96)
    network = YOLO(trained.best).model.float().eval()
    loaded = ablate.load(trained.best)
    with torch.no_grad():
        assert torch.equal(loaded(x)[0], network(x)[0])


def test_ultralytics_trains_it_on_for_other_classes_with_what_was_learnt(
    trained: Any, tmp_path: Path, tiny_data: Path
) -> None:
    model = YOLO(trained.best)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    still = {"lr0": 1e-12, "optimizer": "SGD", "warmup_epochs": 0, "momentum": 0.0, "weight_decay": 0.0}
    options = {"epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "plots": False, "workers": 0, "val": False}
    with without_integrations():
        model.train(
            data=str(tiny_data), trainer=ablate.GraftedTrainer, project=str(tmp_path), verbose=False, **still, **options
        )
    after = model.trainer.model.state_dict()
    learnt = [name for name in before if name.endswith(".weight") and "bn" not in name]
    assert after.keys() == before.keys()
    assert all(torch.allclose(after[name], before[name].float(), atol=1e-5) for name in learnt)


def test_freezing_keeps_what_the_layer_had_and_trains_what_is_new(build: Train) -> None:
    trainer = build(
        grafts=written(c3k2_block=KINDS["c3k2_block"], detect=KINDS["detect"]), epochs=1, freeze=[4, 23], width=NARROW
    )
    trainer.train()
    names = replaced_names(trainer.model)
    frozen = {name for name, parameter in trainer.model.named_parameters() if not parameter.requires_grad}
    inside = [name for name, _ in trainer.model.named_parameters() if name.startswith(("model.4.", "model.23."))]
    assert frozen - {"model.23.dfl"} == {name for name in inside if stock_name(name, names) is not None}
    assert any(stock_name(name, names) is None for name in inside)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", [KINDS["detect"], pytest.param(f"{HERE}.Adapter", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["onnx", pytest.param("torchscript", marks=pytest.mark.slow)])
def test_it_is_exported_by_plain_ultralytics_with_the_same_outputs(
    trained: Any, build: Train, head: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.export.pairs import FORMS, LIMIT, largest_difference
    from ultralytics.utils import checks

    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(checks, "AUTOINSTALL", False)
    if head != KINDS["detect"]:
        trained = build(grafts=written(**{**KINDS, "detect": head}), epochs=1, width=NARROW)
        trained.train()
    dynamic = next(each for each in FORMS if each.format == form and each.dynamic)
    assert largest_difference(Path(trained.best), dynamic) < LIMIT
