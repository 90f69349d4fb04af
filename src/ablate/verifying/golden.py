"""Golden values: outputs and gradients that the authors' own code computed, against ours.

A case is one `.npz` of numbers and a JSON `config` (see tests/golden/README.md). A damaged case, or one of a module
that is not known here, fails by its own line; it does not end the run.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ablate.modules

TOLERANCE = 1e-5  # relative to the largest reference value of each tensor, float32
AUTHORS_NAMES = {"STA": "StokenAttention"}  # where the authors' name of a module is not the name of our class


@dataclass(frozen=True)
class Comparison:
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


def compare_folder(folder: Path) -> list[Comparison]:
    """Compare every case of a folder, in the order of their names.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no case.
    """
    cases = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    if not cases:
        raise FileNotFoundError(f"{folder}: no golden case (*.npz) here")
    return [compare_case(path) for path in cases]


def compare_case(path: Path) -> Comparison:
    """Run one case in float32 and compare."""
    try:
        config, data = _read(path)
        errors = {
            f"{tensor}{told}": error
            for fused, told in ((True, ""), (False, " (composed)"))
            for tensor, error in _errors(config, data, fused)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Comparison(path.stem, float("inf"), "", problem=f"{type(error).__name__}: {reason}"[:200])
    worst = max(errors, key=lambda name: errors[name])
    return Comparison(path.stem, errors[worst], worst)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with np.load(path, allow_pickle=False) as file:
        config = json.loads(str(file["config"]))
        data = {key: torch.from_numpy(file[key]).float() for key in file.files if key != "config"}
    return config, data


def _errors(config: Mapping[str, Any], data: Mapping[str, Tensor], fused: bool) -> Iterator[tuple[str, float]]:
    """Yield name and relative error of every compared tensor, in the fused or the composed form of the module."""
    name = AUTHORS_NAMES.get(config["module"], config["module"])
    module: nn.Module = getattr(ablate.modules, name).from_authors(**config["kwargs"]).eval()
    parameters = {key.removeprefix("param:"): value for key, value in data.items() if key.startswith("param:")}
    unused = set(config.get("unused_params", ()))
    ours = dict(module.named_parameters())
    _require_same_names(set(ours), set(parameters), unused)
    module.load_state_dict({key: parameters[key] for key in ours}, strict=False)
    for part in module.modules():
        if hasattr(part, "fused"):
            part.fused = fused  # type: ignore[assignment]

    x = data["x"].clone().requires_grad_()
    if "qv_cache" in data or "y_cache" in data:
        y, cache = module.forward_with_cache(x, data.get("qv_cache"))  # type: ignore[operator]
        yield "y_cache", _relative(cache, data["y_cache"])
    else:
        y = module(x)
    yield "y", _relative(y, data["y"])
    (y * data["cotangent"]).sum().backward()
    yield "grad_x", _relative(x.grad, data["grad_x"])
    zero = set(config.get("analytically_zero_grad", ()))
    scale = max(float(data[f"grad:{key}"].abs().max()) for key in ours if key not in unused)
    for key, parameter in ours.items():
        if key in unused:
            continue
        reference = data[f"grad:{key}"]
        if key in zero:  # rounding alone is left of it: compare with the size of the other gradients
            yield f"grad:{key}", float(_or_zero(parameter).abs().max()) / scale
        else:
            yield f"grad:{key}", _relative(_or_zero(parameter), reference)


def _require_same_names(ours: set[str], theirs: set[str], unused: set[str]) -> None:
    missing, extra = theirs - ours - unused, ours - theirs
    if missing or extra:
        raise KeyError(f"parameter names differ: we lack {sorted(missing)}, they lack {sorted(extra)}")


def _or_zero(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _relative(ours: Tensor | None, theirs: Tensor) -> float:
    if ours is None or ours.shape != theirs.shape:
        shape = None if ours is None else tuple(ours.shape)
        raise ValueError(f"shape {shape} where the authors have {tuple(theirs.shape)}")
    error = float((ours.detach() - theirs).abs().max()) / max(float(theirs.abs().max()), 1e-12)
    return error if error == error else float("inf")
