"""What a trial's training is to Ultralytics: its arguments, and the yaml of its network with the graft in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.launching.devices import DEVICE, LOADERS, no_such_gpu
from ablate.settings.argument_checks import check_precision


def network_yaml(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network's yaml with the graft's spec in it: all that is needed to build it, anywhere.

    The optimizer's arithmetic is in it where a configuration has an optimizer, as that of a training does.
    """
    from ultralytics.nn.tasks import yaml_model_load

    from ablate.grafting.surgery import SPEC_KEY, graft_spec_of
    from ablate.training.network import ARITHMETIC_KEY, FREEZE_KEY, POLICY_KEY

    content: dict[str, Any] = yaml_model_load(config["model"]["architecture"])
    content[POLICY_KEY] = config["on_oom"]
    if config.get("freeze_grafts"):
        content[FREEZE_KEY] = True
    arithmetic = config.get("optimizer", {}).get("orthogonalise", "auto")
    if arithmetic != "auto":
        content[ARITHMETIC_KEY] = arithmetic
    spec = graft_spec_of(config)
    if spec is not None:
        content[SPEC_KEY] = spec
    return content


def trained_classes(config: Mapping[str, Any], data: DataSet) -> list[str]:
    """Return the names of the classes that a network is trained to tell apart: with `single_cls` one."""
    return ["item"] if config["train"]["single_cls"] else list(data.classes)


def trainer_arguments(config: Mapping[str, Any], data: DataSet, folder: Path) -> dict[str, Any]:
    """Return what a trial's training is to Ultralytics; its network's yaml is written to the folder it works in.

    Raises:
        ConfigError: There is no such device, or it cannot train in this precision.
    """
    train, device = config["train"], pick_device(config["device"])
    check_precision(train["amp"], device)
    network = folder / f"{Path(config['model']['architecture']).stem}.yaml"
    network.write_text(yaml.safe_dump(network_yaml(config), sort_keys=False), encoding="utf-8")
    return {
        **train,
        **_optimizer_arguments(config["optimizer"]),
        "model": str(network),
        "pretrained": config["model"]["weights"] or False,
        "data": str(data.yaml),
        "seed": config["seed"],
        "device": device,
        "workers": min(train["workers"], int(os.environ.get(LOADERS, train["workers"]))),
        "project": str(folder),
        "name": "train",
        "exist_ok": True,
        "task": "detect",
        "mode": "train",
    }


def _optimizer_arguments(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an optimizer's fields are to Ultralytics, which knows nothing of the arithmetic."""
    names = {"name": "optimizer"}
    return {names.get(name, name): value for name, value in optimizer.items() if name != "orthogonalise"}


def pick_device(device: str) -> str:
    """Return Ultralytics' name of the device that `device` means on this machine: cpu, or GPU numbers.

    A worker that was given its own device trains on that.

    Raises:
        ConfigError: There is no such device.
    """
    import torch

    given = os.environ.get(DEVICE)
    if given is not None:
        return given
    if device == "auto":
        return "0" if torch.cuda.is_available() else "cpu"
    wanted = device.removeprefix("cuda:")
    count = torch.cuda.device_count()
    if wanted != "cpu" and any(int(number) >= count for number in wanted.split(",")):
        raise ConfigError(no_such_gpu(f"device={device}", count))
    return wanted
