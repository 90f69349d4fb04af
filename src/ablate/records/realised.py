"""What a training really was: the recipe that it came to, its data, its code and the machine.

The trainer writes a `TrainingReport` (`train/realised.json`); its recipe goes into the trial's record as `Realised`.
"""

from __future__ import annotations

import msgspec

from ablate.records.graft_report import GraftReport
from ablate.records.json_struct import ABSENT, JsonStruct, written
from ablate.records.loss_report import LossReport
from ablate.records.metrics import ClassMetrics, Metrics

Box = tuple[int, float, float, float, float]  # class and four numbers


class Weights(JsonStruct, frozen=True, kw_only=True):
    """Starting weights.

    Attributes:
        source: The checkpoint as the configuration names it; None for random weights.
        expected: Tensors of the stock network.
        transferred: Those of them that came from the checkpoint.
        missing: Names of the others.
        sha256: Of the checkpoint.
    """

    source: str | None = written(None)
    expected: int | None = None
    transferred: int | None = None
    missing: tuple[str, ...] = ABSENT
    sha256: str | None = written(None)


class Trainable(JsonStruct, frozen=True, kw_only=True):
    """Parameters (numbers, not tensors) of the network and of its grafts, and how many of each are trained."""

    parameters: int
    trained: int
    graft_parameters: int
    graft_trained: int


class ImageCounts(JsonStruct, frozen=True, kw_only=True):
    """Images and boxes of a training, by split ("train", "val")."""

    images: dict[str, int]
    instances: dict[str, int]


class Halves(JsonStruct, frozen=True, kw_only=True):
    """Two halves of the evaluated images, on each of which `judge=split` judges epochs chosen on the other.

    Attributes:
        digest: Hash of which image is in which half.
        images: In each half.
        lacking: Indices of the classes of which a half has no object and the other one has, for each half.
        divided: Groups of several images with images in both halves; None where no groups were known.
    """

    digest: str
    images: tuple[int, int]
    lacking: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    divided: int | None = None


class Git(JsonStruct, frozen=True, kw_only=True):
    """The commit of the working folder's repository, and whether files differed from it; None outside of one."""

    commit: str | None = None
    dirty: bool | None = None


class Recipe(JsonStruct, frozen=True, kw_only=True):
    """How a network was trained, as Ultralytics' trainer has it at the end.

    Attributes:
        signature: Of the trial.
        code: SHA-256 of what of ablate can change a result.
        batch, amp, lr0, imgsz, workers: Ultralytics' arguments as they were in the end.
        compiled: Whether torch.compile took the network.
        epochs: Epochs that were trained.
        epochs_asked: Epochs that were to be trained; None where a time limit decides.
        stopped_by: "epochs", "patience" or "time".
        early_stop: Whether patience ended it.
        hours_asked: The time limit, where there is one.
        last_epoch_batches: With a time limit: batches that the last epoch trained, and those of a whole one.
        oom_retries: How often Ultralytics halved the batch.
        optimizer: Name of its class.
        orthogonalise: Arithmetic of MuSGD's steps; None for another optimizer.
        accumulate: Batches whose gradients make a step, at the end of the training.
        gpus: On how many GPUs it was trained at once, 0 on a processor; None in older records.
        device: As torch names it.
        threads: Of the processor, those that most epochs had.
        threads_by_epoch: First epoch and number of threads, for each change; None on a GPU.
        resumed: How often the training was continued.
        resume_exact: Whether it was continued exactly each time; None where it never was.
        losses: Those that were not the stock network's own.
        images, instances: Used, by split.
        halves: Of the evaluated images; None in older records.
        group_halves: The same with whole groups of images in one half; None where no groups were known.
    """

    signature: str | None = written(None)
    code: str | None = None
    batch: int | None = None
    amp: bool | None = None
    compiled: bool | None = None
    epochs: int | None = None
    epochs_asked: int | None = written(None)
    stopped_by: str | None = None
    early_stop: bool | None = None
    hours_asked: float | None = None
    last_epoch_batches: tuple[int | None, int] | None = None
    oom_retries: int | None = None
    optimizer: str | None = None
    orthogonalise: str | None = written(None)
    lr0: float | None = None
    imgsz: int | None = None
    accumulate: int | None = None
    gpus: int | None = None
    device: str | None = None
    threads: int | None = None
    threads_by_epoch: tuple[tuple[int, int], ...] | None = written(None)
    workers: int | None = None
    resumed: int | None = None
    resume_exact: bool | None = written(None)
    weights: Weights = Weights()
    trainable: Trainable | None = None
    losses: tuple[LossReport, ...] = ABSENT
    images: dict[str, int] = msgspec.field(default_factory=dict)
    instances: dict[str, int] = msgspec.field(default_factory=dict)
    halves: Halves | None = None
    group_halves: Halves | None = None


class Realised(Recipe, frozen=True, kw_only=True):
    """The training as its record describes it.

    Attributes:
        device_name: The device as its maker calls it.
        data_fingerprint: Of the data set.
        promised: Images and boxes that were to be used.
        versions: Version by package, and that of Python.
        git: Of the user's repository.
    """

    device_name: str | None = None
    data_fingerprint: str | None = None
    promised: ImageCounts | None = None
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    git: Git | None = None


class Evaluation(JsonStruct, frozen=True, kw_only=True):
    """One evaluated checkpoint, with the file of its predictions, relative to the training's folder."""

    metrics: Metrics
    per_class: tuple[ClassMetrics, ...]
    predictions: str = msgspec.field(default="", name="evidence")


class ParameterGroup(JsonStruct, frozen=True, kw_only=True):
    """A group of the optimizer: its treatment, and the names of its tensors."""

    group: str
    lr: float
    weight_decay: float
    orthogonalised: bool
    tensors: tuple[str, ...]


class SampleImage(JsonStruct, frozen=True, kw_only=True):
    """An image to show detections on: its file and its true boxes (class, x, y, w, h in parts of the image)."""

    path: str
    boxes: tuple[Box, ...] = ABSENT


class TrainingReport(Recipe, frozen=True, kw_only=True):
    """What the trainer leaves for the record: `train/realised.json`.

    Attributes:
        sources: Hash of the source that was imported, by dotted path of the class of a graft or loss; None for none.
        evaluations: Of the checkpoints "best" and "last".
        peak_memory_gb, energy_kwh: Of all parts of the training; None where it is not known.
        split: Whose images the evaluations are of.
        graft: What was grafted.
        parameter_groups: Of the optimizer.
        samples: Images to show detections on.
    """

    sources: dict[str, str | None]
    evaluations: dict[str, Evaluation]
    peak_memory_gb: float | None
    energy_kwh: float | None
    split: str
    graft: GraftReport
    parameter_groups: tuple[ParameterGroup, ...]
    samples: tuple[SampleImage, ...]

    @property
    def recipe(self) -> Recipe:
        """The part that the record keeps."""
        return msgspec.convert(self, Recipe, from_attributes=True)
