"""Golden values of the catalogue's modules: one module, or a list of maps, against numbers of its authors' code.

A case holds our class and its arguments, and every value under our names (see tests/golden/catalogue/README.md); so a
new module needs no line here. A file names its class: only classes of the packages in `HOMES` are imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ablate.storage.plain_values import Plain
from ablate.verifying import golden
from ablate.verifying.golden import CaseResult, relative_error, worst_of
from ablate.verifying.golden_losses import HOME, compare_loss_case

HOMES = ("ablate.modules", "timm.layers", "torchvision.ops", "ultralytics.nn.modules")
COUNTERS = "num_batches_tracked"  # of batch norms; no file has them


def compare_any_case(path: Path) -> CaseResult:
    """Run one case of either format in float32 and compare; a file that cannot be read or run says so in its result."""
    try:
        with np.load(path, allow_pickle=False) as file:
            config: Plain = json.loads(str(file["config"]))
            of_catalogue = "target" in config
            of_loss = str(config.get("target")).startswith(HOME)
    except Exception:  # damage to a file shows in many ways; golden.compare_case says what is wrong with it
        of_catalogue = of_loss = False
    if of_loss:
        return compare_loss_case(path)
    return compare_catalogue_case(path) if of_catalogue else golden.compare_case(path)


def compare_catalogue_case(path: Path) -> CaseResult:
    """Run one case of the catalogue in float32 and compare."""
    return worst_of(path, lambda path: _errors(_Case.read(path)))


@dataclass(frozen=True)
class _Case:
    """One file: how our module is made, and what the authors' code computed with the same weights.

    Attributes:
        target: Dotted path of our class.
        args: Its positional arguments.
        options: Its arguments by name.
        forward_only: Whether the file has no gradients.
        zero_gradient: Parameters whose gradient is exactly zero, of which rounding alone is left.
        listed: Whether the module takes a list of maps.
        x: Inputs (B, C, H, W); one, unless `listed`.
        y: Outputs.
        cotangent: d loss / d y; empty with `forward_only`.
        grad_x: d loss / d x; empty with `forward_only`.
        parameters: By name.
        buffers: By name.
        gradients: d loss / d parameter, by name.
    """

    target: str
    args: Sequence[object]
    options: Plain
    forward_only: bool
    zero_gradient: frozenset[str]
    listed: bool
    x: Sequence[Tensor]
    y: Sequence[Tensor]
    cotangent: Sequence[Tensor]
    grad_x: Sequence[Tensor]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    gradients: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> _Case:
        """Read a file.

        Raises:
            KeyError: It lacks an array or an entry of its `config`.
            ValueError: Its `config` is no JSON.
        """
        with np.load(path, allow_pickle=False) as file:
            config: Plain = json.loads(str(file["config"]))
            arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config"}
        arrays = {key: array.float() if array.is_floating_point() else array for key, array in arrays.items()}

        def group(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}

        def maps(name: str) -> Sequence[Tensor]:
            if name in arrays:
                return (arrays[name],)
            numbered = [arrays[f"{name}{i}"] for i in range(len(arrays)) if f"{name}{i}" in arrays]
            if not numbered:
                raise KeyError(name)
            return numbered

        forward_only = bool(config.get("forward_only", False))
        return cls(
            target=config["target"],
            args=config["args"],
            options=config["kwargs"],
            forward_only=forward_only,
            zero_gradient=frozenset(config.get("analytically_zero_grad", ())),
            listed="x" not in arrays,
            x=maps("x"),
            y=maps("y"),
            cotangent=() if forward_only else maps("cotangent"),
            grad_x=() if forward_only else maps("grad_x"),
            parameters=group("param:"),
            buffers=group("buffer:"),
            gradients=group("grad:"),
        )

    def build(self) -> nn.Module:
        """Return our module in eval mode with the file's weights.

        Raises:
            KeyError: A parameter or a buffer has no value, or a value has no place.
            ValueError: The file names no module of the catalogue's packages.
        """
        home, _, name = self.target.rpartition(".")
        if not any(f"{home}.".startswith(f"{package}.") for package in HOMES):
            raise ValueError(f"target {self.target} is in none of {', '.join(HOMES)}")
        kind = getattr(import_module(home), name)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ValueError(f"target {self.target} is no class of a module")
        module = kind(*self.args, **self.options).eval()
        _require_same_names("parameters", {name for name, _ in module.named_parameters()}, set(self.parameters))
        state = {name for name in module.state_dict() if not name.endswith(COUNTERS)} - set(self.parameters)
        _require_same_names("buffers", state, set(self.buffers))
        module.load_state_dict({**self.parameters, **self.buffers}, strict=False)
        return module


def _errors(case: _Case) -> Iterator[tuple[str, float]]:
    """Yield name and relative error of every compared tensor."""
    module = case.build()
    x = [tensor.clone().requires_grad_(not case.forward_only) for tensor in case.x]
    y = module(x if case.listed else x[0])
    outputs = list(y) if isinstance(y, (list, tuple)) else [y]
    for i, (ours, authors) in enumerate(zip(outputs, case.y, strict=True)):
        yield f"y{i if len(outputs) > 1 else ''}", relative_error(ours, authors)
    if case.forward_only:
        return
    sum((ours * weight).sum() for ours, weight in zip(outputs, case.cotangent, strict=True)).backward()
    for i, (tensor, authors) in enumerate(zip(x, case.grad_x, strict=True)):
        yield f"grad_x{i if case.listed else ''}", relative_error(tensor.grad, authors)
    parameters = dict(module.named_parameters())
    _require_same_names("gradients", set(parameters), set(case.gradients))
    scale = max((float(gradient.abs().max()) for gradient in case.gradients.values()), default=0.0)
    for name, parameter in parameters.items():
        ours = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if name in case.zero_gradient:  # compared with the size of the other gradients
            yield f"grad:{name}", float(ours.abs().max()) / scale
        else:
            yield f"grad:{name}", relative_error(ours, case.gradients[name])


def _require_same_names(what: str, ours: set[str], authors: set[str]) -> None:
    if ours != authors:
        raise KeyError(f"{what} differ: the file lacks {sorted(ours - authors)}, ours lacks {sorted(authors - ours)}")
