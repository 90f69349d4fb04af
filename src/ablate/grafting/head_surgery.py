"""Surgery on the head: grafts on its inputs, an adapter before it, another Detect in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect, v10Detect

from ablate.grafting.insertion import GraftError
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
    """
    set_norms(head)
    head.stride, head.inplace = stock.stride, stock.inplace
    if keep:
        head.bias_init()
        head.end2end = stock.end2end
    kept = keep_weights(head, stock) if keep else ()
    take_bookkeeping(head, stock)
    setattr(head, MARK, HeadMark(target, insertion, kept))
    return head


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
