"""Ablation studies of attention modules in YOLO26.

In Python, `ablate.load_sweep(path)` reads the results of a sweep (docs/python-api.md). Importing this package is
cheap: pandas and all else that is heavy is imported on first use, and torch, Ultralytics and MLflow never for results.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.python_api import FigureResult, SweepResults, VariantResults, load_sweep, markdown_literal

__version__ = "0.1.0"
__all__ = ["FigureResult", "SweepResults", "VariantResults", "__version__", "load_sweep", "markdown_literal"]


def __dir__() -> list[str]:
    return __all__  # tab completion, before anything is imported


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("ablate.python_api"), name)
    raise AttributeError(f"module 'ablate' has no attribute {name!r}")
