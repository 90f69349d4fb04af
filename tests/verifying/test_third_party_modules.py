"""Modules of other packages that train well pass `verify`, each as a module file names it: with notes, no error."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Ablate
from torch import nn

from ablate.launching.jobs import Observer, Outcome, call
from ablate.settings.graft import ModuleSpec
from ablate.settings.module_checks import check_module
from ablate.verifying import conformance, verify
from ablate.verifying.conformance import Subject, examine, run_checks
from ablate.verifying.examination import Examination

# By the path of a class or function, the options that a module file would hold beside it.
MODULES: dict[str, dict[str, Any]] = {
    "timm.layers.EcaModule": {},
    "timm.layers.CecaModule": {},
    "timm.layers.SEModule": {},
    "timm.layers.EffectiveSEModule": {},
    "timm.layers.cbam.CbamModule": {},
    "timm.layers.cbam.LightCbamModule": {},
    "timm.layers.GatherExcite": {"extent": 2, "use_mlp": False},
    "timm.layers.GlobalContext": {},
    "timm.layers.SplitAttn": {},
    "timm.layers.SelectiveKernel": {},
    "timm.layers.NonLocalAttn": {},
    "timm.layers.create_attn": {"attn_type": "se"},
    "timm.layers.LayerNorm2d": {},
    "timm.layers.GroupNorm1": {},
    "timm.layers.FilterResponseNormTlu2d": {},
    "timm.layers.EvoNorm2dS0": {"groups": 8},
    "timm.layers.LayerScale2d": {},
    "timm.models.metaformer.MetaFormerBlock": {},
    "timm.layers.ConvMlp": {},
    "timm.layers.SeparableConvNormAct": {},
    "timm.layers.DropPath": {"drop_prob": 0.1},
    "timm.layers.ScaledStdConv2d": {"kernel_size": 3},
    "timm.models.metaformer.StarReLU": {},
    "ultralytics.nn.modules.CBAM": {},
    "ultralytics.nn.modules.ChannelAttention": {},
    "ultralytics.nn.modules.SpatialAttention": {"kernel_size": 7},
    "ultralytics.nn.modules.Conv": {"k": 3},
    "ultralytics.nn.modules.GhostConv": {},
    "ultralytics.nn.modules.RepConv": {},
    "ultralytics.nn.modules.Bottleneck": {},
    "ultralytics.nn.modules.GhostBottleneck": {},
    "ultralytics.nn.modules.C2f": {},
    "ultralytics.nn.modules.C3k2": {},
    "ultralytics.nn.modules.C2PSA": {},
    "ultralytics.nn.modules.block.PSABlock": {"num_heads": 2},
    "ultralytics.nn.modules.SPPF": {},
    "ultralytics.nn.modules.Attention": {"num_heads": 2},
    "ultralytics.nn.modules.A2C2f": {},
    "torchvision.ops.SqueezeExcitation": {"squeeze_channels": 8},
    "torchvision.ops.Conv2dNormActivation": {},
    "torchvision.ops.DropBlock2d": {"p": 0.1, "block_size": 3},
    "torchvision.ops.FrozenBatchNorm2d": {},
    "torchvision.ops.StochasticDepth": {"p": 0.1, "mode": "row"},
    "torch.nn.Conv2d": {"kernel_size": 3, "padding": 1},
    "torch.nn.BatchNorm2d": {},
    "torch.nn.InstanceNorm2d": {"affine": True},
    "torch.nn.GroupNorm": {"num_groups": 8},
    "torch.nn.Identity": {},
    "torch.nn.ReLU": {},
    "torch.nn.SiLU": {"inplace": True},
    "torch.nn.PReLU": {},
    "torch.nn.Dropout2d": {},
}


def examination(target: str, **options: Any) -> Examination:
    spec = ModuleSpec(target, options)
    check_module({"name": "mine", **spec.to_plain()}, "mine: ")
    return examine(spec)


@pytest.mark.parametrize("target", MODULES)
def test_a_module_that_trains_well_passes(target: str) -> None:
    assert examination(target, **MODULES[target]).errors == ()


NOTES = {
    "timm.layers.NonLocalAttn": "not finite under torch.float16 at feature scale 300",
    "timm.models.metaformer.StarReLU": "scale gets weight decay or an orthogonalised step",
    "torch.nn.SiLU": "changes its input in place",
    "torch.nn.InstanceNorm2d": "not for maps of 1x1: ValueError",
    "ultralytics.nn.modules.A2C2f": "Dimension of ABlock must be a multiple of 32.; checked with 64 channels",
}


@pytest.mark.parametrize("target", NOTES)
def test_what_is_good_to_know_is_a_note(target: str) -> None:
    assert any(NOTES[target] in note.text for note in examination(target, **MODULES[target]).notes)


def test_what_ultralytics_exempts_anyway_is_neither() -> None:
    assert examination("timm.layers.GlobalContext").notes == ()  # a bias of one number
    assert examination("torch.nn.BatchNorm2d").notes == ()


class _Plain(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Constant(_Plain):
    """A fixed kernel, which Ultralytics' trainer would train."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.kernel = nn.Parameter(torch.ones(1), requires_grad=False)


