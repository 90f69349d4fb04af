"""A network with grafts in other programs: what its checkpoint names, what Ultralytics does with it, `ablate.load`."""

from __future__ import annotations

import os
import pickletools
import sys
import tomllib
import zipfile
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel, torch_safe_load, yaml_model_load

import ablate
from ablate.checkpoints.file_check import UnsafeCheckpoint
from ablate.checkpoints.stored_network import StoredNetwork, read_checkpoint, read_own
from ablate.errors import ConfigError
from ablate.grafting.insertion import GraftError
from ablate.training.grafted_model import GraftedModel, saved_form
from ablate.training.integrations import without_integrations
from ablate.training.network import build_network, restore

NAMES = {0: "a", 1: "b", 2: "c"}
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def built(target: str | None = "ablate.modules.hmha.HMHA", insertion: str = "head") -> DetectionModel:
    content = yaml_model_load("yolo26n.yaml")
    content["scales"] = {"n": [0.5, 1 / 16, 1024]}
    if target is not None:
        place = {"name": insertion, "at": None, "wiring": "plain"}
        content["ablate"] = {"module": {"_target_": target}, "insertion": place}
    network, _, _ = build_network(content, classes=3, names=dict(NAMES))
    network.task, network.args = "detect", {"task": "detect", "imgsz": 64}
    return network.eval()


def saved(folder: Path, network: DetectionModel) -> Path:
    """Write a checkpoint as a trial does."""
    half = saved_form(deepcopy(network).half().requires_grad_(False))
    torch.save({"epoch": -1, "model": half, "ema": None, "train_args": network.args}, folder / "best.pt")
    return folder / "best.pt"


