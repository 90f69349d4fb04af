"""A function of an installed package builds a module of a checkpoint only where the user's command names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import yaml_model_load

from ablate.latency.measurement_job import Checkpoint
from ablate.latency.worker import _load
from ablate.training.grafted_model import saved_form
from ablate.training.network import build_network

FUNCTION = "timm.layers.create_attn"


@pytest.mark.parametrize("named", [True, False])
def test_a_function_of_a_package_is_called_where_the_command_names_it(named: bool, tmp_path: Path) -> None:
    content = yaml_model_load("yolo26n.yaml")
    content["scales"] = {"n": [0.5, 1 / 16, 1024]}
    place = {"name": "neck_p4", "at": None, "wiring": "plain"}
    content["ablate"] = {"module": {"_target_": FUNCTION, "attn_type": "se"}, "insertion": place}
    network, _, _ = build_network(content, classes=1, names={0: "a"})
    network.task, network.args = "detect", {"task": "detect", "imgsz": 64}
    torch.save({"epoch": -1, "model": saved_form(network.half()), "ema": None}, tmp_path / "best.pt")

    checkpoint = Checkpoint(str(tmp_path / "best.pt"), 64, "one_to_one", targets=(FUNCTION,), named=named)
    networks, unreadable = _load({"gate": checkpoint})

    if named:
        assert isinstance(networks["gate"][0], nn.Module)
        assert not unreadable
    else:
        assert not networks
        assert FUNCTION in unreadable["gate"]
        assert "trust_weights=true" in unreadable["gate"]