class WholeBatch(_Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.mean(0, keepdim=True)


class Remembers(_Plain):
    last: Any = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, self.last = self.last, float(x.mean())
        return self.conv(x) + before


class Infinite(_Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.std((2, 3), keepdim=True)


class EvenOnly(_Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (-1, 2)).flatten(2, 3)


class LastOnly(_Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.contiguous().view(x.shape)) if x.is_contiguous() else x.view(-1).view(x.shape)


class Late(_Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.late = nn.Conv2d(x.shape[1], x.shape[1], 1)
        return self.late(x)


class Unknown(_Plain):
    def no_weight_decay(self) -> set[str]:
        return {"gamma"}


class Locked(_Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.iterator: Iterator[int] = (number for number in range(3))


class Ends(_Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise SystemExit(3)


WRONG = {
    Constant: "every_parameter_gets_a_gradient",
    WholeBatch: "treats_each_image_by_itself",
    Remembers: "does_not_depend_on_the_image_before",
    Infinite: "survives_constant_images",
    EvenOnly: "keeps_the_shape_at_any_size",
    LastOnly: "accepts_channels_last",
    Late: "state_dict_does_not_depend_on_what_ran",
    Unknown: "declares_what_is_no_weight_matrix",
    Locked: "survives_round_trips",
    Ends: "leaves_no_tensor_on_another_device",
}


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_what_makes_a_wrong_or_a_failing_trial_is_an_error(kind: type[nn.Module]) -> None:
    found = run_checks(Subject(ModuleSpec(f"{__name__}.{kind.__name__}")))

    assert WRONG[kind] in {finding.check for finding in found if finding.grade == "error"}


def test_a_check_that_does_not_return_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "CHECK_SECONDS", 0.2)

    found = examine(ModuleSpec(f"{__name__}.Hangs"))

    assert {finding.text for finding in found.errors} == {"no return within 0.2 s"}


class Hangs(_Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while True:
            time.sleep(0.01)


FILE = """
import os, pathlib, torch
from torch import nn
pathlib.Path(__file__).with_suffix(f".{os.getpid()}").touch()
class Mine(nn.Conv2d):
    def __init__(self, channels, scale: float = 1.0): super().__init__(channels, channels, 1)
class Scaled(Mine):
    def __init__(self, channels, scale: float = 1.0):
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(1))
    def forward(self, x): return self.gain * super().forward(x)
class Dies(Mine):
    def forward(self, x): os._exit(3)
"""


@pytest.mark.security("Module", "verify runs it in a worker process, and no module that is not asked for.")
def test_a_module_that_dies_is_named_and_only_what_is_asked_for_is_imported(tmp_path: Path, ablate: Ablate) -> None:
    (tmp_path / "conf" / "module").mkdir(parents=True)
    for name, target in {"fine": "blocks.Scaled", "dies": "blocks.Dies", "other": "others.Mine"}.items():
        path = tmp_path / "conf" / "module" / f"{name}.yaml"
        path.write_text(f"name: {name}\n_target_: {target}\ninsertion: head\nscale: 1e-3\n", encoding="utf-8")
    (tmp_path / "blocks.py").write_text(FILE, encoding="utf-8")
    (tmp_path / "others.py").write_text(FILE, encoding="utf-8")

    done = ablate("verify", "dies", "fine")

    assert done.returncode == 1, done.stderr
    assert "conformance: dies: FAIL" in done.stdout
    assert "the worker process died (exit code 3)" in done.stdout
    assert "conformance: fine: pass, 12 of 12 checks, 1 note\n" in done.stdout
    assert "note: declares_what_is_no_weight_matrix: gain gets weight decay" in done.stdout
    assert not list(tmp_path.glob("others.[0-9]*")), "a module that was not asked for was imported"
    assert list(tmp_path.glob("blocks.[0-9]*"))


@pytest.mark.parametrize(("target", "code"), [("torch.nn.InstanceNorm2d", 0), (f"{__name__}.EvenOnly", 1)])
def test_notes_alone_do_not_fail(
    target: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(function: str, payloads: list[ModuleSpec], observer: Observer) -> None:
        for index, payload in enumerate(payloads):
            observer.end(index, Outcome(call(function, payload)))

    monkeypatch.setattr(verify, "run_in_worker", here)
    monkeypatch.setattr(verify, "registry", lambda names: {"mine": ModuleSpec(target)})

    assert verify.run_verify(None) == code
    printed = capsys.readouterr().out
    assert f"conformance: mine: {'FAIL' if code else 'pass'}, " in printed
    assert ("    error: keeps_the_shape_at_any_size: " in printed) is bool(code)


@pytest.mark.slow
def test_modules_that_pass_do_train(tmp_path: Path, ablate: Ablate) -> None:
    (tmp_path / "conf" / "module").mkdir(parents=True)
    names = {
        "my_se": "timm.layers.SEModule",
        "my_scale": "timm.models.metaformer.StarReLU",  # with a note
        "my_c2f": "ultralytics.nn.modules.C2f",
        "my_drop": "torch.nn.Dropout2d",
        "my_groups": "torch.nn.GroupNorm",
    }
    for name, target in names.items():
        options = "".join(f"{key}: {value}\n" for key, value in MODULES[target].items())
        path = tmp_path / "conf" / "module" / f"{name}.yaml"
        path.write_text(f"name: {name}\n_target_: {target}\ninsertion: neck_p5\n{options}", encoding="utf-8")

    off = ("latency.enabled=false", "figures=false", "notebook=false")
    done = ablate(f"module={','.join(names)}", "train=smoke", "device=cpu", *off, "-m", timeout=1500)

    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("multirun/trials/*/result.json")]
    assert len(records) == len(names) + 1
    assert all(record["status"] == "finished" for record in records)
