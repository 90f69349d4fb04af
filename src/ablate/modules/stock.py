"""The layer that a point replaces, by itself: controls of replacements.

`Stock` leaves the layer as it is, so a training must equal the baseline's to the last digit. `Reset` is the same layer
with weights that are drawn anew, as those of a new module are: beside it shows what a replacement costs that starts
without pretrained weights.

Status: no paper; a control. A scale that no layer draws (`gamma` of YOLO12's A2C2f, a constant at first) keeps its
value in `Reset`.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class Stock(nn.Module):
    """The replaced layer with its weights.

    Args:
        replaced: The layer, given by the place.
    """

    def __new__(cls, replaced: nn.Module) -> Any:
        """Return the layer."""
        return replaced


class Reset(nn.Module):
    """The replaced layer with weights drawn anew, as its layers draw them when they are made.

    Args:
        replaced: The layer, given by the place.
    """

    draws_anew = True  # it takes no weights of the layer that it replaces

    def __new__(cls, replaced: nn.Module) -> Any:
        """Return the layer."""
        for module in replaced.modules():
            own = list(module.parameters(recurse=False))
            draw = getattr(module, "reset_parameters", None)
            if callable(draw) and any(parameter.requires_grad for parameter in own):  # a constant stays, as in DFL
                draw()
        for name, child in list(replaced.named_children()):
            twin = getattr(replaced, f"one2one_{name}", None)
            if isinstance(twin, nn.Module):  # Detect's second branch starts as the first one
                twin.load_state_dict(child.state_dict())
        bias_init = getattr(replaced, "bias_init", None)
        if callable(bias_init):  # Detect's biases are not drawn
            bias_init()
        return replaced
