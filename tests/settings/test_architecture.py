"""The yaml of a network's architecture calls layers only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ablate.errors import ConfigError
from ablate.settings.architecture import (
    check_architecture,
    check_architecture_file,
    read_architecture,
    scale_width,
    stock_file,
)
from ablate.settings.network_width import with_width
from ablate.settings.signature import architecture_hash
from ablate.storage.plain_values import Plain
from ablate.storage.yaml_files import read_mapping

RUNS = "__import__('os').system('touch ran.txt')"
GONE = None


def network(**changes: object) -> Plain:
    """A small network's yaml with some entries changed."""
    content = {
        "nc": 80,
        "scales": {"n": [0.5, 0.25, 1024]},
        "backbone": [[-1, 1, "Conv", [64, 3, 2]], [-1, 2, "C3k2", [128, False, 0.25]]],
        "head": [[-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[1, 2], 1, "Detect", ["nc"]]],
    }
    return {name: value for name, value in {**content, **changes}.items() if value is not GONE}


def layer(*entries: object) -> Plain:
    return network(backbone=[list(entries)])


@pytest.mark.security(
    "Network's yaml", "Its `activation` and layers name layers; no code in it runs, and no function is called."
)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (network(activation=RUNS), "activation"),
        (network(activation=f"nn.SiLU({RUNS})"), "activation"),
        (network(activation=f"nn.SiLU(*[{RUNS}])"), "activation"),
        (network(activation=f"nn.SiLU(**{{'a': {RUNS}}})"), "activation"),
        (network(activation="torch.hub.load('a/b', 'c')"), "activation"),
        (network(activation="(" * 100_000), "activation"),
        (network(activation=["nn.SiLU()"]), "activation"),
        (layer(-1, 1, "torch_load", ["x.pt"]), "'torch_load' is no layer"),
        (layer(-1, 1, "check_requirements", ["x"]), "'check_requirements' is no layer"),
        (layer(-1, 1, "nn.init", []), "'nn.init' is no layer"),
        (layer(-1, 1, "TorchVision", [512, "resnet18"]), "'TorchVision' is no layer"),
        (layer(-1, 1, "Covn", [64]), "did you mean 'Conv'?"),
        (layer(-1, 1, ["Conv"], [64]), "is no layer"),
        (layer(-1, 10**9, "Conv", [64]), "repeated"),
        (layer(-1, "x", "Conv", [64]), "repeated"),
        (layer("x", 1, "Conv", [64]), "'from' must be"),
        (layer(-1, 1, "Conv", ["(" * 1000]), "arguments"),
        (layer(-1, 1, "Conv"), "is needed"),
        (network(backbone={}), "'backbone' must be a list"),
        (network(head=GONE), "'head' must be a list"),
        (network(scales={"n": [1e30, 1, 1]}), "must be numbers above 0"),
        (network(scales=7), "'scales' must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_no_layer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Plain, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        check_architecture_file("mine.yaml")

    assert what in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert not Path("ran.txt").exists()


@pytest.mark.parametrize("activation", ["nn.SiLU()", "torch.nn.LeakyReLU(0.1)", "nn.Hardtanh(min_val=0, max_val=6)"])
def test_an_activation_is_a_layer_of_torch(activation: str) -> None:
    check_architecture(network(activation=activation), "mine")


@pytest.mark.parametrize("name", ["yolo26n", "yolo26x", "yolo11m", "yolov10b", "yolov8s"])
def test_ultralytics_own_networks_are_read_as_by_ultralytics(name: str) -> None:
    from ultralytics.nn.tasks import yaml_model_load

    assert read_architecture(f"{name}.yaml") == yaml_model_load(f"{name}.yaml")


@pytest.mark.security("Working folder", "A `yolo26.yaml` in it does not stand in for the network of that name.")
def test_a_file_here_does_not_stand_in_for_a_network_of_ultralytics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = read_architecture("yolo26n.yaml")
    for name in ("yolo26n.yaml", "yolo26.yaml"):
        Path(name).write_text(yaml.safe_dump(network(activation=RUNS)), encoding="utf-8")

    assert read_architecture("yolo26n.yaml") == before
    assert architecture_hash("yolo26n.yaml") == "name:yolo26n.yaml"
    assert architecture_hash("./yolo26n.yaml") != architecture_hash("yolo26n.yaml")
    with pytest.raises(ConfigError, match="activation"):
        check_architecture_file("./yolo26n.yaml")


def test_all_networks_that_detect_pass() -> None:
    file = stock_file("yolo26n.yaml")
    assert file is not None
    for path in file.parents[1].glob("*/*.yaml"):
        if "resnet18" not in path.name:  # it starts from weights of torchvision's
            check_architecture(read_mapping(path, of_hydra=False), path.name)


def test_a_network_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"yolo26n\.yml: no such file"):
        check_architecture_file("yolo26n.yml")


def test_a_stock_network_of_another_width_differs_in_that_alone() -> None:
    stock, wider = (read_architecture(name) for name in ("yolo26n.yaml", with_width("yolo26n.yaml", 0.3125)))

    assert stock["scales"]["n"] == [0.5, 0.25, 1024]
    assert wider["scales"] == {"n": [0.5, 0.3125, 1024]}
    assert wider["scale"] == "n"
    unlike = {name for name in stock if stock[name] != wider[name]}
    assert unlike == {"scales", "yaml_file"}
    assert architecture_hash("yolo26n-width0.3125.yaml") == "name:yolo26n-width0.3125.yaml"


@pytest.mark.parametrize(
    ("architecture", "width"),
    [("yolo26n.yaml", 0.25), ("yolo26n-p6.yaml", 0.25), ("yolov10b.yaml", 1.0), ("yolo26n-width0.5.yaml", None),
     ("mine.yaml", None)],
)  # fmt: skip
def test_the_width_of_a_scale_is_read_from_its_name(architecture: str, width: float | None) -> None:
    assert scale_width(architecture) == width


@pytest.mark.parametrize("width", ["0", "4.5", "100000"])
def test_a_width_that_no_network_has_is_refused_with_the_valid_ones(width: str) -> None:
    with pytest.raises(ConfigError, match=r"valid widths: above 0, to 4"):
        check_architecture_file(f"yolo26n-width{width}.yaml")
