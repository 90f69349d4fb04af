"""A record in MLflow's terms: which of its parts become tags, parameters, metrics, inputs and files.

Pure: nothing here talks to a store, and MLflow is not imported.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from ablate import __version__
from ablate.records.class_names import ClassName, recorded_classes
from ablate.records.factor_levels import is_stock
from ablate.records.json_struct import finite_number, to_json
from ablate.records.machine_sample import MachineSample
from ablate.records.metrics import GROUP_HALVES, HALVES, EpochRow
from ablate.records.trial_record import Failure, TrialHeader, TrialRecord, short
from ablate.report.markdown_text import code_block, inline
from ablate.safe_text import one_line
from ablate.storage.confined import inside, read_plain
from ablate.storage.json_text import parse_json
from ablate.storage.layout import PREDICTIONS, SAMPLES, TrialFolder

MAX_VALUE = 500  # characters of a parameter that older servers accept
MAX_TEXT = MAX_TAG = 8000  # characters of a tag; MLflow's own limit
MAX_KEY = 250  # characters of a parameter's name; MLflow's own limit
MAX_NAME = 250  # characters of a run's name, and of a data set's
MAX_DIGEST = 36  # characters of a data set's digest; MLflow's own limit
LARGEST_LOG = 256 * 2**20  # bytes of the samples of a machine; a day has some megabytes
MAX_CLASSES = 100  # classes with a metric of their own; of more, result.json has them all
NOTE = "mlflow.note.content"  # the run's description in the UI
FAILURE_TAGS = ("ablate.failure", "ablate.failure.message", NOTE)
NOT_RECORDED = "ablate.not_recorded"  # what the store did not take of a record, and why
SECRET = "tracking.uri"  # it may hold a password, which everybody who may see the runs would see
# A row of a YOLO label file, so that the UI shows what the data set's labels are.
LABEL_SCHEMA = [{"name": "class", "type": "long"}, *({"name": n, "type": "double"} for n in ("x", "y", "w", "h"))]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetFields:
    """A trial's data set: the fields of MLflow's `Dataset`.

    Attributes:
        name: Its name.
        digest: Start of the fingerprint, which covers every image and label.
        source_type, source: Where it is.
        schema: Form of its labels.
        profile: Its counts.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str


@dataclass(frozen=True)
class StartingModel:
    """The stock network and weights that a trial starts from; each value cut off at `MAX_VALUE`.

    Attributes:
        name: Of the network, in the characters that MLflow takes in a model's name.
        architecture: Its yaml.
        weights, weights_sha256: The checkpoint and its hash; in words where there is none.
    """

    name: str
    architecture: str
    weights: str
    weights_sha256: str

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of MLflow's model: all but the name."""
        return {"architecture": self.architecture, "weights": self.weights, "weights_sha256": self.weights_sha256}


