"""Golden values of losses: what the authors' code computed for pairs of boxes, or for scores, against ours in float32.

Several batches of one case follow each other, for losses that keep a state (see tests/golden/losses/README.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate.losses.boxes import Scale
from ablate.storage.plain_values import Plain
from ablate.verifying.golden import CaseResult, relative_error, worst_of

HOME = "ablate.losses."


def compare_loss_case(path: Path) -> CaseResult:
    """Run one case in float32 and compare losses and gradients."""
    return worst_of(path, lambda path: _errors(_Case.read(path)))


@dataclass(frozen=True)
class _Batch:
    """What the authors' code computed for one batch.

    Attributes:
        x: Predicted boxes (N, 4), or logits (B, N, classes).
        targets: True boxes, or targets of the scores.
        cotangent: d sum / d loss.
        loss: The losses.
        grad: d sum / d x.
    """

    x: Tensor
    targets: Tensor
    cotangent: Tensor
    loss: Tensor
    grad: Tensor


@dataclass(frozen=True)
class _Case:
    """One file: how our loss is made, and what the authors' code computed.

    Attributes:
        target: Dotted path of our class.
        options: Its arguments by name.
        of: That of the loss in a wrapper, or None.
        stride: Pixels in the boxes' unit; None for a loss of classes.
        image: Height and width in pixels.
        batches: In order.
    """

    target: str
    options: Plain
    of: str | None
    stride: float | None
    image: tuple[float, ...]
    batches: tuple[_Batch, ...]

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
        names = tuple(_Batch.__dataclass_fields__)
        batches = (
            _Batch(**{name: arrays[f"{name}{index}"] for name in names}) for index in range(len(arrays) // len(names))
        )
        image = tuple(config["image"] or ())
        return cls(config["target"], config["kwargs"], config["of"], config["stride"], image, tuple(batches))

    def build(self) -> nn.Module:
        """Return our loss."""
        inner = {} if self.of is None else {"of": _build(self.of, {})}
        return _build(self.target, {**self.options, **inner})


def _errors(case: _Case) -> Iterator[tuple[str, float]]:
    """Yield name and relative error of the losses and gradients of every batch."""
    loss = case.build()
    for index, batch in enumerate(case.batches):
        x = batch.x.requires_grad_()
        scale = [] if case.stride is None else [Scale(torch.full((len(x), 1), case.stride), torch.tensor(case.image))]
        result = loss(x, batch.targets, *scale)
        yield f"loss{index}", relative_error(result, batch.loss)
        (result * batch.cotangent).sum().backward()
        yield f"grad{index}", relative_error(x.grad, batch.grad)


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
