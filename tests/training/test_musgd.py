"""MuSGD is Ultralytics' in every respect but the arithmetic, which is what the device does fast, and is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from ultralytics.optim.muon import MuSGD as Stock

from ablate.settings.schema import Config
from ablate.settings.trial_settings import TrialSettings
from ablate.training import musgd
from ablate.training.checkpoint import TrainingState
from ablate.training.musgd import MuSGD, fast_arithmetic
from ablate.training.network import ARITHMETIC_KEY
from ablate.training.trainer import AblateTrainer
from ablate.training.trainer_arguments import trainer_arguments

CPU = torch.device("cpu")
SHAPES = [(8, 4, 3, 3), (8, 4, 3, 3), (4, 8, 1, 1), (6, 20), (20, 6), (1, 1), (16, 1, 3, 3), (9,), (), (3, 2, 2)]
Build = Callable[..., Any]


def parameters(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    made = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    made.append(nn.Parameter(torch.randn(8, 4, 3, 3, generator=generator).to(memory_format=torch.channels_last)))
    return made


def groups(params: list[nn.Parameter], **changes: Any) -> list[dict[str, Any]]:
    """Parameter groups as Ultralytics makes them, with options of its own for each kind."""
    rest = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0, **changes}
    return [
        {"params": [p for p in params if p.ndim in (2, 4)], **rest, "weight_decay": 5e-4, "use_muon": True},
        {"params": [p for p in params if p.ndim not in (2, 4)], **rest, "use_muon": False},
    ]


def set_gradients(params: list[nn.Parameter], step: int, factor: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for p in params:
        p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator) * factor)


def run(
    optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range, factor: float = 1.0
) -> list[Tensor]:
    for step in steps:
        set_gradients(params, step, factor)
        optimizer.step()
    return [p.detach().clone() for p in params]


def pair(arithmetic: str, **changes: Any) -> tuple[Stock, list[nn.Parameter], MuSGD, list[nn.Parameter]]:
    theirs, ours = parameters(), parameters()
    stock = Stock(groups(theirs, **changes), muon=0.2, sgd=1.0)
    return stock, theirs, MuSGD(groups(ours, **changes), muon=0.2, sgd=1.0, arithmetic=arithmetic), ours


def buffers(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], name: str) -> list[Tensor]:
    return [optimizer.state[p][name] for p in params if name in optimizer.state[p]]


# -- the step ---------------------------------------------------------------------------------------------------------


def test_in_bfloat16_a_step_is_ultralytics_own_to_the_last_bit() -> None:
    stock, theirs, own, ours = pair("bf16")
    assert all(map(torch.equal, run(stock, theirs, range(4)), run(own, ours, range(4))))


@pytest.mark.parametrize("arithmetic", ["emulated", "fp32"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_otherwise_only_the_orthogonalised_part_differs_and_by_bfloat16_s_error(
    nesterov: bool, arithmetic: str
) -> None:
    stock, theirs, own, ours = pair(arithmetic, nesterov=nesterov)
    start = [p.detach().clone() for p in ours]
    for before, expected, found in zip(start, run(stock, theirs, range(3)), run(own, ours, range(3)), strict=True):
        if found.ndim in (2, 4):
            assert (found - expected).norm() <= 0.05 * (expected - before).norm()
        else:
            assert torch.equal(found, expected)
    for name in ("momentum_buffer", "momentum_buffer_SGD"):
        expected, found = buffers(stock, theirs, name), buffers(own, ours, name)
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            assert one.stride() == other.stride()
            torch.testing.assert_close(one, other, rtol=0.02 if name == "momentum_buffer_SGD" else 0, atol=1e-4)


def test_without_the_orthogonalised_part_a_step_in_float32_is_ultralytics_own_to_the_last_bit() -> None:
    stock, theirs, own, ours = pair("fp32")
    stock.muon = own.muon = 0.0
    assert all(map(torch.equal, run(stock, theirs, range(3)), run(own, ours, range(3))))


def test_rates_of_the_two_parts_are_those_of_the_group() -> None:
    params = [nn.Parameter(torch.zeros(6, 20))]
    optimizer = MuSGD(groups(params, lr=0.5, momentum=0.0), muon=0.2, sgd=0.0, arithmetic="fp32")
    params[0].grad = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    singular = torch.linalg.svdvals(params[0].detach() / (0.5 * 0.2))
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_missing_gradients_leave_a_parameter_and_its_neighbours_as_they_are() -> None:
    stock, theirs, own, ours = pair("fp32")
    for params, optimizer in ((theirs, stock), (ours, own)):
        set_gradients(params, 0)
        params[0].grad = params[7].grad = None
        optimizer.step()
    start = parameters()
    assert torch.equal(ours[0], start[0])
    assert torch.equal(ours[7], start[7])
    assert ours[0] not in own.state
    alone, first = parameters(), [0, 7]
    set_gradients(alone, 0)
    MuSGD(groups(alone), muon=0.2, sgd=1.0, arithmetic="fp32").step()
    assert all(
        torch.allclose(p, q, atol=1e-7) for i, (p, q) in enumerate(zip(ours, alone, strict=True)) if i not in first
    )
    for p in ours:
        p.grad = None
    own.step()  # nothing to do


@pytest.mark.parametrize("factor", [0.0, 1e-25, 1e-6, 1e6, 1e25])
def test_gradients_of_any_size_are_treated_as_by_ultralytics(factor: float) -> None:
    stock, theirs, own, ours = pair("fp32", weight_decay=0.0)
    start = [p.detach().clone() for p in ours]
    for before, expected, found in zip(
        start, run(stock, theirs, range(1), factor), run(own, ours, range(1), factor), strict=True
    ):
        assert found.isfinite().all()
        assert (found - expected).norm() <= 0.05 * (expected - before).norm() + 1e-6 * before.norm()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_own_matrix(bad: float) -> None:
    _, _, own, ours = pair("fp32")
    set_gradients(ours, 0)
    assert ours[0].grad is not None
    ours[0].grad[0, 0, 0, 0] = bad
    own.step()
    assert not ours[0].isfinite().all()
    assert all(p.isfinite().all() for p in ours[1:])
    set_gradients(ours, 1)
    own.step()
    assert all(p.isfinite().all() for p in ours[1:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_parameters_of_another_type_keep_it(dtype: torch.dtype) -> None:
    ours = [nn.Parameter(p.detach().to(dtype)) for p in parameters()]
    theirs = [nn.Parameter(p.detach().to(dtype)) for p in parameters()]
    run(MuSGD(groups(ours), muon=0.0, sgd=1.0, arithmetic="fp32"), ours, range(2))
    run(Stock(groups(theirs), muon=0.0, sgd=1.0), theirs, range(2))
    assert all(p.dtype == dtype and torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_a_closure_is_called_with_gradients() -> None:
    _, _, own, ours = pair("fp32")

    def loss() -> Tensor:
        total = sum((p**2).sum() for p in ours)
        assert isinstance(total, Tensor)
        total.backward()
        return total

    assert own.step(loss) > 0


@pytest.mark.parametrize("arithmetic", ["bf16", "emulated", "fp32"])
def test_states_are_exchanged_with_ultralytics_and_continued(arithmetic: str) -> None:
    stock, theirs, own, ours = pair(arithmetic)
    run(stock, theirs, range(2))
    with torch.no_grad():
        for p, q in zip(ours, theirs, strict=True):
            p.copy_(q)
    own.load_state_dict(deepcopy(stock.state_dict()))
    expected, found = run(stock, theirs, range(2, 4)), run(own, ours, range(2, 4))
    if arithmetic == "bf16":
        assert all(map(torch.equal, expected, found))
    assert own.state_dict()["state"].keys() == stock.state_dict()["state"].keys()

    again = parameters()
    with torch.no_grad():
        for p, q in zip(again, ours, strict=True):
            p.copy_(q)
    other = MuSGD(groups(again), muon=0.2, sgd=1.0, arithmetic=arithmetic)
    other.load_state_dict(deepcopy(own.state_dict()))
    assert all(map(torch.equal, run(own, ours, range(4, 6)), run(other, again, range(4, 6))))


def test_a_small_network_s_step_takes_one_thread_and_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    original = musgd._sgd

    def watched(*arguments: Any) -> None:
        used.append(torch.get_num_threads())
        original(*arguments)

    monkeypatch.setattr(musgd, "_sgd", watched)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for worth, expected in ((musgd.WORTH_THREADS, 1), (0, 2)):
            monkeypatch.setattr(musgd, "WORTH_THREADS", worth)
            _, _, own, ours = pair("emulated")
            used.clear()
            run(own, ours, range(1))
            assert set(used) == {expected}
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_an_arithmetic_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="valid are bf16, emulated and fp32"):
        MuSGD(groups(parameters()), arithmetic="fp16")


# -- the choice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "environment", "expected"),
    [
        ({"avx2": True}, {}, "emulated"),
        ({"avx512_bf16": True}, {}, "emulated"),
        ({"architecture": "arm64", "bf16": True}, {}, "emulated"),
        ({"avx512_bf16": True, "amx_bf16": True}, {}, "bf16"),
        ({"amx_bf16": True}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "emulated"),
        ({"amx_bf16": True}, {"DNNL_MAX_CPU_ISA": "avx512_core_bf16"}, "emulated"),
        ({"amx_bf16": True}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "bf16"),
        ({"amx_bf16": True}, {"ONEDNN_MAX_CPU_ISA": "default"}, "bf16"),
    ],
)
def test_the_arithmetic_follows_from_what_the_processor_can_do(
    capabilities: dict[str, Any], environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in musgd.ONEDNN_LIMITS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities), raising=False)
    assert fast_arithmetic(CPU) == expected
    assert fast_arithmetic(torch.device("cuda")) == "bf16"


# -- trainings --------------------------------------------------------------------------------------------------------


def realised(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "realised.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("arithmetic", ["auto", "bf16", "emulated", "fp32"])
def test_what_was_asked_for_travels_with_the_network_and_not_among_ultralytics_arguments(
    arithmetic: str, tiny_data: Path, tmp_path: Path
) -> None:
    config = {**asdict(Config()), "data": {"name": "tiny"}}
    config["optimizer"]["orthogonalise"] = arithmetic
    arguments = trainer_arguments(TrialSettings.from_plain(config), SimpleNamespace(yaml=tiny_data), tmp_path)  # type: ignore[arg-type]
    assert arguments["optimizer"] == "MuSGD"
    assert "orthogonalise" not in arguments
    content = yaml.safe_load(Path(arguments["model"]).read_text(encoding="utf-8"))
    assert content.get(ARITHMETIC_KEY, "auto") == arithmetic


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def interrupt(trainer: Any) -> None:
    if trainer.epoch == 1:
        raise Interrupted


def test_a_training_is_continued_in_the_arithmetic_of_its_checkpoint(
    build: Build, uninterrupted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted(epochs=2, orthogonalise="emulated")
    monkeypatch.setattr("ablate.training.trainer.fast_arithmetic", lambda device: "emulated")
    trainer = build(epochs=2, callbacks={"on_train_batch_end": interrupt})
    with pytest.raises(Interrupted):
        trainer.train()
    folder = Path(trainer.save_dir)
    monkeypatch.setattr("ablate.training.trainer.fast_arithmetic", lambda device: "bf16")  # moved to another machine
    AblateTrainer(overrides={"resume": str(folder / "weights" / "last.pt")}).train()

    for which in (folder, whole):
        assert (realised(which)["optimizer"], realised(which)["orthogonalise"]) == ("MuSGD", "emulated")
    assert realised(folder)["resume_exact"]
    weights = [torch.load(f / "weights" / "last.pt", weights_only=False)["model"].state_dict() for f in (folder, whole)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize(
    ("asked", "carried", "expected"),
    [
        ("auto", None, "emulated"),
        ("bf16", None, "bf16"),
        ("fp32", None, "fp32"),
        ("auto", TrainingState(epoch=1, epochs=2, resumed=0, orthogonalise="bf16"), "bf16"),
        ("auto", TrainingState(epoch=1, epochs=2, resumed=0, orthogonalise="fp32"), "fp32"),
        ("auto", TrainingState(epoch=1, epochs=2, resumed=0), "bf16"),  # of a version that trained as Ultralytics does
    ],
)
def test_a_checkpoint_goes_before_what_was_asked_for_and_that_before_what_is_fast(
    asked: str, carried: TrainingState | None, expected: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate.training.trainer.fast_arithmetic", lambda device: "emulated")
    trainer = build()
    trainer._arithmetic, trainer.interrupted = asked, carried
    trainer._settle_arithmetic()
    trainer.interrupted = None  # the first epoch has begun, and ran out of memory
    trainer._settle_arithmetic()
    assert trainer._arithmetic == expected
