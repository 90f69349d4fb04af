"""Attention modules, one paper a file, and two controls: (B, C, H, W) in, (B, C, H, W) out.

`from ablate.modules import HMHA` finds a class in the file of this folder that defines it, and imports that file only:
a configuration can be checked without importing torch.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

_CLASS = re.compile(r"^class ([A-Za-z]\w*)", re.MULTILINE)


def _homes() -> dict[str, str]:
    """Return the file that defines each class, by its name; of two classes of one name the first file's."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"), reverse=True)
    return {name: file.stem for file in files for name in _CLASS.findall(file.read_text(encoding="utf-8"))}


def __getattr__(name: str) -> Any:
    home = None if name.startswith("_") else _homes().get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_homes()])
