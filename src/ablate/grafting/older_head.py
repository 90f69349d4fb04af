"""Heads of forks that return what Detect of an older Ultralytics returned: a list of maps, boxes and classes in one.

Until 8.3, Detect returned in training one map (B, 4 reg_max + nc, H, W) a level; collections have copied that. Today's
loss and decoding take boxes and scores apart. The head itself is not changed: its maps are taken apart here.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect


class OlderHead(Detect):
    """Today's Detect, whose boxes and scores come from a head of the older kind.

    Args:
        older: The head.
        classes: Number of classes.
        reg_max: Bins of each distance, in its maps.
        channels: Of the maps that it reads.
        trained: Names of its tensors that are trained already.
    """

    def __init__(
        self, older: nn.Module, classes: int, reg_max: int, channels: list[int], trained: Collection[str] = ()
    ) -> None:
        super().__init__(classes, reg_max, False, channels)
        del self.cv2, self.cv3
        self.older = older
        self.trained = frozenset(trained)
        self.train(older.training)

    @property
    def one2many(self) -> dict[str, nn.Module]:
        """Return nothing: the head has its branches itself."""
        return {}

    def forward_head(self, x: list[Tensor], **_: Any) -> dict[str, Any]:
        """Return boxes (B, 4 reg_max, N), scores (B, nc, N) and the maps that the head reads."""
        maps = torch.cat([level.flatten(2) for level in self.older(list(x))], dim=-1)
        boxes = 4 * self.reg_max
        return {"boxes": maps[:, :boxes], "scores": maps[:, boxes:], "feats": x}

    def train(self, mode: bool = True) -> OlderHead:
        """Set the mode; the head itself always returns its maps, as it does in training."""
        super().train(mode)
        self.older.training = True
        return self

    def bias_init(self) -> None:
        """Set the first biases as the head does, but for what is trained already."""
        before = {name: it.clone() for name, it in self.older.state_dict().items() if name in self.trained}
        self.older.stride = self.stride
        with suppress(Exception):  # a head that has other branches starts with its own biases
            initialise: Any = getattr(self.older, "bias_init", lambda: None)
            initialise()
        self.older.load_state_dict({**self.older.state_dict(), **before})


def as_todays(head: nn.Module, read: list[Tensor], classes: int, trained: Collection[str]) -> nn.Module:
    """Return a head of the older kind as one of today, and any other head as it is.

    Args:
        head: The head, in evaluation mode.
        read: The maps that reach it.
        classes: Number of classes.
        trained: Names of its tensors that are trained already.
    """
    mode = head.training
    try:
        head.training = True  # only its own: its norms keep their statistics
        maps: Any = head([it.clone() for it in read])
    except Exception:  # whoever checks the head says what is wrong
        return head
    finally:
        head.training = mode
    reg_max = getattr(head, "reg_max", 16)
    wanted = [(4 * reg_max + classes, *it.shape[2:]) for it in read]
    if not isinstance(maps, list | tuple) or not all(isinstance(it, Tensor) for it in maps):
        return head
    if [tuple(it.shape[1:]) for it in maps] != wanted:
        return head
    adapted: nn.Module = OlderHead(head, classes, reg_max, [it.shape[1] for it in read], trained).eval()
    return adapted