def flatten(content: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the leaves of nested mappings with dotted keys."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def common_tags() -> dict[str, str]:
    """Return the tags that everything of ours in MLflow has."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.name": "ablate",
        "mlflow.source.type": "LOCAL",
        "ablate.version": __version__,
    }


def trial_tags(header: TrialHeader) -> dict[str, str]:
    """Return the tags that identify a trial; MLflow's list of runs is grouped and filtered by them."""
    factors = {f"ablate.{factor}": one_line(level)[:MAX_VALUE] for factor, level in header.factors.items()}
    identity = {
        "ablate.kind": "trial",
        "ablate.signature": header.signature,
        "ablate.variant": one_line(header.variant)[:MAX_VALUE],
        "ablate.variant_key": header.variant_key[:MAX_VALUE],
        "ablate.baseline": str(is_stock(header.factors)).lower(),
        "ablate.seed": str(header.seed)[:MAX_VALUE],
        **({} if header.fold is None else {"ablate.fold": str(header.fold)[:MAX_VALUE]}),
    }
    return {**factors, **identity}  # in an odd record a factor may have the name of one of the latter


def outcome_tags(record: TrialRecord) -> dict[str, str]:
    """Return the tags of a trial's end: status, failure, labels of classes, and the commit under MLflow's own name."""
    tags = {"ablate.status": record.status}
    if record.failure is not None:
        tags |= _failure_tags(record.failure)
    tags |= {f"ablate.class.{n.index:03d}": n.label for n in _classes_with_metric(record) if n.metric != n.name}
    git = record.realised.git
    if git is not None and git.commit:
        tags |= {"mlflow.source.git.commit": git.commit}
    return {name: value[: MAX_TEXT if name == NOTE else MAX_VALUE] for name, value in tags.items()}


def parameters(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Return nested settings as MLflow's parameters."""
    leaves = [(name, value) for name, value in flatten(config, prefix) if name != SECRET]
    return {metric_key(name)[:MAX_KEY]: str(value)[:MAX_VALUE] for name, value in leaves}


def realised_parameters(record: TrialRecord) -> dict[str, str]:
    """Return how a training really ran as parameters, so that MLflow's compare page shows how trials differ."""
    realised = parameters(to_json(record.realised), "realised.")
    return {name: value for name, value in realised.items() if value not in ("[]", "None")}


def final_metrics(record: TrialRecord) -> dict[str, float]:
    """Return the numbers of a trial that has ended.

    ``final/`` is the best epoch's checkpoint (the table's numbers), ``last/`` the last epoch's, ``per_class_map50_95/``
    the best one's by class (see `ClassName.metric`), ``cost/`` what the network costs. MLflow makes a section of charts
    of each.
    """
    values = {
        **_fields("final/", record.metrics),
        **_fields("last/", record.metrics_last),
        **_fields("cost/", record.cost),
    }
    for name in _classes_with_metric(record):
        values[f"per_class_map50_95/{name.metric}"] = record.per_class[name.index].map50_95
    return {
        metric_key(name): float(number)
        for name, value in values.items()
        if (number := finite_number(value)) is not None
    }


def _fields(prefix: str, struct: msgspec.Struct) -> dict[str, object]:
    return {f"{prefix}{name}": value for name, value in msgspec.structs.asdict(struct).items()}


def epoch_metrics(row: EpochRow) -> dict[str, float]:
    """Return the numbers of one epoch: losses, learning rates, mAP."""
    left_out = ("batches", "epoch", "epochs", "time", *HALVES, *GROUP_HALVES)
    names = [name for name in row.content if name not in left_out]
    return {metric_key(name): value for name in names if (value := row.number(name)) is not None}


def sample_metrics(sample: MachineSample) -> dict[str, float]:
    """Return a sample of the machine under MLflow's names."""
    names = [name for name in sample.content if name not in ("time", "step")]
    return {f"system/{name}": value for name in names if (value := sample.number(name)) is not None}


def _classes_with_metric(record: TrialRecord) -> tuple[ClassName, ...]:
    """Return the classes that have a metric of their own: all, unless there are too many."""
    classes = recorded_classes(record)
    return classes if len(classes) <= MAX_CLASSES else ()


def metric_key(name: str) -> str:
    """Return a metric's name in the characters that MLflow accepts."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


def read_samples(folder: Path) -> list[MachineSample]:
    """Return the samples of the machine that a trial has taken so far; lines that were cut off are left out."""
    samples = []
    try:
        text = read_plain(TrialFolder(folder).system, most=LARGEST_LOG).decode(errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        try:
            content = parse_json(line)
        except ValueError:
            continue
        sample = MachineSample(content if isinstance(content, dict) else {})
        if sample.time is not None and sample.step is not None:
            samples.append(sample)
    return samples


def dataset(record: TrialHeader) -> DatasetFields | None:
    """Return a trial's data set, or the fold of it, which is one of its own; None where it has no fingerprint."""
    data = record.data
    if data is None or not data.fingerprint:
        return None
    source = record.setting("data", "path") or record.setting("data", "url") or f"ablate: data={data.name}"
    counts = {
        **{f"images_{split}": count for split, count in data.images.items()},
        **{f"instances_{split}": count for split, count in data.instances.items()},
        "classes": len(data.classes),
        "class_names": data.classes,
        "fingerprint": data.fingerprint,
    }
    name, digest = data.name, data.fingerprint
    if record.fold is not None:
        name = f"{name}, fold {record.fold} of {record.setting('fold', 'folds')}"
        digest = hashlib.sha256(f"{digest} {record.setting('fold', 'assignment')} {record.fold}".encode()).hexdigest()
    return DatasetFields(
        name=name[:MAX_NAME],
        digest=digest[:MAX_DIGEST],
        source_type="local",
        source=json.dumps({"uri": str(source)}),
        schema=json.dumps({"mlflow_colspec": LABEL_SCHEMA}),
        profile=json.dumps(counts),
    )


def starting_model(record: TrialRecord) -> StartingModel | None:
    """Return the network and weights that a trial starts from; None where its configuration names no network."""
    name = record.setting("model", "name")
    architecture = record.setting("model", "architecture") or name
    if not architecture:
        return None
    weights = record.realised.weights
    source = weights.source or record.setting("model", "weights") or "random, by the seed"
    return StartingModel(
        name=re.sub(r"[/:.%\"']", "_", str(name or Path(str(architecture)).stem))[:MAX_VALUE],
        architecture=str(architecture)[:MAX_VALUE],
        weights=str(source)[:MAX_VALUE],
        weights_sha256=(weights.sha256 or "none")[:MAX_VALUE],
    )


def trial_files(folder: Path, record: TrialRecord, *, with_diff: bool = False) -> Iterator[tuple[Path, str | None]]:
    """Yield the files of a trial that are worth keeping, with their place among the artifacts; of its folder only."""
    files, artifacts = TrialFolder(folder), record.artifacts
    yield from ((path, None) for path in files.kept_files(with_diff=with_diff))
    listed = [(artifacts.best, "weights")] if artifacts.best else []
    listed += [(name, PREDICTIONS) for name in artifacts.predictions.values()]
    listed += [(name, "plots") for name in artifacts.plots]
    listed += [(files.name_of(sample), SAMPLES) for sample in sorted(files.samples.glob("*.jpg"))]
    for name, place in listed:
        path = inside(folder, name)
        if path is None:
            logger.warning("%s: the file %s is not sent: it leads out of the trial's folder", short(folder.name), name)
        elif path.is_file():
            yield path, place


def shared_and_varying(configs: Sequence[Mapping[str, object]]) -> tuple[dict[str, str], list[str]]:
    """Return the settings that all trials of a sweep share, and the names of those in which they differ."""
    flat = [parameters(config) for config in configs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    varying = [name for name in names if len({settings.get(name) for settings in flat}) > 1]
    return {name: flat[0][name] for name in names if name not in varying}, varying


def milliseconds(moment: str | None, default: int) -> int:
    """Return an ISO time as MLflow counts it."""
    try:
        return int(datetime.fromisoformat(str(moment)).timestamp() * 1000)
    except ValueError:
        return default


def _failure_tags(failure: Failure) -> dict[str, str]:
    """Return a failure's tags: type and message to filter by, and the run's description with the end of the log."""
    tail = "\n".join(failure.tail)
    words = f"**Failed: {inline(failure.type)}**: {inline(failure.message)}\n"
    room = MAX_TEXT - len(words) - 40
    note = f"{words}\n{code_block(tail[-room:])}" if tail and room > 0 else words
    return dict(zip(FAILURE_TAGS, (one_line(failure.type), one_line(failure.message), note), strict=True))
