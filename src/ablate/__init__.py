"""Ablation studies of attention modules in YOLO26.

In Python, `ablate.load_sweep(path)` reads the results of a sweep and `ablate.load(path)` a trained network
(docs/python-api.md). Importing this package is cheap: pandas and all else that is heavy is imported on first use, and
torch, Ultralytics and MLflow never for results.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.python_api import FigureResult, SweepResults, VariantResults, load_sweep, markdown_literal
    from ablate.training.grafted_model import GraftedTrainer
    from ablate.training.load import load

__version__ = "0.1.0"
__all__ = [
    "FigureResult",
    "GraftedTrainer",
    "SweepResults",
    "VariantResults",
    "__version__",
    "load",
    "load_sweep",
    "markdown_literal",
]

_NETWORKS = {"load": "ablate.training.load", "GraftedTrainer": "ablate.training.grafted_model"}  # these import torch


def __dir__() -> list[str]:
    return __all__  # tab completion, before anything is imported


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(_NETWORKS.get(name, "ablate.python_api")), name)
    raise AttributeError(f"module 'ablate' has no attribute {name!r}")
