"""A record in MLflow's terms: which of its parts become tags, parameters, metrics, inputs and files.

Pure: nothing here talks to a store, and MLflow is not imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ablate.records.class_names import ClassName, recorded_classes
from ablate.records.metrics import EpochRow
from ablate.records.records import mapping, number, sequence, value
from ablate.records.trial_record import TrialHeader, TrialRecord
from ablate.storage.layout import SAMPLES, TrialFolder

MAX_VALUE = 500  # characters of a parameter that older servers accept
MAX_TEXT = MAX_TAG = 8000  # characters of a tag; MLflow's own limit
MAX_KEY = 250  # characters of a parameter's name; MLflow's own limit
MAX_NAME = 250  # characters of a run's name, and of a data set's
MAX_DIGEST = 36  # characters of a data set's digest; MLflow's own limit
MAX_CLASSES = 100  # classes with a metric of their own; of more, result.json has them all
NOTE = "mlflow.note.content"  # the run's description in the UI
FAILURE_TAGS = ("ablate.failure", "ablate.failure.message", NOTE)
NOT_RECORDED = "ablate.not_recorded"  # what the store did not take of a record, and why
SECRET = "tracking.uri"  # it may hold a password, and whoever may look at the runs would see it
# A row of a YOLO label file, so that the UI shows what the data set's labels are.
LABEL_SCHEMA = [{"name": "class", "type": "long"}, *({"name": n, "type": "double"} for n in ("x", "y", "w", "h"))]


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with dotted keys."""
    for name, found in content.items():
        if isinstance(found, Mapping):
            yield from flatten(found, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", found


def trial_tags(header: TrialHeader) -> dict[str, str]:
    """Return what a trial is: what MLflow's list is grouped and filtered by."""
    return {
        "ablate.kind": "trial",
        "ablate.signature": str(header["signature"]),
        "ablate.variant": str(header.get("variant"))[:MAX_VALUE],
        "ablate.variant_key": str(header.get("variant_key"))[:MAX_VALUE],
        "ablate.baseline": str(value(header, "factors", "module") == "none").lower(),
        "ablate.seed": str(header.get("seed"))[:MAX_VALUE],
        **{f"ablate.{factor}": str(level)[:MAX_VALUE] for factor, level in mapping(header, "factors").items()},
    }


def outcome_tags(record: TrialRecord) -> dict[str, str]:
    """Return how a trial ended: to filter by, and the commit of its code in MLflow's own place."""
    tags = {"ablate.status": str(record.get("status"))}
    failure = mapping(record, "failure")
    if failure:
        tags |= _failure_tags(failure)
    tags |= {f"ablate.class.{n.index:03d}": n.label for n in _own_metric(record) if n.metric != n.name}
    commit = mapping(record, "realised", "git").get("commit")
    if commit:
        tags["mlflow.source.git.commit"] = str(commit)
    return {name: value[: MAX_TEXT if name == NOTE else MAX_VALUE] for name, value in tags.items()}


def parameters(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as MLflow's parameters."""
    leaves = [(name, found) for name, found in flatten(config, prefix) if name != SECRET]
    return {metric_key(name)[:MAX_KEY]: str(found)[:MAX_VALUE] for name, found in leaves}


def realised_parameters(record: TrialRecord) -> dict[str, str]:
    """Return what a training really was, so that MLflow's compare page shows where it differs from another."""
    found = parameters(mapping(record, "realised"), "realised.")
    return {name: value for name, value in found.items() if value not in ("[]", "None")}


def final_metrics(record: TrialRecord) -> dict[str, float]:
    """Return the numbers of a trial that has ended.

    ``final/`` is the best epoch's checkpoint (the table's numbers), ``last/`` the last epoch's, ``per_class_map50_95/``
    the best one's by class (see `ClassName.metric`), ``cost/`` what the network costs. MLflow makes a section of charts
    of each.
    """
    found = {f"final/{name}": number(record, "metrics", name) for name in mapping(record, "metrics")}
    found |= {f"last/{name}": number(record, "metrics_last", name) for name in mapping(record, "metrics_last")}
    found |= {f"cost/{name}": number(record, "cost", name) for name in mapping(record, "cost")}
    rows = sequence(record, "per_class")
    found |= {f"per_class_map50_95/{name.metric}": number(rows[name.index], "map50_95") for name in _own_metric(record)}
    return {metric_key(name): value for name, value in found.items() if value is not None}


def epoch_metrics(row: EpochRow) -> dict[str, float]:
    """Return the numbers of one epoch: losses, learning rates, mAP."""
    names = [name for name in row.content if name not in ("batches", "epoch", "epochs", "time")]
    return {metric_key(name): value for name in names if (value := row.number(name)) is not None}


def sample_metrics(sample: Mapping[str, Any]) -> dict[str, float]:
    """Return a sample of the machine under MLflow's names."""
    names = [name for name in sample if name not in ("time", "step")]
    return {f"system/{name}": value for name in names if (value := number(sample, name)) is not None}


def _own_metric(record: TrialRecord) -> tuple[ClassName, ...]:
    """Return the classes that have a metric of their own: all, unless there are too many."""
    classes = recorded_classes(record)
    return classes if len(classes) <= MAX_CLASSES else ()


def metric_key(name: str) -> str:
    """Return a metric's name in the characters that MLflow accepts."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Return the samples of the machine that a trial has taken so far; a last line that was cut off is left out."""
    samples = []
    try:
        text = TrialFolder(folder).system.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        try:
            sample = json.loads(line)
        except ValueError:
            continue
        if number(sample, "time") is not None and number(sample, "step") is not None:
            samples.append(sample)
    return samples


def dataset(record: TrialHeader) -> dict[str, str] | None:
    """Return a trial's data set as MLflow's `Dataset` wants it; None where the record does not tell.

    The digest is the start of the fingerprint, which covers every image and label; the profile holds the counts.
    """
    data = mapping(record, "data")
    if not data.get("fingerprint"):
        return None
    asked = mapping(record, "config", "data")
    source = asked.get("path") or asked.get("url") or f"ablate: data={data.get('name')}"
    counts = {
        **{f"images_{split}": count for split, count in mapping(data, "images").items()},
        **{f"instances_{split}": count for split, count in mapping(data, "instances").items()},
        "classes": len(sequence(data, "classes")),
        "class_names": [str(name) for name in sequence(data, "classes")],
        "fingerprint": data["fingerprint"],
    }
    return {
        "name": str(data.get("name"))[:MAX_NAME],
        "digest": str(data["fingerprint"])[:MAX_DIGEST],
        "source_type": "local",
        "source": json.dumps({"uri": str(source)}),
        "schema": json.dumps({"mlflow_colspec": LABEL_SCHEMA}),
        "profile": json.dumps(counts),
    }


def starting_model(record: TrialRecord) -> dict[str, str] | None:
    """Return the stock network and weights that a trial starts from; None where the record does not tell."""
    model = mapping(record, "config", "model")
    architecture = model.get("architecture") or model.get("name")
    if not architecture:
        return None
    weights = mapping(record, "realised", "weights")
    name = str(model.get("name") or Path(str(architecture)).stem)
    found = {
        "name": re.sub(r"[/:.%\"']", "_", name),  # MLflow takes none of these in a model's name
        "architecture": str(architecture),
        "weights": str(weights.get("source") or model.get("weights") or "random, by the seed"),
        "weights_sha256": str(weights.get("sha256") or "none"),
    }
    return {key: value[:MAX_VALUE] for key, value in found.items()}


def trial_files(folder: Path, record: TrialRecord) -> Iterator[tuple[Path, str | None]]:
    """Yield the files of a trial that are worth keeping, with their place among the artifacts."""
    files, artifacts = TrialFolder(folder), record.artifacts
    yield from ((path, None) for path in files.kept_files())
    listed = [(artifacts.best, "weights")] if artifacts.best else []
    listed += [(name, "evidence") for name in artifacts.evidence.values()]
    listed += [(name, "plots") for name in artifacts.plots]
    yield from ((folder / name, place) for name, place in listed if (folder / name).is_file())
    yield from ((sample, SAMPLES) for sample in sorted(files.samples.glob("*.jpg")))


def shared_and_varying(configs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Return the settings that all trials of a sweep share, and the names of those in which they differ."""
    flat = [parameters(config) for config in configs]
    names = list(dict.fromkeys(name for found in flat for name in found))
    varying = [name for name in names if len({found.get(name) for found in flat}) > 1]
    return {name: flat[0][name] for name in names if name not in varying}, varying


def milliseconds(moment: str | None, default: int) -> int:
    """Return an ISO time as MLflow counts it."""
    try:
        return int(datetime.fromisoformat(str(moment)).timestamp() * 1000)
    except ValueError:
        return default


def _failure_tags(failure: Mapping[str, Any]) -> dict[str, str]:
    """Return a failure as tags: to filter by, and as the run's description with the end of its log."""
    kind, message = str(failure.get("type")), str(failure.get("message"))
    tail = "\n".join(str(line) for line in sequence(failure, "tail"))
    words = f"**Failed: {kind}**: {message}\n"
    room = MAX_TEXT - len(words) - 40
    note = f"{words}\n```\n{tail[-room:]}\n```\n" if tail and room > 0 else words
    return dict(zip(FAILURE_TAGS, (kind, message, note), strict=True))
