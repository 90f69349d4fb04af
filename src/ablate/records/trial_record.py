"""A trial's record, `result.json`: what it was, how it ended, and all that was measured."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from ablate.records.graft_report import GraftReport
from ablate.records.json_struct import ABSENT, JsonObject, JsonStruct, JsonValue, from_json, to_json, written
from ablate.records.metrics import ClassMetrics, EpochRow, Metrics
from ablate.records.realised import Box, Realised
from ablate.records.replicate import Replicate
from ablate.storage.layout import LOG
from ablate.storage.plain_values import Plain

SCHEMA: Final = 1
SHORT: Final = 12  # hex digits of a signature that are shown to people
FINISHED, FAILED, DAMAGED = "finished", "failed", "damaged"


Detection = tuple[int, float, float, float, float, float]  # class, confidence, corners in pixels


class DataSummary(JsonStruct, frozen=True, kw_only=True):
    """The data set of a trial, as it was when the trial began.

    Attributes:
        name: Its name.
        classes: Names of its classes, by index.
        images, instances: By split.
        warnings: What is odd in it, in words.
        fingerprint: Hash of every image and label.
        root: The folder of its data file.
    """

    name: str
    classes: tuple[str, ...]
    images: dict[str, int]
    instances: dict[str, int]
    warnings: tuple[str, ...] = ABSENT
    fingerprint: str | None = None
    root: str | None = None


class Cost(JsonStruct, frozen=True, kw_only=True):
    """What a network costs, and its training did.

    Attributes:
        params: Parameters as deployed.
        params_added: Those of them that grafts brought.
        params_train: Parameters as trained.
        gflops: 1e9 floating-point operations for an image, as deployed.
        gflops_uncounted: Those of them that modules declare.
        gflops_ultralytics: Ultralytics' own figure; None where it fails.
        train_minutes: All epochs together.
        seconds_per_epoch: Median over the epochs.
        peak_memory_gb: Of the training.
        energy_kwh: Of the training's GPUs; None where it is not known.
    """

    params: int | None = None
    params_added: int | None = None
    params_train: int | None = None
    gflops: float | None = None
    gflops_uncounted: float | None = None
    gflops_ultralytics: float | None = written(None)
    train_minutes: float | None = None
    seconds_per_epoch: float | None = None
    peak_memory_gb: float | None = written(None)
    energy_kwh: float | None = written(None)


class Sample(JsonStruct, frozen=True, kw_only=True):
    """A validation image with its true boxes and what the trained network sees; pixels of the image shown.

    Attributes:
        image: The copy, relative to the trial's folder.
        source: The image of the data set.
        width, height: Of the image, pixels.
        truth: Class and corners x1, y1, x2, y2.
        predictions: Class, confidence and corners.
    """

    image: str
    source: str | None = None
    width: int
    height: int
    truth: tuple[Box, ...]
    predictions: tuple[Detection, ...]


class Artifacts(JsonStruct, frozen=True, kw_only=True):
    """Files of a trial, relative to its folder.

    Attributes:
        best: The checkpoint that counts.
        predictions: On every image, by checkpoint ("best", "last"); in the file "evidence".
        plots: Ultralytics' pictures.
        log: What the training printed.
    """

    best: str | None = None
    predictions: dict[str, str] = msgspec.field(default_factory=dict, name="evidence")
    plots: tuple[str, ...] = ABSENT
    log: str | None = None


class InputHashes(JsonStruct, frozen=True, kw_only=True):
    """Hashes of what a trial is made from.

    Attributes:
        data: Fingerprint of the data set.
        weights: SHA-256 of the starting weights; None without any.
        architecture: SHA-256 of the network's yaml, or the name of one that Ultralytics ships.
        sources: Hash of the source by class, for the class of each graft and for those that they are matched with.
    """

    data: str
    weights: str | None
    architecture: str
    sources: dict[str, str]


class Failure(JsonStruct, frozen=True, kw_only=True):
    """How a trial failed.

    Attributes:
        type: One of `ablate.records.failures.TYPES`.
        message: One line.
        log: Name of the log in the trial's folder.
        transient: Whether the machine was at fault in that moment.
        intact: Whether the training so far is sound, so that it can be continued.
        tail: The last lines of the log.
    """

    type: str
    message: str
    log: str = written(LOG)
    transient: bool = written(False)
    intact: bool = written(False)
    tail: tuple[str, ...] = ABSENT


class Try(JsonStruct, frozen=True, kw_only=True):
    """A start of a trial.

    Attributes:
        started: ISO time.
        host, pid, device: Where.
        epochs_done: From how many epochs it went on; older versions did not count.
        note: What was odd.
    """

    started: str
    host: str
    pid: int
    device: str
    epochs_done: int | None = None
    note: str | None = None


class TryList(JsonStruct, frozen=True, kw_only=True):
    """All starts of a trial: `tries.json`."""

    signature: str | None = None
    tries: tuple[Try, ...] = ABSENT


class TrialHeader(JsonStruct, frozen=True, kw_only=True):
    """What is known of a trial before it runs.

    Attributes:
        schema: Version of the record's form.
        signature, name, variant, variant_key, comparison_key, factors, seed, fold: Of
            `ablate.settings.signature.Identity`.
        config: The settled configuration, without accounts.
        data: Its data set.
    """

    schema: int = written(SCHEMA)
    signature: str
    name: str
    variant: str
    variant_key: str
    comparison_key: str
    factors: dict[str, str]
    seed: int
    config: Plain
    data: DataSummary | None = None
    fold: int | None = None

    @property
    def replicate(self) -> Replicate:
        """Which repetition of its variant it is."""
        return Replicate(self.seed, self.fold)

    def setting(self, *path: str) -> JsonValue:
        """Return the setting at a path of keys, such as ``train, imgsz``; None where the configuration has none."""
        value: JsonValue = self.config
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value


NO_METRICS: Final = Metrics()


class TrialRecord(TrialHeader, frozen=True, kw_only=True):
    """A trial that has ended.

    Attributes:
        status: "finished" or "failed".
        failure: Of a failed trial.
        metrics, metrics_last: Of the best checkpoint and of the last epoch's.
        per_class, per_class_last: The same for each class, by index.
        history: Each epoch.
        cost, graft, realised, samples, artifacts: Of a finished trial.
        inputs: What it was made from.
        started, finished: ISO times.
        tries: Its starts.
    """

    status: str
    failure: Failure | None
    metrics: Metrics
    metrics_last: Metrics = Metrics()
    per_class: tuple[ClassMetrics, ...] = ABSENT
    per_class_last: tuple[ClassMetrics, ...] = ABSENT
    history: tuple[EpochRow, ...] = ABSENT
    cost: Cost = Cost()
    graft: GraftReport = GraftReport()
    realised: Realised = Realised()
    samples: tuple[Sample, ...] = ABSENT
    artifacts: Artifacts = Artifacts()
    inputs: InputHashes | None = None
    started: str | None = None
    finished: str | None = None
    tries: tuple[Try, ...] = ABSENT

    @property
    def is_ours(self) -> bool:
        """Whether this version knows the form that it was recorded in."""
        return self.schema == SCHEMA

    @property
    def form(self) -> str:
        """In which form it was recorded, in words, where this version does not know it; empty where it does."""
        return "" if self.is_ours else f"has schema {self.schema}; this version knows {SCHEMA}"


class DamagedTrial(JsonStruct, frozen=True, kw_only=True):
    """A trial whose record cannot be read: its identity as far as it can be read, never its measurements.

    Attributes:
        failure: Of type "damaged"; the message describes the damage.
        status: "damaged".
    """

    signature: str
    failure: Failure
    name: str = ""
    variant: str = ""
    variant_key: str = ""
    comparison_key: str = ""
    factors: dict[str, str] = msgspec.field(default_factory=dict)
    seed: int | None = None
    status: str = DAMAGED
    fold: int | None = None


Record: TypeAlias = TrialRecord | DamagedTrial


def short(signature: object) -> str:
    """First hex digits of a signature, enough to find it."""
    return str(signature or "")[:SHORT]


def decode_record(content: JsonObject) -> TrialRecord:
    """Return the record that a JSON object holds.

    Of one in another version's form only who it is and how it ended is taken.

    Raises:
        ValueError: It is not what a record is; one line says where.
    """
    schema = content.get("schema", SCHEMA)
    if isinstance(schema, int) and schema != SCHEMA:
        names = (*TrialHeader.__struct_fields__, "status")
        content = {name: value for name, value in content.items() if name in names and name != "data"}
        ended = content.get("status") == FINISHED
        content |= {"failure": None if ended else {"type": "code", "message": f"schema {schema}"}, "metrics": {}}
    return from_json(content, TrialRecord)


def encode_record(record: TrialRecord) -> JsonObject:
    """Return a record as the JSON object that its file holds."""
    content: JsonObject = to_json(record)
    if record.metrics == NO_METRICS:
        content["metrics"] = {}  # not a null for each
    return content


def damaged_trial(signature: str, reason: str, salvaged: JsonObject) -> DamagedTrial:
    """Return what stands for a record that cannot be read.

    Args:
        signature: Its folder's.
        reason: What is wrong with the file, such as ``is not complete JSON (300 bytes)``.
        salvaged: Fields of it that can be read.
    """

    def text(name: str) -> str:
        value = salvaged.get(name)
        return value if isinstance(value, str) else ""

    def number(name: str) -> int | None:
        value = salvaged.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    factors = salvaged.get("factors")
    return DamagedTrial(
        signature=signature,
        failure=Failure(type=DAMAGED, message=f"result.json {reason}"),
        name=text("name"),
        variant=text("variant") or f"unreadable {short(signature)}",
        variant_key=text("variant_key") or signature,
        comparison_key=text("comparison_key"),
        factors={k: v for k, v in factors.items() if isinstance(v, str)} if isinstance(factors, dict) else {},
        seed=number("seed"),
        fold=number("fold"),
    )
