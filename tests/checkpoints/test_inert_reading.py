"""A checkpoint is read as tensors and plain values; what it names is not imported, called or changed."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ablate.__main__ import main
from ablate.checkpoints.file_check import CheckpointError, UnsafeCheckpoint
from ablate.checkpoints.inert_reading import NumberArray
from ablate.checkpoints.stored_network import ANY, StoredNetwork, read_checkpoint


class Call:
    """Is pickled as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Restored(nn.Module):
    """Runs code when it is restored: a class of the reader's own, such as one in an installed package."""

    def __setstate__(self, state: Any) -> None:
        Path("ran").touch()


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)))
    made.names, made.yaml, made.task = {0: "a", 1: "b"}, {"nc": 2}, "detect"  # type: ignore[assignment]
    return made


def safe_download() -> Any:
    from ultralytics.utils.downloads import safe_download

    return safe_download


def detection_model() -> Any:
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "a shell command": (lambda: Call(os.system, "touch ran"), "posix.system"),
    "eval": (lambda: Call(eval, "open('ran', 'w')"), "builtins.eval"),
    "exec": (lambda: Call(exec, "open('ran', 'w')"), "builtins.exec"),
    "an import": (lambda: Call(__import__, "antigravity"), "builtins.__import__"),
    "a process": (lambda: Call(subprocess.Popen, ["touch", "ran"]), "subprocess.Popen"),
    "code from the network": (lambda: Call(torch.hub.load, "a/b", "c"), "torch.hub.load"),
    "a pickle in a pickle": (
        lambda: Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, "touch ran"))),
        "torch.storage._load_from_bytes",
    ),
    "a function of Ultralytics": (lambda: Call(safe_download(), "http://127.0.0.1:9/x"), "safe_download"),
    "a network with arguments": (lambda: Call(detection_model(), "http://127.0.0.1:9/x.yaml"), "DetectionModel"),
    "a partial call": (lambda: partial(os.system, "touch ran"), "functools.partial"),
    "an object of a class of ours": (lambda: Restored(), "Restored"),
    "a function": (lambda: os.remove, "posix.remove"),
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "the whole file": lambda hostile: hostile,
    "the network": lambda hostile: {"model": hostile},
    "an argument of the training": lambda hostile: {"model": network(), "train_args": {"data": [hostile]}},
    "the optimizer": lambda hostile: {"model": network(), "optimizer": {"state": {0: hostile}}},
    "an attribute of a layer": lambda hostile: {"model": with_attribute(hostile)},
}


