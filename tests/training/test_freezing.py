"""What `train.freeze` means where a module is grafted: the same layers as in the baseline, and never the graft."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import yaml_model_load

from ablate.errors import ConfigError
from ablate.grafting.replaced_layer import stock_name
from ablate.settings.schema import Config
from ablate.settings.signature import identify
from ablate.settings.trial_settings import TrialSettings
from ablate.training.freezing import ALWAYS, Frozen, check_freeze, parts_of
from ablate.training.network import build_network

Train = Callable[..., Any]
NORMED = """
from torch import nn

class Normed(nn.Module):
    def __init__(self, channels):
        super().__init__()
        layer = nn.Sequential()
        layer.conv, layer.bn = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
        self.model = nn.Sequential(layer)  # called model.0.conv, as the first layer of the network is

    def forward(self, x):
        return self.model(x)
"""


@cache
def network(insertion: str | None = None) -> nn.Module:
    content = yaml_model_load("yolo26n.yaml")
    if insertion is not None:
        place = {"name": insertion, "at": None, "wiring": "rezero"}
        content["ablate"] = {"module": {"_target_": "ablate.modules.acmix.ACmix"}, "insertion": place}
    return build_network(content, classes=3)[0]


@pytest.mark.parametrize("insertion", ["c3k2", "head", "backbone_p3", "psa"])
@pytest.mark.parametrize("freeze", [10, [2, "23.cv2", "23.cv3.0.0"], ["2.m.0.cv2.conv", "10.m.0.attn.qkv.bn"], None])
def test_the_stock_layers_that_are_frozen_are_those_of_the_baseline(insertion: str, freeze: Any) -> None:
    frozen = Frozen((*parts_of(freeze).values(), ALWAYS))
    stock, grafted = network(), network(insertion)
    theirs = {k for k, _ in stock.named_parameters() if any(part in k for part in frozen.parts)}  # Ultralytics' rule

    assert frozen.parameters(stock) == [name for name, _ in stock.named_parameters() if name in theirs]
    assert {stock_name(name) for name in frozen.parameters(grafted)} == theirs
    with_grafts = Frozen(frozen.parts, grafts=True).parameters(grafted)
    brought = [name for name in with_grafts if stock_name(name) is None]
    first = 2 in freeze if isinstance(freeze, list) else freeze == 10
    assert bool(brought) == ((first and insertion == "c3k2") or (freeze == 10 and insertion == "backbone_p3"))


@pytest.mark.parametrize(
    ("freeze", "words"),
    [
        ([24], "no layer '24' with parameters; valid are the numbers 0 to 23"),
        ([11], "no layer '11' with parameters"),
        (["23.cv9"], "no layer '23.cv9'"),
        (24, "nothing would be left to train; the network has 24 layers"),
    ],
)
def test_layers_that_do_not_exist_and_nothing_left_to_train_are_refused(freeze: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_freeze(network("c3k2"), freeze)
    check_freeze(network("c3k2"), 23)


def test_a_graft_in_a_frozen_layer_learns_and_the_layer_does_not(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "normed_block.py").write_text(NORMED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    start: dict[str, Tensor] = {}

    def remember(trainer: Any) -> None:
        start.update({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})

    trainer = train("normed_block.Normed", "backbone_p3", freeze=4, callbacks={"on_train_start": remember})

    end = trainer.model.state_dict()
    moved = {name for name, tensor in end.items() if not torch.equal(tensor, start[name])}
    frozen = {name for name in end if int(name.split(".")[1]) < 4 and stock_name(name) is not None}
    graft = {name for name in end if stock_name(name) is None}
    assert moved & frozen == set(), "weights and statistics of frozen layers stay"
    assert {f"model.3.graft.module.model.0.{name}" for name in ("conv.weight", "bn.weight", "bn.running_mean")} <= moved
    assert {"model.4.conv.weight", "model.4.bn.running_var"} <= moved
    sizes = {name: parameter.numel() for name, parameter in trainer.model.named_parameters()}
    counts = json.loads((Path(trainer.save_dir) / "realised.json").read_text(encoding="utf-8"))["trainable"]
    assert counts["graft_trained"] == counts["graft_parameters"] == sum(sizes.get(name, 0) for name in graft)
    assert counts["parameters"] - counts["trained"] == sum(sizes.get(name, 0) for name in frozen)


def test_grafts_are_frozen_too_where_that_is_asked_for(train: Train) -> None:
    trainer = train("ablate.modules.hmha.HMHA", "backbone_p3", freeze=4, freeze_grafts=True)

    parameters = dict(trainer.model.named_parameters())
    graft = [name for name in parameters if stock_name(name) is None]
    assert graft
    assert not any(parameters[name].requires_grad for name in graft)


def test_signatures_change_only_where_layers_and_grafts_are_frozen() -> None:
    def of(graft: bool, **changes: Any) -> str:
        content = {**asdict(Config()), "data": {"name": "shapes"}, **changes}
        content["train"] = {**content["train"], "freeze": changes.get("freeze")}
        content.pop("freeze", None)
        if graft:
            content["module"] = {"name": "identity", "_target_": "ablate.modules.identity.Identity"}
            content["insertion"] = {"name": "c3k2", "at": None, "wiring": "plain"}
        return identify(TrialSettings.from_plain(content), "data").signature

    for graft in (True, False):
        assert of(graft) == of(graft, freeze_grafts=True)
    assert of(False, freeze=5) == of(False, freeze=5, freeze_grafts=True)
    assert len({of(True), of(True, freeze=5), of(True, freeze=5, freeze_grafts=True)}) == 3
