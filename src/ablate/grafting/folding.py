"""Fold the batch norms of replaced layers for inference, as Ultralytics folds those of its own classes.

Ultralytics' `fuse` knows its own layers only. A module that takes the place of one of them would keep a norm that the
stock layer has no more, and pay for it in parameters and time. A module says by a method `fold_norm` that it can fold
its norm.
"""

from __future__ import annotations

from torch import nn


def fold_norms(network: nn.Module) -> None:
    """Call `fold_norm` of every module that has it; the network must be in evaluation mode."""
    for module in list(network.modules()):
        fold = getattr(module, "fold_norm", None)
        if callable(fold):
            fold()