def named_in(path: Path) -> set[str]:
    """Return the modules that a checkpoint's pickle names."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        instructions = pickletools.genops(archive.read(name))
        return {
            str(argument).split(" ")[0] for instruction, argument, _ in instructions if instruction.name == "GLOBAL"
        }


@pytest.mark.security(
    "Checkpoint",
    "One that ablate writes of a grafted network names torch, `collections` and ablate's own package only.",
)
def test_a_checkpoint_of_a_grafted_network_names_the_package_to_install_and_no_other(
    tmp_path: Path, user_modules: str
) -> None:
    wanted = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["name"].replace("-", "_")
    for target in ("ablate.modules.hmha.HMHA", f"{user_modules}.Same"):
        path = saved(tmp_path, built(target))
        assert named_in(path) - {"torch", "torch._utils", "collections"} == {wanted}


def test_stock_ultralytics_and_ablate_load_the_same_network(tmp_path: Path) -> None:
    network = built()
    path = saved(tmp_path, network)
    image = torch.rand(2, 3, 64, 96)

    ours, stock = ablate.load(path), YOLO(path)
    rounded = deepcopy(network).half().float()

    assert torch.equal(ours(image)[0], rounded(image)[0])
    assert torch.equal(stock.model(image)[0], rounded(image)[0])
    assert stock.names == NAMES
    assert len(stock.predict(image, imgsz=64, verbose=False)) == 2
    again = YOLO(path)
    again.save(tmp_path / "again.pt")
    assert "ablate_yolo" in named_in(tmp_path / "again.pt")
    assert torch.equal(YOLO(tmp_path / "again.pt").model(image)[0], rounded(image)[0])


def test_a_checkpoint_of_a_baseline_needs_ultralytics_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, built(None))
    assert {name.partition(".")[0] for name in named_in(path)} == {"torch", "ultralytics", "collections", "__builtin__"}


def test_where_ablate_is_missing_ultralytics_asks_for_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, built())
    asked: list[str] = []
    monkeypatch.setitem(sys.modules, "ablate_yolo", None)
    monkeypatch.setattr(tasks, "check_requirements", asked.append)

    with pytest.raises(ModuleNotFoundError, match="ablate_yolo"):
        torch_safe_load(str(path))
    assert [name.replace("_", "-") for name in asked] == [
        tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["name"]
    ]


def test_where_a_users_module_is_missing_nothing_is_installed_and_the_class_is_named(
    tmp_path: Path, user_modules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, built(f"{user_modules}.Same"))
    asked: list[str] = []
    monkeypatch.setitem(sys.modules, user_modules, None)
    monkeypatch.setattr(tasks, "check_requirements", asked.append)

    with pytest.raises(GraftError, match=rf"{user_modules}\.Same .*PYTHONPATH"):
        torch_safe_load(str(path))
    assert not asked


def test_a_training_by_plain_ultralytics_stops_before_it_loses_the_graft_and_says_how_to_keep_it(
    tmp_path: Path, tiny_data: Path
) -> None:
    path = saved(tmp_path, built())
    options: dict[str, Any] = {
        "data": str(tiny_data), "epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "plots": False, "workers": 0,
        "project": str(tmp_path / "runs"), "verbose": False, "val": False,
    }  # fmt: skip
    with pytest.raises(GraftError, match=r"HMHA@head.*trainer=ablate\.GraftedTrainer"):
        YOLO(path).train(**options)

    model = YOLO(path)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    still = {"lr0": 1e-12, "optimizer": "SGD", "warmup_epochs": 0, "momentum": 0.0}
    with without_integrations():
        model.train(**options, **still, trainer=ablate.GraftedTrainer)

    (best,) = (tmp_path / "runs").rglob("best.pt")
    after = read_checkpoint(best).network
    assert after.yaml["ablate"] == dict(model.model.yaml)["ablate"]
    grafts = [name for name in before if "graft" in name and "weight" in name]
    assert grafts
    assert all(torch.allclose(before[name].float(), after.state[name].float(), atol=1e-3) for name in grafts)
    assert isinstance(YOLO(best).model, GraftedModel)


@pytest.mark.parametrize("target", [None, "ablate.modules.acmix.ACmix"])
def test_a_network_is_loaded_for_a_program_of_ones_own(target: str | None, tmp_path: Path) -> None:
    network = ablate.load(saved(tmp_path, built(target, "c3k2")))

    assert type(network) is DetectionModel
    assert not network.training
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for name, parameter in network.named_parameters() if "dfl" not in name)
    assert (network.names, network.stride.tolist(), network.args["imgsz"]) == (NAMES, [8, 16, 32], 64)
    assert network(torch.rand(2, 3, 64, 64))[0].shape == (2, 7, 84)
    network.end2end = True
    assert network(torch.rand(2, 3, 64, 64))[0].shape == (2, 84, 6)


@pytest.mark.security(
    "Checkpoint", "`ablate.load` imports no module of a user for it, unless that is imported already."
)
def test_a_users_module_is_imported_by_the_user(tmp_path: Path, user_modules: str) -> None:
    path = saved(tmp_path, built(f"{user_modules}.Same"))
    assert ablate.load(path).names == NAMES

    sys.modules.pop(user_modules)
    with pytest.raises(
        ConfigError, match=rf"best\.pt.*{user_modules}\.Same.*import {user_modules} first, or give trust"
    ):
        ablate.load(path)
    assert user_modules not in sys.modules
    assert ablate.load(path, trust=True).names == NAMES


class Touch:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def test_a_checkpoint_that_names_code_is_not_loaded_unless_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": built(None), "x": Touch()}, "best.pt")

    with pytest.raises(ConfigError, match=r"best\.pt: it names posix\.system.*trust=True"):
        ablate.load("best.pt")
    assert not Path("ran").exists()
    assert ablate.load("best.pt", trust=True).names == NAMES
    assert Path("ran").exists()


def test_a_trials_checkpoint_of_an_earlier_version_may_hold_objects_of_its_modules_and_no_other_does(
    tmp_path: Path, user_modules: str
) -> None:
    network, target = built(f"{user_modules}.Same"), f"{user_modules}.Same"
    network.model[0].helper = partial(os.remove, "x")
    torch.save({"model": network}, tmp_path / "old.pt")
    torch.save({"model": saved_form(deepcopy(network)), "x": Touch()}, tmp_path / "new.pt")

    with pytest.raises(UnsafeCheckpoint):
        read_own(tmp_path / "old.pt", ["ablate.modules.hmha.HMHA"])
    restored = restore(read_own(tmp_path / "old.pt", [target]).network, [target])
    assert torch.equal(restored(torch.ones(1, 3, 64, 64))[0], network(torch.ones(1, 3, 64, 64))[0])
    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system"):
        read_own(tmp_path / "new.pt", [target])
    assert read_own(tmp_path / "new.pt", [target], trust=True).network.names == NAMES


@pytest.mark.parametrize("kind", ["missing", "text", "folder"])
def test_what_is_no_checkpoint_is_told_with_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    if kind == "text":
        path.write_text("x", encoding="utf-8")
    if kind == "folder":
        path.mkdir()
    with pytest.raises(ConfigError, match=r"best\.pt: "):
        ablate.load(path)


def hostile_yaml(change: str) -> dict[str, Any]:
    content = dict(built(None).yaml)
    if change == "activation":
        content["activation"] = "__import__('os').system('touch ran')"
    elif change == "graft":
        place = {"name": "head", "at": None, "wiring": "plain"}
        content["ablate"] = {"module": {"_target_": "antigravity.Module"}, "insertion": place}
    else:
        content["backbone"] = [[-1, 1, change, ["http://127.0.0.1:9/x.pt"]], *content["backbone"][1:]]
    return content


@pytest.mark.security("Checkpoint", "Its yaml cannot have anything called but known layers, nor a file imported.")
@pytest.mark.parametrize(
    "change", ["load_checkpoint", "torch_load", "DetectionModel", "TorchVision", "nn.init", "activation", "graft"]
)
def test_a_checkpoints_yaml_calls_layers_alone(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = built(None)
    with pytest.raises(GraftError):
        restore(StoredNetwork(dict(network.state_dict()), hostile_yaml(change), dict(NAMES)))
    assert not Path("ran").exists()
    assert "antigravity" not in sys.modules


LIKE = "ablate.modules.convblock.ConvBlock"
SHELL = {"_target_": "os.system", "command": "touch ran"}


@pytest.mark.security("Checkpoint", "Its grafts are classes of modules: no function of an installed package is called.")
@pytest.mark.parametrize(
    "module",
    [
        SHELL,
        {**SHELL, "_target_": "subprocess.getoutput"},
        {**SHELL, "_target_": "ablate.modules.hat.torch.os.system"},
        {"_target_": LIKE, "like": SHELL},
        {"_target_": LIKE, "like": {"_target_": LIKE, "like": SHELL}},
        {"_target_": "ablate.training.grafted_model.GraftedModel", "cfg": {"activation": "1"}},
        {"_target_": "ultralytics.nn.autobackend.AutoBackend", "model": "ran.pt"},
        {"_target_": "torch.nn.ReLU", "inplace": SHELL},
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_graft_of_a_checkpoint_runs_no_function(
    module: dict[str, Any], named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = built(None)
    content = {
        **network.yaml,
        "ablate": {"module": module, "insertion": {"name": "head", "at": None, "wiring": "plain"}},
    }
    with pytest.raises((ConfigError, GraftError)):  # a stranger's record may name the same class as the checkpoint
        restore(
            StoredNetwork(dict(network.state_dict()), content, dict(NAMES)), [str(module["_target_"])] if named else []
        )
    assert not Path("ran").exists()


def test_a_function_of_the_user_builds_the_module_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from torch import nn\ndef make(channels):\n    return nn.Conv2d(channels, channels, 1)\n"
    (tmp_path / "my_makers.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    path = saved(tmp_path, built("my_makers.make"))
    assert restore(read_checkpoint(path).network, ["my_makers.make"]).names == NAMES
    with pytest.raises(ConfigError, match=r"my_makers\.make.*give trust=True"):
        ablate.load(path)
    assert ablate.load(path, trust=True).names == NAMES