def with_attribute(value: Any) -> nn.Module:
    made = network()
    made[0].hidden = value  # type: ignore[index]
    return made


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.security("Checkpoint", "It calls nothing and imports nothing, wherever in the file and by whatever name.")
@pytest.mark.parametrize(
    ("kind", "place", "legacy"),
    [
        *((kind, list(PLACES)[number % 5], number % 3 == 0) for number, kind in enumerate(HOSTILE)),
        *(("a shell command", place, legacy) for place in PLACES for legacy in (False, True)),
    ],
)
def test_what_a_checkpoint_names_is_not_run(kind: str, place: str, legacy: bool, tmp_path: Path) -> None:
    make, name = HOSTILE[kind]
    path = tmp_path / "weights.pt"
    torch.save(PLACES[place](make()), path, _use_new_zipfile_serialization=not legacy)

    with pytest.raises(UnsafeCheckpoint, match=name):
        read_checkpoint(path)
    with suppress(CheckpointError):  # no network is left where the call made it
        _ = read_checkpoint(path, parts=ANY).network

    assert not (tmp_path / "ran").exists()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_no_protocol_of_pickles_is_a_way_round(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"model": network(), "x": Call(os.system, "touch ran")}, path, pickle_protocol=protocol)

    with pytest.raises(UnsafeCheckpoint, match=r"posix\.system"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "attack",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch ran'\no.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x0e__import__.os.x\x93.",
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'__code__'\nS'x'\nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__code__'\nS'x'\nstb.",
        b"ccollections\nOrderedDict\n(N}S'get'\nS'x'\nstb.",
        b"\x80\x02c__builtin__\ngetattr\ncos\nX\x06\x00\x00\x00system\x86R.",
    ],
)
def test_no_instruction_of_pickles_is_a_way_round(attack: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"model": network()}, path)
    entries = {entry.filename: zipfile.ZipFile(path).read(entry) for entry in zipfile.ZipFile(path).infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, attack if name.endswith("data.pkl") else content)

    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    assert torch._utils._rebuild_tensor_v2.__code__ is not None


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_tensors_names_and_plain_values_are_those_that_were_saved(legacy: bool, tmp_path: Path) -> None:
    saved = network().half()
    saved.register_buffer("hidden", torch.ones(1), persistent=False)
    saved.args = {"epochs": 3}  # type: ignore[assignment]
    content = {
        "epoch": 2,
        "model": saved,
        "metrics": {"fitness": np.float64(0.25), "none": None},
        "state": np.random.get_state(),
        "folder": Path("/a/b"),
        "set": {1, 2},
        "half": torch.arange(6.0).reshape(2, 3).t(),
        "parameter": nn.Parameter(torch.ones(2)),
    }
    torch.save(content, tmp_path / "weights.pt", _use_new_zipfile_serialization=not legacy)

    checkpoint = read_checkpoint(tmp_path / "weights.pt")
    read, entries = checkpoint.network, checkpoint.entries

    expected = saved.state_dict()
    assert list(read.state) == list(expected)
    assert all(torch.equal(read.state[name], tensor) for name, tensor in expected.items())
    assert (read.names, read.yaml, read.attributes) == (
        {0: "a", 1: "b"},
        {"nc": 2},
        {"args": {"epochs": 3}, "task": "detect"},
    )
    assert (entries["epoch"], entries["metrics"], entries["folder"]) == (2, {"fitness": 0.25, "none": None}, "/a/b")
    assert entries["set"] == {1, 2}
    assert torch.equal(entries["half"], content["half"])  # type: ignore[arg-type]
    assert entries["half"].stride() == (1, 3)
    assert isinstance(entries["state"][1], NumberArray)
    assert np.array_equal(entries["state"][1].values, np.random.get_state()[1])
    assert StoredNetwork.of(saved).state.keys() == read.state.keys()


def test_a_checkpoint_that_ultralytics_wrote_is_read(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import DEFAULT_CFG

    stock = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    stock.args = DEFAULT_CFG
    stock.criterion = stock.init_criterion()
    torch.save({"model": stock, "ema": None, "train_args": vars(DEFAULT_CFG)}, tmp_path / "best.pt")
    torch.save(stock, tmp_path / "whole.pt")

    for name in ("best.pt", "whole.pt"):
        read = read_checkpoint(tmp_path / name).network
        assert all(torch.equal(read.state[name], tensor) for name, tensor in stock.state_dict().items())
        assert read.yaml["nc"] == 3
        assert read.attributes["args"]["epochs"] == DEFAULT_CFG.epochs


def text(path: Path) -> None:
    path.write_text("not a checkpoint", encoding="utf-8")


def safetensors(path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 1, 1)), str(path))


