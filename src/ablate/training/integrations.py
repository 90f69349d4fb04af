"""Ultralytics' integrations with other services, which a training of ours is without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ultralytics.utils import SETTINGS

# Ultralytics' integrations that a setting turns on. Two of them are on by default, and import MLflow and Ray.
INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


@contextmanager
def without_integrations() -> Iterator[None]:
    """Disable Ultralytics' integrations in this process while the block runs; the user's settings file is unchanged."""
    before = {name: SETTINGS[name] for name in INTEGRATIONS if name in SETTINGS}
    dict.update(SETTINGS, dict.fromkeys(before, False))  # SETTINGS.update would write the file
    try:
        yield
    finally:
        dict.update(SETTINGS, before)


def is_integration(function: Any) -> bool:
    """Tell whether a callback is one of an integration."""
    home = getattr(function, "__module__", "")
    return home.startswith("ultralytics.utils.") and home != "ultralytics.utils.callbacks.base"
