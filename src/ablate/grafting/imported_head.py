"""The head of an imported network: its strides, its first biases, and whether loss and metrics can read its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect

from ablate.grafting.insertion import GraftError

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


def finish_head(network: DetectionModel, head: nn.Module, read: Sequence[Tensor], image: int, *, moved: bool) -> None:
    """Give the head its strides, as Ultralytics does when it builds a network; a new one the biases of a new one.

    Args:
        network: The network that it becomes the head of; its old head is there still.
        head: The head, in evaluation mode.
        read: The maps that reach it for one image.
        image: Side of that image, pixels.
        moved: Whether it is the head of the stock network, whose biases are trained.

    Raises:
        GraftError: It is no head that ablate trains.
    """
    name = type(head).__name__
    if not isinstance(head, Detect):
        raise GraftError(
            f"its head {name} is no subclass of Ultralytics' Detect, and returns no maps of boxes and classes as that "
            "of an older version did"
        )
    strides = torch.tensor([image / it.shape[-2] for it in read])
    if not moved or head.stride.tolist() != strides.tolist():
        head.stride = strides
    network.stride = head.stride
    if not moved:
        head.inplace = network.inplace
        shared = {
            key: it.clone() for key, it in head.state_dict().items() if _equals(network.model[-1].state_dict(), key, it)
        }
        head.bias_init()
        head.load_state_dict({**head.state_dict(), **shared})
        _check_training(deepcopy(head), read)


def takes(head: nn.Module, read: Sequence[Tensor]) -> bool:
    """Tell whether a head takes maps of these channels; it is not run, for it may keep what it has seen."""
    branches: Any = getattr(head, "cv2", ())
    try:
        firsts = [branch[0].conv.in_channels for branch in branches]
    except (AttributeError, TypeError, IndexError):
        return False
    return firsts == [it.shape[1] for it in read]


def _equals(state: dict[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in state and state[name].shape == tensor.shape and torch.equal(state[name], tensor)


def _check_training(head: Detect, read: Sequence[Tensor]) -> None:
    """Check that a head returns in training what Ultralytics' loss reads; its statistics are changed by it.

    Raises:
        GraftError: It raises, or returns something else.
    """
    name = type(head).__name__
    try:
        head.train()
        answer: Any = head([it.clone() for it in read])
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        shapes = ", ".join(str(tuple(it.shape)) for it in read)
        raise GraftError(f"its head {name} does not take {shapes}: {reason}") from error
    feats = answer.get("one2many", answer) if isinstance(answer, dict) else answer
    if not isinstance(feats, dict) or "feats" not in feats:
        raise GraftError(
            f"its head {name} returns {type(answer).__name__} in training; this version of Ultralytics takes a mapping "
            "with boxes, scores and feats, as its Detect returns it"
        )
