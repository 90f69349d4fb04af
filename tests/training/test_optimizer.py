"""What is no weight matrix gets neither weight decay nor an orthogonalised step, and every tensor has one group."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn, optim
from ultralytics.models.yolo.detect import DetectionTrainer

from ablate.training.network import build_network
from ablate.training.optimizer import describe_groups, exempt, exempt_parameters

GRAFTS = {
    "hat": "module.residual_group.blocks.0.attn.relative_position_bias_table",
    "hmha": "module.temperature",
    "acmix": "module.rate1",
}
TARGETS = {"hat": "hat.RHAG", "hmha": "hmha.HMHA", "acmix": "acmix.ACmix"}


def grafted(module: str, wiring: str = "rezero") -> nn.Module:
    from ultralytics.nn.tasks import yaml_model_load

    content = yaml_model_load("yolo26n.yaml")
    content["ablate"] = {
        "module": {"_target_": f"ablate.modules.{TARGETS[module]}"},
        "insertion": {"name": "neck_p5", "at": None, "wiring": wiring},
    }
    return build_network(content, classes=3)[0]


def ultralytics_optimizer(network: nn.Module, name: str) -> optim.Optimizer:
    trainer = SimpleNamespace(args=SimpleNamespace(lr0=0.01, warmup_bias_lr=0.1), data={"nc": 3})
    return DetectionTrainer.build_optimizer(trainer, network, name=name, lr=0.01, momentum=0.9, decay=5e-4)


@pytest.mark.parametrize("name", ["SGD", "MuSGD", "AdamW"])
@pytest.mark.parametrize("module", GRAFTS)
def test_exempt_tensors_have_no_decay_no_orthogonalisation_and_the_base_rate(module: str, name: str) -> None:
    network = grafted(module)
    optimizer = ultralytics_optimizer(network, name)

    exempt(optimizer, exempt_parameters(network))

    for tensor in (f"model.22.graft.{GRAFTS[module]}", "model.22.graft.alpha"):
        (group,) = [g for g in describe_groups(optimizer, network) if tensor in g.tensors]
        assert group.weight_decay == 0
        assert not group.orthogonalised
        assert group.group == "bn"
        assert group.lr == 0.01


@pytest.mark.parametrize("name", ["SGD", "MuSGD"])
def test_every_parameter_is_in_exactly_one_group(name: str) -> None:
    network = grafted("hat")
    optimizer = ultralytics_optimizer(network, name)

    exempt(optimizer, exempt_parameters(network))

    listed = [tensor for group in describe_groups(optimizer, network) for tensor in group.tensors]
    assert sorted(listed) == sorted(parameter for parameter, _ in network.named_parameters())


def test_ultralytics_own_grouping_would_orthogonalise_a_bias_table() -> None:
    network = grafted("hat")
    (group,) = [
        g
        for g in describe_groups(ultralytics_optimizer(network, "MuSGD"), network)
        if f"model.22.graft.{GRAFTS['hat']}" in g.tensors
    ]
    assert group.orthogonalised, "if this fails, Ultralytics has changed and the exemption may not be needed"


def test_a_table_moves_by_its_gradient_and_not_by_a_normalised_step() -> None:
    network = grafted("hat")
    table = dict(network.named_parameters())[f"model.22.graft.{GRAFTS['hat']}"]
    optimizer = ultralytics_optimizer(network, "MuSGD")
    exempt(optimizer, exempt_parameters(network))
    before = table.detach().clone()

    table.grad = torch.full_like(table, 1e-6)
    optimizer.step()

    assert (table - before).abs().max() < 1e-7


def test_a_declared_name_that_does_not_exist_is_an_error() -> None:
    class Wrong(nn.Module):
        def no_weight_decay(self) -> set[str]:
            return {"tempreature"}

    with pytest.raises(ValueError, match="tempreature"):
        exempt_parameters(Wrong())
