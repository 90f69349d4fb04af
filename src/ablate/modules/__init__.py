"""Attention modules, one paper a file, and two controls: (B, C, H, W) in, (B, C, H, W) out.

The names below are imported on first use, so that a configuration can be checked without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.modules.acmix import ACmix as ACmix
    from ablate.modules.convblock import ConvBlock as ConvBlock
    from ablate.modules.hat import HAB as HAB
    from ablate.modules.hat import OCAB as OCAB
    from ablate.modules.hat import RHAG as RHAG
    from ablate.modules.hmha import HMHA as HMHA
    from ablate.modules.identity import Identity as Identity
    from ablate.modules.sta import StokenAttention as StokenAttention

_HOME = {
    "ACmix": "acmix",
    "ConvBlock": "convblock",
    "HAB": "hat",
    "HMHA": "hmha",
    "Identity": "identity",
    "OCAB": "hat",
    "RHAG": "hat",
    "StokenAttention": "sta",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
