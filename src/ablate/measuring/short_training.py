"""A training that is ended from within as soon as enough of it was measured."""

from __future__ import annotations

from contextlib import suppress
from typing import Any


class Enough(Exception):
    """Ends a training: enough was measured. Raised by a callback of the trainer."""


def train_until_enough(trainer: Any) -> None:
    """Train until a callback raises `Enough`; then end the processes that load images.

    Raises:
        Exception: Whatever else ends the training early.
    """
    try:
        with suppress(Enough):
            trainer.train()
    finally:
        for name in ("train_loader", "test_loader"):
            close = getattr(getattr(trainer, name, None), "close", None)
            if close is not None:
                close()
