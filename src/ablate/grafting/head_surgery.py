"""Surgery on the head: grafts on its inputs, an adapter before it, another Detect in its place."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect, v10Detect

from ablate.grafting.insertion import GraftError
from ablate.grafting.module_calls import calling
from ablate.grafting.replaced_layer import MARK, HeadMark, Replaced, keep_weights, set_norms, take_bookkeeping


class GraftedInputs:
    """Detect with a graft on each of its inputs, or an adapter of all of them, or first the ones and then the other."""

    def forward(self, x: list[Tensor]) -> Any:
        """Graft every input, adapt them, then detect."""
        if (grafts := getattr(self, "grafts", None)) is not None:
            x = [graft(level) for graft, level in zip(grafts, x, strict=True)]
        if (adapter := getattr(self, "adapter", None)) is not None:
            x = list(adapter(x))
        return super().forward(x)  # type: ignore[misc]


class GraftedDetect(GraftedInputs, Detect):
    """Ultralytics' Detect with grafts on its inputs."""


class GraftedV10Detect(GraftedInputs, v10Detect):
    """Ultralytics' v10Detect with grafts on its inputs."""


_GRAFTED: dict[type[nn.Module], type[nn.Module]] = {Detect: GraftedDetect, v10Detect: GraftedV10Detect}


def graft_inputs(head: nn.Module, grafts: Sequence[nn.Module]) -> None:
    """Put a graft on each input of the head, behind those that are there already, in place."""
    grafted = _with_inputs(head, "insertion=head", "; use neck_p3 to neck_p5")
    before = getattr(grafted, "grafts", None)
    if before is None:
        grafted.grafts = nn.ModuleList(grafts)
        return
    grafted.grafts = nn.ModuleList(
        nn.Sequential(*(old if isinstance(old, nn.Sequential) else [old]), new)
        for old, new in zip(before, grafts, strict=True)
    )


def adapt(head: nn.Module, adapter: Replaced) -> None:
    """Let an adapter receive what Detect receives, and Detect what it returns, in place."""
    _with_inputs(head, "detect", "").adapter = adapter


def in_place_of(stock: nn.Module, head: Detect, target: str, insertion: str, *, keep: bool) -> Detect:
    """Make a subclass of Detect the head of a network whose stock head is given, and return it.

    It takes the weights of the stock head that it shares by name and shape, unless not `keep`.

    Raises:
        ModuleError: What it returns differs from what the stock head returns, in structure or shapes.
    """
    set_norms(head)
    head.stride, head.inplace = stock.stride, stock.inplace
    if keep:
        head.bias_init()
        head.end2end = stock.end2end
    kept = keep_weights(head, stock) if keep else ()
    take_bookkeeping(head, stock)
    setattr(head, MARK, HeadMark(target, insertion, kept))
    with calling(target, f"at {insertion}: forward"):
        _check_outputs(stock, head)
    return head


@torch.no_grad()
def _check_outputs(stock: nn.Module, head: nn.Module) -> None:
    """Check on small maps that a head returns what the stock one does, in both modes.

    Raises:
        ValueError: It does not; the message says both.
    """
    channels = [branch[0].conv.in_channels for branch in stock.cv2]  # type: ignore[union-attr]
    noise = torch.Generator().manual_seed(0)
    sides = [2 ** (len(channels) - index) for index in range(len(channels))]
    parameter = next(stock.parameters())
    for training in (True, False):
        outlines = []
        for each in (stock, head):
            maps = [torch.rand(2, c, side, side + 1, generator=noise) for c, side in zip(channels, sides, strict=True)]
            outlines.append(_outline(deepcopy(each).train(training)([x.to(parameter) for x in maps])))
        if outlines[0] != outlines[1]:
            mode = "train" if training else "eval"
            raise ValueError(f"returned {outlines[1]} in {mode} mode; the stock head returns {outlines[0]}")


def _outline(output: Any) -> str:
    """Return structure and shapes of what a head returns, as a text."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, dict):
        output = {name: [len(value)] if name == "feats" else value for name, value in output.items()}  # for their sizes
        return "{" + ", ".join(f"{name}: {_outline(value)}" for name, value in sorted(output.items())) + "}"
    if isinstance(output, list | tuple):
        return "[" + ", ".join(map(_outline, output)) + "]"
    return str(output) if isinstance(output, int) else type(output).__name__


def facts_of_head(head: nn.Module, channels: Sequence[int]) -> dict[str, object]:
    """Return what a subclass of Detect may ask for by name, under the names of Ultralytics' constructor."""
    end2end = getattr(head, "one2one_cv2", None) is not None
    return {"nc": head.nc, "reg_max": head.reg_max, "end2end": end2end, "ch": tuple(channels)}


def _with_inputs(head: nn.Module, where: str, instead: str) -> Any:
    if isinstance(head, GraftedInputs):
        return head
    if type(head) not in _GRAFTED:
        raise GraftError(f"{where}: the head {type(head).__name__} is not supported{instead}")
    head.__class__ = _GRAFTED[type(head)]
    return head
