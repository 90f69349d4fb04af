from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablate.data.shapes import encode_png


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder, and a place for Ultralytics' settings, of the test's own."""
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("YOLO_CONFIG_DIR", raising=False)
    return tmp_path / "cache"


def image_bytes(number: int, side: int = 32) -> bytes:
    """A PNG file; different numbers give different files."""
    return encode_png(np.full((side, side, 3), number % 256, dtype=np.uint8))


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Write a data set of two classes and return its data file; `labels` maps "train/0" to a label's text."""

    def make(
        folder: str = "set", labels: dict[str, str | None] | None = None, counts: tuple[int, int] = (3, 2), **extra: str
    ) -> Path:
        root = tmp_path / folder
        number = 0
        for split, count in zip(("train", "val"), counts, strict=True):
            (root / "images" / split).mkdir(parents=True)
            (root / "labels" / split).mkdir(parents=True)
            for index in range(count):
                number += 1
                (root / "images" / split / f"{index}.png").write_bytes(image_bytes(number))
                text = (labels or {}).get(f"{split}/{index}", f"{index % 2} 0.5 0.5 0.25 0.25\n")
                if text is not None:
                    (root / "labels" / split / f"{index}.txt").write_text(text)
        keys = {"train": "images/train", "val": "images/val", "names": "[cat, dog]", **extra}
        (root / "data.yaml").write_text("".join(f"{key}: {value}\n" for key, value in keys.items() if value))
        return root / "data.yaml"

    return make
