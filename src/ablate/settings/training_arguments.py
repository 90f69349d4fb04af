"""Every training argument of Ultralytics, in exactly one list: supported, harmless, owned elsewhere, or refused.

A test holds the lists against the installed Ultralytics' own default.yaml: a new version's new argument must be gone
through before it can be given. What each does was read in Ultralytics 8.4.190.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FRACTION = ">= 0 and <= 1"


@dataclass(frozen=True)
class Argument:
    """What an argument does, and which values it takes.

    Attributes:
        effect: What it does, in a few words.
        kind: "integer", "number", "flag", "choice", or "special": see `ablate.settings.argument_checks`.
        constraint: The range of a number, such as ``">= 0 and <= 1"``.
        choices: The values of a choice.
        optional: Whether it may be null.
    """

    effect: str
    kind: str
    constraint: str | None = None
    choices: tuple[Any, ...] = ()
    optional: bool = False


def _integer(effect: str, constraint: str) -> Argument:
    return Argument(effect, "integer", constraint)


def _number(effect: str, constraint: str | None = None, *, optional: bool = False) -> Argument:
    return Argument(effect, "number", constraint, optional=optional)


def _flag(effect: str, *, optional: bool = False) -> Argument:
    return Argument(effect, "flag", optional=optional)


def _choice(effect: str, *choices: Any, optional: bool = False) -> Argument:
    return Argument(effect, "choice", choices=choices, optional=optional)


SUPPORTED: dict[str, Argument] = {
    # how long, on what, how much at a time
    "epochs": _integer("passes over the training images", ">= 1"),
    "time": _number("hours to train; determines the number of epochs", "> 0", optional=True),
    "patience": _integer("early stopping after this many epochs without improvement; 0: never", ">= 0"),
    "batch": _integer("batch size; automatic sizes would differ between variants", ">= 1"),
    "nbs": _integer("nominal batch size: batches are accumulated up to it for an optimizer step", ">= 1"),
    "imgsz": _integer("side of the square image in pixels; rounded up to the network's stride", ">= 32 and <= 8192"),
    "multi_scale": _number("range of random image sizes, as a fraction of imgsz", FRACTION),
    "fraction": Argument("fraction or number of the training (and other) images", "special"),
    "single_cls": _flag("one class for all boxes"),
    "rect": _flag("batches of similar image shape, without mosaic, in fixed order"),
    "cache": _choice("where decoded images are cached", False, True, "ram", "disk"),
    "workers": _integer("processes that load images; none on a CPU", ">= 0"),
    # the network
    "freeze": Argument(
        "layers that are not trained: the first N, or a list of numbers and names", "special", optional=True
    ),
    "cls_remap": _flag("copies classifier rows of classes with the same name from the starting weights"),
    "amp": _choice("mixed precision", True, False, "fp16", "bf16", "fp32"),
    "compile": _choice("torch.compile", False, True, "default", "reduce-overhead", "max-autotune-no-cudagraphs"),
    "channels_last": _flag("memory format on CUDA; null: Ultralytics' choice", optional=True),
    "deterministic": _flag("deterministic algorithms; required for exact resuming"),
    # the loss
    "box": _number("weight of the box loss", ">= 0"),
    "cls": _number("weight of the class loss", ">= 0"),
    "cls_pw": _number("exponent of the inverse class frequency used as class weight", FRACTION),
    "dfl": _number("weight of the distance loss", ">= 0"),
    # augmentation
    "hsv_h": _number("random hue", FRACTION),
    "hsv_s": _number("random saturation", FRACTION),
    "hsv_v": _number("random brightness", FRACTION),
    "degrees": _number("random rotation", ">= -180 and <= 180"),
    "translate": _number("random translation", FRACTION),
    "scale": Argument("random scale: a gain, or minimum and maximum", "special"),
    "shear": _number("random shear in degrees", ">= -180 and <= 180"),
    "perspective": _number("random perspective", ">= 0 and <= 0.001"),
    "flipud": _number("probability of a vertical flip", FRACTION),
    "fliplr": _number("probability of a horizontal flip", FRACTION),
    "bgr": _number("probability of swapped colours", FRACTION),
    "mosaic": _number("probability of a mosaic of four images", FRACTION),
    "mixup": _number("probability of mixing two images", FRACTION),
    "cutmix": _number("probability of pasting a patch of another image", FRACTION),
    "copy_paste": _number("fraction of objects that are pasted again; needs polygon labels", FRACTION),
    "copy_paste_mode": _choice("where pasted objects come from", "flip", "mixup"),
    "close_mosaic": _integer("last epochs without mosaic, mixup, cutmix and copy_paste", ">= 0"),
    # the evaluation
    "val": _flag("evaluates every epoch and selects the best one; false: only the last one"),
    "split": _choice("split that is evaluated", "val", "test", "train"),
    "conf": _number("minimum confidence of a detection; null: 0.001", FRACTION, optional=True),
    "iou": _number("IoU threshold of non-maximum suppression", FRACTION),
    "max_det": _integer("maximum number of detections in an image", ">= 1"),
    "agnostic_nms": _flag("non-maximum suppression across classes"),
    "nms": _choice("false: the head without non-maximum suppression is evaluated", False, optional=True),
}

# No effect on what is trained and evaluated.
HARMLESS: dict[str, Argument] = {
    "plots": _flag("draws plots during training"),
    "save_period": _integer("epochs between additional checkpoints, which ablate does not use; below 1: none", ">= -1"),
    "verbose": _flag("prints more"),
}

# What another part of the configuration says: `train.<arg>` would contradict it.
OWNED: dict[str, str] = {
    "cfg": "train.<arg>",
    "cos_lr": "optimizer.cos_lr",
    "data": "data=<name> or data.path",
    "device": "device",
    "exist_ok": "root",
    "lr0": "optimizer.lr0",
    "lrf": "optimizer.lrf",
    "mode": "the command",
    "model": "model=<name>",
    "momentum": "optimizer.momentum",
    "name": "sweep",
    "optimizer": "optimizer=<name>",
    "pretrained": "model.weights",
    "project": "root",
    "resume": "the same command once more",
    "save": "nothing: checkpoints are always kept",
    "seed": "seed",
    "task": "detection only",
    "warmup_bias_lr": "optimizer.warmup_bias_lr",
    "warmup_epochs": "optimizer.warmup_epochs",
    "warmup_momentum": "optimizer.warmup_momentum",
    "weight_decay": "optimizer.weight_decay",
}

_PREDICTION = "it is for prediction and has no effect on training"
_EXPORT = "it is for export and has no effect on training"


def _task(name: str) -> str:
    return f"it is for {name} and has no effect on training a detector"


# Any value but Ultralytics' default is refused, because of this.
REFUSED: dict[str, str] = {
    "distill_model": "the network would be trained inside another one, whose checkpoint can be neither resumed nor "
    "compared",
    "dis": "it belongs to distill_model, which is refused",
    "quantize": "training for 8 bits changes the network's layers, so checkpoints cannot be resumed; 16 and 32 "
    "have no effect on training",
    "classes": "boxes of other classes would be dropped after the record has counted them; remove them from the labels",
    "augment": "accuracy refers to one pass over each image",
    "save_json": "on COCO it replaces Ultralytics' accuracy by that of another library",
    "save_txt": "all detections are stored already (train/evidence/)",
    "save_conf": "it belongs to save_txt, which is refused",
    "visualize": "it has no effect on training; the report draws detections",
    "profile": "it has no effect on training; `ablate latency` measures latency",
    "dnn": _EXPORT,
    "format": _EXPORT,
    "optimize": _EXPORT,
    "dynamic": _EXPORT,
    "simplify": _EXPORT,
    "opset": _EXPORT,
    "workspace": _EXPORT,
    "source": _PREDICTION,
    "vid_stride": _PREDICTION,
    "stream_buffer": _PREDICTION,
    "retina_masks": _PREDICTION,
    "embed": _PREDICTION,
    "show": _PREDICTION,
    "save_frames": _PREDICTION,
    "save_crop": _PREDICTION,
    "show_labels": _PREDICTION,
    "show_conf": _PREDICTION,
    "show_boxes": _PREDICTION,
    "line_width": _PREDICTION,
    "tracker": "it is for tracking and has no effect on training",
    "overlap_mask": _task("segmentation"),
    "mask_ratio": _task("segmentation"),
    "dropout": _task("classification"),
    "auto_augment": _task("classification"),
    "erasing": _task("classification"),
    "pose": _task("pose estimation"),
    "kobj": _task("pose estimation"),
    "rle": _task("pose estimation"),
    "angle": _task("oriented boxes"),
    "dlog": _task("depth estimation"),
    "dgrad": _task("depth estimation"),
    "dlam": _task("depth estimation"),
}
