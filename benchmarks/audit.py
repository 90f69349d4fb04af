"""How many planted copies `ablate data audit` finds, by kind, and how many of its pairs are right.

`python benchmarks/audit.py DATA.yaml [--copies 60]`: a base of distinct images gets copies of each kind
(`simulated/planted_copies.py`), all in one data set. A pair is right where both images come from one original, wrong
otherwise. `--known` names a file of pairs of the base that overlap, each looked at by a person: one of each leaves
the base. Without a data file the base are drawings (`data=shapes`), `--images` of them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import common
import cv2
import numpy as np
from simulated.planted_copies import KINDS

from ablate.audit.run_audit import audit
from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.data.datafile import read
from ablate.data.shapes import ShapesSpec, picture
from ablate.records.audit_record import AuditRecord

LABEL = "0 0.5 0.5 0.2 0.2\n"


def main() -> None:
    """Plant, audit, count, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, help="data file of the base")
    parser.add_argument("--images", type=int, default=400, help="drawings of a base without a data file")
    parser.add_argument("--copies", type=int, default=60, help="of each kind")
    parser.add_argument("--known", type=Path, help="JSON: pairs of names of the base that do show the same")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep the table in results/audit.jsonl")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABLATE_CACHE"] = f"{folder}/cache"
        base = _drawings(words.images) if words.data is None else _pictures(words.data)
        known = [] if words.known is None else json.loads(words.known.read_text(encoding="utf-8"))
        dropped = {second for _, second in known}
        base = {name: image for name, image in base.items() if name not in dropped}
        truth = _plant(Path(folder), base, words.copies, np.random.default_rng(words.seed))
        data = resolve(DataSettings("custom", f"{folder}/data.yaml"))
        started = time.perf_counter()
        record = audit(data)
        seconds = time.perf_counter() - started
    name = "shapes" if words.data is None else words.data.stem
    row = _row(name, record, truth, words.copies, seconds, len(dropped))
    if words.write:
        common.keep("audit", row)
    else:
        print(json.dumps(row))


def _pictures(path: Path) -> dict[str, np.ndarray]:
    file = read(str(path))
    images = [image for split in file.splits for image in file.images(split)]
    return {image.path.stem: cv2.imread(str(image.path)) for image in images}


def _drawings(number: int) -> dict[str, np.ndarray]:
    spec = ShapesSpec(imgsz=320)
    return {f"drawing{index}": picture(spec, "train", index).pixels for index in range(number)}


def _plant(
    folder: Path, base: dict[str, np.ndarray], copies: int, random: np.random.Generator
) -> dict[str, tuple[str, str]]:
    """Write a data set with copies; return the kind and the original of each image by its name."""
    truth = {}
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    for name, image in base.items():
        _write(folder, "train", name, image, 95)
        truth[name] = ("", name)
    names = list(base)
    for kind, change in KINDS.items():
        for number, place in enumerate(random.choice(len(names), copies, replace=copies > len(names))):
            copy = f"{kind.replace(' ', '-')}-x{number}x"
            _write(folder, "val", copy, np.ascontiguousarray(change(base[names[place]], random)), 90)
            truth[copy] = (kind, names[place])
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    return truth


def _write(folder: Path, split: str, name: str, image: np.ndarray, quality: int) -> None:
    cv2.imwrite(str(folder / f"images/{split}/{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / f"labels/{split}/{name}.txt").write_text(LABEL)


def _row(
    name: str, record: AuditRecord, truth: dict[str, tuple[str, str]], copies: int, seconds: float, dropped: int
) -> dict[str, object]:
    """Recall by kind: the copy is paired with its original; precision: both of a pair come from one original."""
    recalled: Counter[str] = Counter()
    wrong = []
    for pair in record.pairs:
        first, second = Path(pair.first).stem, Path(pair.second).stem
        if truth[first][1] != truth[second][1]:
            measured = (pair.overlap, pair.correlation, pair.agreement)
            wrong.append((first, truth[first], second, truth[second], *measured))
        elif not truth[first][0] and truth[second][0]:
            recalled[truth[second][0]] += 1
    planted = copies * len(KINDS)
    return {
        "base": name,
        "distinct_images": sum(1 for kind, _ in truth.values() if not kind),
        "left_out_of_base": dropped,
        "copies_of_each_kind": copies,
        "recall": {kind: round(recalled[kind] / copies, 4) for kind in KINDS},
        "recall_of_all": round(sum(recalled.values()) / planted, 4),
        "pairs": len(record.pairs),
        "precision": round(1 - len(wrong) / max(len(record.pairs), 1), 4),
        "wrong": wrong[:30],
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
