"""The audit finds planted copies of every kind, and calls no two distinct images the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from simulated.planted_copies import KINDS

from ablate.audit.run_audit import audit
from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.data.shapes import ShapesSpec, encode_label, picture
from ablate.records.audit_record import grouped

SPEC = ShapesSpec(imgsz=192)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawings in train, and one copy of each kind in val, named by its kind and its original."""
    folder = tmp_path_factory.mktemp("planted")
    random = np.random.default_rng(3)
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    for index in range(40):
        drawing = picture(SPEC, "train", index)
        cv2.imwrite(str(folder / f"images/train/{index:03d}.png"), drawing.pixels)
        (folder / f"labels/train/{index:03d}.txt").write_text(encode_label(drawing))
    for index, (kind, change) in enumerate(KINDS.items()):
        drawing = picture(SPEC, "train", index)
        name = f"{kind.replace(' ', '-')}_{index:03d}"
        changed = np.ascontiguousarray(change(drawing.pixels, random))
        cv2.imwrite(str(folder / f"images/val/{name}.jpg"), changed)
        (folder / f"labels/val/{name}.txt").write_text(encode_label(drawing))
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b, c, d, e, f, g, h]\n")
    return folder / "data.yaml"


def test_copies_of_every_kind_are_found_and_nothing_else(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_CACHE", str(planted.parent / "cache"))
    record = audit(resolve(DataSettings("custom", str(planted))))
    pairs = {(pair.first, pair.second) for pair in record.pairs}
    truth = {
        (f"images/train/{index:03d}.png", f"images/val/{kind.replace(' ', '-')}_{index:03d}.jpg")
        for index, kind in enumerate(KINDS)
    }
    assert pairs == truth
    assert set(grouped(record)) == {name for pair in truth for name in pair}
