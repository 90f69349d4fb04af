"""Predictions of an evaluation: real images and networks, with detections good enough to count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from ablate.evaluation.average_precision import ultralytics_ap
from ablate.records.loading import DamagedRecordError
from ablate.records.predictions import load_predictions, save_predictions
from ablate.training.validator import PredictionsValidator

SIZES = [(96, 64), (64, 96), (80, 80), (33, 97), (64, 64), (120, 50)]


class Seeing(PredictionsValidator):
    """Puts detections near what is there beside those of an untrained network, whose own hit nothing."""

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: dict[str, Any]) -> None:
        random = torch.Generator().manual_seed(int(batch["batch_idx"].sum()) + len(preds))
        for index, found in enumerate(preds):
            truth = self._prepare_batch(index, batch)
            near = truth["bboxes"].repeat(3, 1)
            near = near + torch.randn(near.shape, generator=random) * 2
            found["bboxes"] = torch.cat([near, found["bboxes"]])
            found["cls"] = torch.cat([truth["cls"].repeat(3), found["cls"]])
            found["conf"] = torch.cat([torch.rand(len(near), generator=random).round(decimals=1), found["conf"]])
            order = found["conf"].argsort(descending=True)
            preds[index] = {name: value[order] for name, value in found.items() if name != "extra"}
        super().update_metrics(preds, batch)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are not square, one of them without objects."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for number, size in enumerate(SIZES):
        Image.fromarray(random.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(
            root / "images" / "val" / f"{number}.png"
        )
        count = 0 if number == 4 else 4
        boxes = np.c_[
            random.integers(0, 3, count), random.uniform(0.3, 0.7, (count, 2)), random.uniform(0.2, 0.5, (count, 2))
        ]
        np.savetxt(root / "labels" / "val" / f"{number}.txt", boxes, fmt="%.6f")
    file = root / "data.yaml"
    content = {"path": str(root), "train": "images/val", "val": "images/val", "names": {0: "a", 1: "b", 2: "c", 3: "d"}}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def evaluated(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Seeing, dict[str, Any]]:
    return evaluate(data, tmp_path_factory.mktemp("val"))


def evaluate(data: Path, folder: Path) -> tuple[Seeing, dict[str, Any]]:
    arguments = {"data": str(data), "imgsz": 96, "batch": 4, "device": "cpu", "plots": False, "mode": "val"}
    validator = Seeing(save_dir=folder, args=arguments)
    torch.manual_seed(0)
    network = DetectionModel("yolo26n.yaml", nc=4, verbose=False)
    network.names = {0: "a", 1: "b", 2: "c", 3: "d"}
    network.args = {"imgsz": 96}
    torch.save({"model": network}, folder / "network.pt")
    return validator, validator(model=str(folder / "network.pt"))


def test_it_says_again_what_ultralytics_said(evaluated: tuple[Seeing, dict[str, Any]], tmp_path: Path) -> None:
    validator, stats = evaluated
    assert validator.predictions is not None
    save_predictions(tmp_path / "best.npz", validator.predictions)
    predictions = load_predictions(tmp_path / "best.npz")

    found = ultralytics_ap(predictions)
    assert 0.1 < found.map50_95 < 0.9
    assert found.map50_95 == pytest.approx(stats["metrics/mAP50-95(B)"], abs=1e-9)
    assert found.map50 == pytest.approx(stats["metrics/mAP50(B)"], abs=1e-9)
    assert found.map75 == pytest.approx(validator.metrics.box.map75, abs=1e-9)
    np.testing.assert_allclose(found.ap, validator.metrics.box.all_ap, rtol=0, atol=1e-9)


def test_boxes_are_those_of_the_original_images(evaluated: tuple[Seeing, dict[str, Any]], data: Path) -> None:
    predictions = evaluated[0].predictions
    assert predictions is not None
    assert sorted(predictions.names) == [f"images/val/{number}.png" for number in range(len(SIZES))]
    _, truth = predictions.pixels()
    for image, (name, size) in enumerate(zip(predictions.names, predictions.sizes, strict=True)):
        number = int(Path(name).stem)
        assert tuple(size) == SIZES[number]
        text = (data.parent / "labels" / "val" / f"{number}.txt").read_text(encoding="utf-8")
        label = np.array([line.split() for line in text.splitlines()], dtype=float).reshape(-1, 5)
        mine = truth[predictions.true_image == image]
        assert len(mine) == len(label)
        centre, half = label[:, 1:3] * size, label[:, 3:5] * size / 2
        theirs = np.clip(np.c_[centre - half, centre + half], 0, np.tile(size, 2))
        np.testing.assert_allclose(mine[np.lexsort(mine.T)], theirs[np.lexsort(theirs.T)], atol=0.02)


def test_images_outside_of_the_data_sets_folder_are_named_wherever_they_lie(data: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    content = {**yaml.safe_load(data.read_text(encoding="utf-8")), "path": str(tmp_path / "set")}
    images = str(data.parent / "images" / "val")
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({**content, "train": images, "val": images}), encoding="utf-8")
    predictions = evaluate(file, tmp_path)[0].predictions

    assert predictions is not None
    assert sorted(predictions.names) == [f"val/{number}.png" for number in range(len(SIZES))]


def test_equal_confidences_are_told_apart_without_changing_them(evaluated: tuple[Seeing, dict[str, Any]]) -> None:
    predictions = evaluated[0].predictions
    assert predictions is not None
    assert (
        len(np.unique(predictions.conf.astype(np.float32))) < len(predictions.conf) == len(np.unique(predictions.conf))
    )


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "schema", "shape", "index"])
def test_a_damaged_file_is_said_to_be_one(
    evaluated: tuple[Seeing, dict[str, Any]], tmp_path: Path, damage: str
) -> None:
    assert evaluated[0].predictions is not None
    path = tmp_path / "trial" / "best.npz"
    save_predictions(path, evaluated[0].predictions)
    whole = path.read_bytes()
    if damage in ("schema", "shape", "index"):
        with np.load(path) as file:
            fields = {name: file[name] for name in file.files}
        wrong = {"schema": np.array(9), "shape": fields["box"][:-1], "index": fields["image"] + 100}[damage]
        np.savez_compressed(path, **{**fields, {"shape": "box", "index": "image"}.get(damage, damage): wrong})
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(DamagedRecordError, match=r"trial/best\.npz"):
        load_predictions(path)
    with pytest.raises(FileNotFoundError):
        load_predictions(tmp_path / "none.npz")
