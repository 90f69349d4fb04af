"""Predictions of a detector on every image of a split, from which its accuracy can be computed again exactly.

One compressed file per evaluated checkpoint, `evidence/<checkpoint>.npz` in the trial's folder. Only numpy is needed.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablate.records.checkpoint_origin import folder_signature
from ablate.records.loading import DamagedRecordError
from ablate.records.trial_record import TrialRecord, short
from ablate.storage.confined import inside, open_plain
from ablate.storage.files import atomic_write_bytes

SCHEMA = 1
LARGEST = 2**30  # bytes of all arrays; 5,000 images with 300 detections each take 40 million
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)  # the last two of an encrypted one
KINDS = dict.fromkeys(("image", "cls", "box", "true_image", "true_cls", "true_box", "sizes"), "iu") | {
    "names": "U", "thresholds": "f", "conf": "f", "hit": "b",
}  # fmt: skip
STEPS = 65535  # a box's corner is kept as a 16 bit fraction of its image's side: to 0.01 pixels at 640


@dataclass(frozen=True)
class Predictions:
    """Detections and true objects of I images: N detections, T true objects, K thresholds of IoU.

    Detections stand in the order in which the detector gave them, image after image.

    Attributes:
        names: Name of each image, (I,), text. Sorted by nothing but the order of evaluation.
        sizes: Width and height of each image in pixels, (I, 2), int32.
        thresholds: IoU from which a detection counts, (K,), float64, rising.
        image: Index of the image of each detection, (N,), int32, not falling.
        cls: Class of each detection, (N,), int32.
        conf: Confidence of each detection, (N,), float64. No two are equal: Ultralytics ranks equal ones in some
            order, and later ones are lowered here by less than float32 can tell, so that its order is known.
        box: Corners x1, y1, x2, y2 of each detection, (N, 4), uint16, in `STEPS` of the image's width and height.
        hit: Whether each detection found a true object of its class at each threshold, (N, K), bool; as Ultralytics
            matches them.
        true_image, true_cls, true_box: The same of the true objects, (T,), (T,), (T, 4).
    """

    names: np.ndarray
    sizes: np.ndarray
    thresholds: np.ndarray
    image: np.ndarray
    cls: np.ndarray
    conf: np.ndarray
    box: np.ndarray
    hit: np.ndarray
    true_image: np.ndarray
    true_cls: np.ndarray
    true_box: np.ndarray

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes of the detections, (N, 4), and of the true objects, (T, 4), in pixels, float64."""
        scale = np.tile(self.sizes, 2) / STEPS
        return self.box * scale[self.image], self.true_box * scale[self.true_image]


def quantised(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Boxes in pixels, (n, 4), as `Predictions` keeps them: what lies outside of the image is cut off."""
    scale = STEPS / np.array([width, height, width, height], dtype=np.float64)
    steps = np.rint(np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale)
    return np.asarray(np.clip(np.nan_to_num(steps), 0, STEPS), dtype=np.uint16)


def ranked(conf: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Confidences that, sorted by falling value, stand in a given order whatever sorts them.

    Args:
        conf: Confidences, (N,), float32.
        order: Indices of `conf` by falling confidence, (N,), equal ones in the order to keep.

    Returns:
        Confidences, (N,), float64, all different, each within 1e-7 of its original.
    """
    falling = conf[order].astype(np.float64)
    position = np.arange(len(falling))
    first = np.maximum.accumulate(np.where(np.r_[True, falling[1:] != falling[:-1]], position, 0)) if len(conf) else 0
    distinct = np.empty(len(falling))
    distinct[order] = falling - (position - first) * 1e-12
    return distinct


def predictions_path(record: TrialRecord, folder: Path) -> Path | None:
    """Where the predictions are whose accuracy a trial has; None where its record names none in its folder."""
    name = record.artifacts.predictions.get(record.metrics.checkpoint or "best")
    return None if name is None else inside(folder, name)


def save_predictions(path: Path, predictions: Predictions, signature: str | None = None) -> None:
    """Write the predictions of a trial, whole or not at all. Raises OSError when the disk refuses."""
    fields = dict(vars(predictions))
    fields["hit"] = np.packbits(predictions.hit, axis=1)
    stream = io.BytesIO()
    np.savez_compressed(stream, schema=np.array(SCHEMA), signature=np.array(signature or ""), **fields)
    atomic_write_bytes(path, stream.getvalue())


def load_predictions(path: Path) -> Predictions:
    """Read predictions.

    Raises FileNotFoundError where there is none, DamagedRecordError where it is cut off, contradicts itself, is of
    another trial than the folder that it lies in, or of another version.
    """
    try:
        with open_plain(path) as opened, np.load(opened, allow_pickle=False) as file:
            _check_size(file.zip)
            fields: dict[str, np.ndarray] = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}") from None
    except OSError as error:
        raise DamagedRecordError(path, f"cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, EOFError, MemoryError, TypeError, *BROKEN_ZIP) as error:
        raise DamagedRecordError(path, f"is not complete ({type(error).__name__})") from None
    schema, signature = fields.pop("schema", None), str(fields.pop("signature", ""))
    folder = next(filter(None, map(folder_signature, path.absolute().parents)), signature)  # the trial's
    if signature and signature != folder:
        raise DamagedRecordError(path, f"is of trial {short(signature)}, not of the one in whose folder it lies")
    if schema is None or schema.ndim or int(schema) != SCHEMA:
        raise DamagedRecordError(path, f"has schema {schema}; this version knows {SCHEMA}")
    try:
        fields["hit"] = np.unpackbits(fields["hit"], axis=1, count=len(fields["thresholds"])).astype(bool)
        predictions = Predictions(**fields)
        _check(predictions)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DamagedRecordError(path, f"contradicts itself ({error})") from None
    return predictions


def _check_size(archive: zipfile.ZipFile) -> None:
    """Raise ValueError where a small file would fill the memory."""
    if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")


def _check(predictions: Predictions) -> None:
    """Raise ValueError where the arrays do not belong together, or hold something else than `Predictions` says."""
    for name, kinds in KINDS.items():
        if getattr(predictions, name).dtype.kind not in kinds:
            raise ValueError(f"{name} has values of type {getattr(predictions, name).dtype}")
    images, thresholds = len(predictions.names), len(predictions.thresholds)
    detections, objects = len(predictions.image), len(predictions.true_image)
    shapes = {
        "sizes": (images, 2), "cls": (detections,), "conf": (detections,), "box": (detections, 4),
        "hit": (detections, thresholds), "true_cls": (objects,), "true_box": (objects, 4),
    }  # fmt: skip
    for name, shape in shapes.items():
        if getattr(predictions, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(predictions, name).shape}, not {shape}")
    for name in ("image", "true_image"):
        index = getattr(predictions, name)
        if len(index) and not (index.min() >= 0 and index.max() < images):
            raise ValueError(f"{name} points outside of the images")
