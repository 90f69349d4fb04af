"""Golden values: outputs and gradients that the authors' own code computed, against ours.

A case is one `.npz` of numbers and a JSON `config` (see tests/golden/README.md). A damaged case, or one of a module
that is not known here, fails by its own line; it does not end the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import ablate.modules
from ablate.storage.plain_values import Plain

TOLERANCE = 1e-5  # relative to the largest reference value of each tensor, float32
AUTHORS_NAMES = {"STA": "StokenAttention"}  # where the authors' name of a module is not the name of our class


@dataclass(frozen=True)
class CaseResult:
    """How far our float32 run of one case is from the authors' float64 values.

    Attributes:
        case: Name of the file.
        error: Largest relative error over output, input gradient, parameter gradients and cache, in the fused and in
            the composed form; NaN and infinite differences count as infinite.
        worst: The tensor with that error, and the form.
        problem: Why the case could not be run, or None.
    """

    case: str
    error: float
    worst: str
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the case ran and every tensor is within the tolerance."""
        return self.problem is None and self.error <= TOLERANCE


def compare_case(path: Path) -> CaseResult:
    """Run one case in float32 and compare."""
    return worst_of(path, _all_errors)


def worst_of(path: Path, compare: Callable[[Path], Iterable[tuple[str, float]]]) -> CaseResult:
    """Return the largest error of a case, or why it could not be compared.

    Args:
        path: Of the case.
        compare: Reads and runs it; the error of each tensor by name.
    """
    try:
        errors = dict(compare(path))
    except Exception as error:  # damage to a file shows in many ways, and a module may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        return CaseResult(path.stem, float("inf"), "", problem=f"{type(error).__name__}: {reason}"[:200])
    worst = max(errors, key=lambda name: errors[name])
    return CaseResult(path.stem, errors[worst], worst)


def _all_errors(path: Path) -> Iterator[tuple[str, float]]:
    """Yield the errors of the fused and of the composed form."""
    case = _Case.read(path)
    for fused, form in ((True, ""), (False, " (composed)")):
        for tensor, error in _errors(case, fused):
            yield f"{tensor}{form}", error


@dataclass(frozen=True)
class _Case:
    """One file: how the authors' module was made, and what their code computed.

    Attributes:
        module: The authors' name of the module.
        options: Their constructor's arguments.
        unused: Their parameters that take no part, which ours may lack.
        without_gradient: Parameters whose gradient is exactly zero.
        x: Input (B, C, H, W).
        y: Output, as `x`.
        cotangent: d loss / d y.
        grad_x: d loss / d x.
        parameters: By name.
        gradients: d loss / d parameter, by name.
        qv_cache: The cache that comes in; HMHA only.
        y_cache: The cache that goes out; HMHA only.
    """

    module: str
    options: Plain
    unused: frozenset[str]
    without_gradient: frozenset[str]
    x: Tensor
    y: Tensor
    cotangent: Tensor
    grad_x: Tensor
    parameters: dict[str, Tensor]
    gradients: dict[str, Tensor]
    qv_cache: Tensor | None
    y_cache: Tensor | None

    @classmethod
    def read(cls, path: Path) -> _Case:
        """Read a file.

        Raises:
            KeyError: It lacks an array or an entry of its `config`.
            ValueError: Its `config` is no JSON.
        """
        with np.load(path, allow_pickle=False) as file:
            config: Plain = json.loads(str(file["config"]))
            arrays = {key: torch.from_numpy(file[key]).float() for key in file.files if key != "config"}

        def named(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}

        return cls(
            module=config["module"],
            options=config["kwargs"],
            unused=frozenset(config.get("unused_params", ())),
            without_gradient=frozenset(config.get("analytically_zero_grad", ())),
            **{name: arrays[name] for name in ("x", "y", "cotangent", "grad_x")},
            parameters=named("param:"),
            gradients=named("grad:"),
            qv_cache=arrays.get("qv_cache"),
            y_cache=arrays.get("y_cache"),
        )


def _errors(case: _Case, fused: bool) -> Iterator[tuple[str, float]]:
    """Yield name and relative error of every compared tensor, in the fused or the composed form of the module."""
    name = AUTHORS_NAMES.get(case.module, case.module)
    module: nn.Module = getattr(ablate.modules, name).from_authors(**case.options).eval()
    ours = dict(module.named_parameters())
    _require_same_names(set(ours), set(case.parameters), case.unused)
    module.load_state_dict({key: case.parameters[key] for key in ours}, strict=False)
    for part in module.modules():
        if hasattr(part, "fused"):
            part.fused = fused  # type: ignore[assignment]

    x = case.x.clone().requires_grad_()
    if case.qv_cache is not None or case.y_cache is not None:
        y, cache = module.forward_with_cache(x, case.qv_cache)  # type: ignore[operator]
        yield "y_cache", relative_error(cache, case.y_cache)
    else:
        y = module(x)
    yield "y", relative_error(y, case.y)
    (y * case.cotangent).sum().backward()
    yield "grad_x", relative_error(x.grad, case.grad_x)
    scale = max(float(case.gradients[key].abs().max()) for key in ours if key not in case.unused)
    for key, parameter in ours.items():
        if key in case.unused:
            continue
        reference = case.gradients[key]
        if key in case.without_gradient:  # rounding alone is left of it: compare with the size of the other gradients
            yield f"grad:{key}", float(_or_zero(parameter).abs().max()) / scale
        else:
            yield f"grad:{key}", relative_error(_or_zero(parameter), reference)


def _require_same_names(ours: set[str], authors: set[str], unused: frozenset[str]) -> None:
    missing, extra = authors - ours - unused, ours - authors
    if missing or extra:
        raise KeyError(f"parameter names differ: we lack {sorted(missing)}, they lack {sorted(extra)}")


def _or_zero(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def relative_error(ours: Tensor | None, authors: Tensor | None) -> float:
    """Return the largest difference, relative to the largest value of `authors`; NaN counts as infinite.

    Raises:
        ValueError: The shapes differ.
    """
    if ours is None or authors is None or ours.shape != authors.shape:
        shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (ours, authors)]
        raise ValueError(f"shape {shapes[0]} where the authors have {shapes[1]}")
    error = float((ours.detach() - authors).abs().max()) / max(float(authors.abs().max()), 1e-12)
    return error if error == error else float("inf")
