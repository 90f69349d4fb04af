"""Ultralytics' input for a trial: the training arguments, and the network's yaml with the grafts in it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import yaml

from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.launching.devices import DEVICE, LOADERS, no_such_gpu
from ablate.settings.architecture import read_architecture
from ablate.settings.argument_checks import check_precision
from ablate.settings.schema import OptimizerSettings
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.plain_values import Plain


def network_yaml(settings: TrialSettings) -> Plain:
    """Return the network's yaml with the grafts in it: all that is needed to build and train it, anywhere."""
    from ablate.training.network import NetworkSettings

    network = NetworkSettings(
        settings.grafts,
        settings.on_oom,
        settings.freeze_grafts,
        settings.optimizer.orthogonalise,
        trust_weights=settings.command.trust_weights,
        losses=settings.losses,
    )
    return {**read_architecture(settings.model.architecture), **network.to_yaml()}


def trained_classes(settings: TrialSettings, data: DataSet) -> list[str]:
    """Return the names of the classes that a network is trained to tell apart: with `single_cls` one."""
    return ["item"] if settings.train.single_cls else list(data.classes)


def trainer_arguments(settings: TrialSettings, data: DataSet, folder: Path) -> Plain:
    """Return Ultralytics' arguments for a trial; write its network's yaml to the trial's folder.

    Raises:
        ConfigError: There is no such device, or it cannot train in this precision.
    """
    train, device = settings.train, pick_device(settings.device)
    check_precision(train.amp, device)
    network = folder / f"{Path(settings.model.architecture).stem}.yaml"
    network.write_text(yaml.safe_dump(network_yaml(settings), sort_keys=False), encoding="utf-8")
    return {
        **training_arguments_of(settings),
        "model": str(network),
        "pretrained": settings.model.weights or False,
        "data": str(data.yaml),
        "seed": settings.seed,
        "device": device,
        "workers": min(train.workers, int(os.environ.get(LOADERS, train.workers))),
        "project": str(folder),
        "name": "train",
        "exist_ok": True,
        "task": "detect",
        "mode": "train",
    }


def training_arguments_of(settings: TrialSettings) -> Plain:
    """Return Ultralytics' arguments of a trial's recipe, without files, device and seed."""
    return {**settings.train.arguments, **_optimizer_arguments(settings.optimizer)}


def _optimizer_arguments(optimizer: OptimizerSettings) -> Plain:
    """Return Ultralytics' arguments of an optimizer, which do not include the arithmetic."""
    arguments = asdict(optimizer)
    del arguments["orthogonalise"]
    return {"optimizer": arguments.pop("name"), **arguments}


def pick_device(device: str) -> str:
    """Return Ultralytics' name of the device that `device` means on this machine: cpu, or GPU numbers.

    A worker to which a launcher has assigned a device trains on that.

    Raises:
        ConfigError: There is no such device.
    """
    import torch

    assigned = os.environ.get(DEVICE)
    if assigned is not None:
        return assigned
    if device == "auto":
        return "0" if torch.cuda.is_available() else "cpu"
    wanted = device.removeprefix("cuda:")
    count = torch.cuda.device_count()
    if wanted != "cpu" and any(int(number) >= count for number in wanted.split(",")):
        raise ConfigError(no_such_gpu(f"device={device}", count))
    return wanted