def compressed(path: Path) -> None:
    """A small file that becomes a large one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", b"\x80\x02}.")
        archive.writestr("weights/data/0", bytes(50_000_000))


def no_values(path: Path) -> None:
    torch.save({"model": with_attribute(torch.ones(1).expand(1 << 40))}, path)


def endless(path: Path) -> None:
    """Twenty-five modules, each of which holds the next one twice: 33 million names."""
    made: nn.Module = nn.Identity()
    for _ in range(25):
        made = nn.Sequential(made, nn.Sequential(made))
    torch.save({"model": made}, path)


def cut(path: Path) -> None:
    torch.save({"model": network()}, path)
    path.write_bytes(path.read_bytes()[:-300])


def odd_network(path: Path) -> None:
    made = network()
    made._parameters = [1, 2]  # type: ignore[assignment]
    torch.save({"model": made}, path)


def endless_list(path: Path) -> None:
    torch.save({"model": network(), "x": Call(list, range(1 << 60))}, path)


def state_only(path: Path) -> None:
    torch.save(network().state_dict(), path)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a text": (text, "no file that PyTorch wrote"),
    "an empty file": (Path.touch, "empty"),
    "a folder": (Path.mkdir, "folder"),
    "a safetensors file": (safetensors, "safetensors"),
    "a TorchScript archive": (torchscript, "TorchScript"),
    "a compressed archive": (compressed, "compressed"),
    "a tensor without values": (no_values, "values"),
    "modules without end": (endless, "more modules"),
    "a file that was cut off": (cut, "cut off"),
    "a state without a network": (state_only, "no network"),
    "a network of other values": (odd_network, "damaged"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    make, words = ODD[kind]
    path = tmp_path / "weights.pt"
    make(path)

    with pytest.raises(CheckpointError, match=words) as raised:
        _ = read_checkpoint(path).network
    assert "\n" not in str(raised.value)


def test_a_list_without_end_is_not_made(tmp_path: Path) -> None:
    endless_list(tmp_path / "weights.pt")
    assert read_checkpoint(tmp_path / "weights.pt").network.names == {0: "a", 1: "b"}


@pytest.mark.security("Checkpoint", "As `model.weights` it ends `plan` and a run in one line that names what it holds.")
def test_a_plan_refuses_a_strangers_weights(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from ultralytics.nn.tasks import DetectionModel

    content = {
        "model": DetectionModel("yolo26n.yaml", nc=3, verbose=False),
        "x": Call(os.system, f"touch {tmp_path}/ran"),
    }
    torch.save(content, tmp_path / "evil.pt")
    words = ["plan", f"model.weights={tmp_path}/evil.pt", "probe=false", "train.imgsz=32"]
    capfd.readouterr()  # what Ultralytics logged

    assert main(words) == 2
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "posix.system" in told
    assert "trust_weights=true" in told
    assert not (tmp_path / "ran").exists()


def test_most_is_told_without_torch(tmp_path: Path) -> None:
    torch.save({"model": network(), "x": Call(os.system, "touch ran")}, tmp_path / "evil.pt")
    code = "import sys; from ablate.checkpoints.file_check import check_file; from pathlib import Path\n"
    code += "try: check_file(Path('evil.pt'))\nexcept Exception as error: print(error, 'torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "posix.system" in done.stdout
    assert done.stdout.endswith("False\n")


def test_what_only_the_reader_sees_ends_a_plan_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": network(), "x": Call(torch.hub.load, "a/b", "c")}, tmp_path / "evil.pt")

    assert main(["plan", f"model.weights={tmp_path}/evil.pt", "probe=false", "train.imgsz=32"]) == 2
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "torch.hub.load" in told
    assert "trust_weights=true" in told


@pytest.mark.security("Checkpoint", "With `trust_weights=true` it may run code.")
def test_who_trusts_a_checkpoint_loads_it_as_ultralytics_does(tmp_path: Path) -> None:
    torch.save({"model": network(), "x": Call(os.system, "touch ran")}, tmp_path / "weights.pt")

    assert read_checkpoint(tmp_path / "weights.pt", trust=True).network.names == {0: "a", 1: "b"}
    assert (tmp_path / "ran").exists()


@pytest.mark.security(
    "Checkpoint", "It is no TorchScript, whose code would run, however its directory of entries looks."
)
def test_torchscript_behind_a_second_directory_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both are deprecated
        torch.jit.save(torch.jit.script(nn.Identity()), tmp_path / "script.pt")
    script = (tmp_path / "script.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "plain.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
    plain = (tmp_path / "plain.pt").read_bytes()
    (entries, size, start), (_, small, begin) = directory(script), directory(plain)
    # Behind the whole archive an entry more, and a directory of that alone, as long as the first one: Python counts
    # back from the end of the file to it, PyTorch forward from the beginning to the first.
    row = bytearray(plain[begin : begin + small] + b"c" * (size - small))
    struct.pack_into("<H", row, 32, size - small)  # a comment
    struct.pack_into("<I", row, 42, start - begin)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, entries, entries, size, start, 0)
    path = tmp_path / "weights.pt"
    path.write_bytes(script[: start + size] + plain[:begin] + row + end)

    assert zipfile.ZipFile(path).namelist() == ["x/data.pkl"]
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(path)


def directory(archive: bytes) -> tuple[int, int, int]:
    """Return how many entries a zip file's directory has, its size, and where it starts."""
    fields = struct.unpack("<IHHHHIIH", archive[-22:])
    return fields[4], fields[5], fields[6]
