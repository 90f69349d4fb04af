"""The name that checkpoints of `ablate` ask for.

It is the name under which the package is installed (`pip install ablate-yolo`). Where it is missing, that name stands
in the error, and it is what Ultralytics installs; on PyPI, `ablate` is another project.
"""

from __future__ import annotations

from typing import Any


def network(content: dict[str, Any]) -> Any:
    """Return the network that a checkpoint holds as plain values and tensors; called when one is loaded."""
    from ablate.training.grafted_model import from_checkpoint

    return from_checkpoint(content)
