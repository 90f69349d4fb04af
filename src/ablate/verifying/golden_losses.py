"""Golden values of losses: what the authors' code computed for pairs of boxes, or for scores, against ours in float32.

Several batches of one case follow each other, for losses that keep a state (see tests/golden/losses/README.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate.losses.boxes import Scale
from ablate.storage.plain_values import Plain
from ablate.verifying.golden import CaseResult, relative_error

HOME = "ablate.losses."


def compare_loss_case(path: Path) -> CaseResult:
    """Run one case in float32 and compare losses and gradients."""
    try:
        with np.load(path, allow_pickle=False) as file:
            config: Plain = json.loads(str(file["config"]))
            arrays = {key: torch.from_numpy(file[key]).float() for key in file.files if key != "config"}
        errors = dict(_errors_of_boxes(config, arrays) if "boxes0" in arrays else _errors_of_scores(config, arrays))
    except Exception as error:  # a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        return CaseResult(path.stem, float("inf"), "", problem=f"{type(error).__name__}: {reason}"[:200])
    worst = max(errors, key=lambda name: errors[name])
    return CaseResult(path.stem, errors[worst], worst)


def _errors_of_boxes(config: Plain, arrays: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    inner = {} if config["of"] is None else {"of": _build(config["of"], {})}
    loss = _build(config["target"], {**config["kwargs"], **inner})
    for index in range(config["batches"]):
        boxes = arrays[f"boxes{index}"].requires_grad_()
        scale = Scale(torch.full((len(boxes), 1), config["stride"]), torch.tensor(config["image"]).float())
        result = loss(boxes, arrays[f"targets{index}"], scale)
        yield f"loss{index}", relative_error(result, arrays[f"loss{index}"])
        (result * arrays[f"cotangent{index}"]).sum().backward()
        yield f"grad{index}", relative_error(boxes.grad, arrays[f"grad{index}"])


def _errors_of_scores(config: Plain, arrays: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    logits = arrays["logits"].requires_grad_()
    result = _build(config["target"], config["kwargs"])(logits, arrays["targets"])
    yield "loss", relative_error(result, arrays["loss"])
    (result * arrays["cotangent"]).sum().backward()
    yield "grad", relative_error(logits.grad, arrays["grad"])


def _build(target: str, options: dict[str, Any]) -> nn.Module:
    """Return a loss of ours.

    Raises:
        ValueError: The file names another class.
    """
    home, _, name = target.rpartition(".")
    if not target.startswith(HOME):
        raise ValueError(f"target {target} is not in {HOME[:-1]}")
    loss: nn.Module = getattr(import_module(home), name)(**options)
    return loss
