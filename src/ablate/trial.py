"""The story of one trial, start to end: data, network, training, evaluation, record.

`run_trial` is what a worker process runs. It takes plain values and returns plain values; everything else goes to the
trial's own folder, `<root>/trials/<signature>/`, and the record is the last thing written there.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ablate import __version__
from ablate.config import ConfigError
from ablate.data.catalogue import DataSet, resolve
from ablate.environment import output_to, prepare
from ablate.identity import Identity, file_hash, identify, settle
from ablate.tracking.records import SCHEMA, DamagedRecordError, atomic_write_json, atomic_write_text, load_record

LOG = "train.log"


@dataclass(frozen=True)
class Trial:
    """One configuration with its data and its identity.

    Attributes:
        config: The settled configuration, plain values.
        data: The data set as it is on disk.
        identity: Names and hashes.
    """

    config: dict[str, Any]
    data: DataSet
    identity: Identity

    @classmethod
    def of(cls, config: Mapping[str, Any], data: DataSet | None = None) -> Trial:
        """Settle a configuration, find its data and hash both."""
        settled = settle(config)
        found = data if data is not None else resolve(settled["data"])
        return cls(settled, found, identify(settled, found.fingerprint))

    @property
    def folder(self) -> Path:
        """Where everything about this trial is."""
        return Path(self.config["root"]).absolute() / "trials" / self.identity.signature

    def finished_record(self) -> dict[str, Any] | None:
        """Return this trial's record if it is on disk, whole, and finished."""
        try:
            record = load_record(self.folder)
        except (FileNotFoundError, DamagedRecordError):
            return None
        return record if record.get("status") == "finished" else None

    def header(self) -> dict[str, Any]:
        """Return the part of a record that is known before anything ran."""
        identity = self.identity
        return {
            "schema": SCHEMA,
            "signature": identity.signature,
            "name": identity.name,
            "variant": identity.variant,
            "variant_key": identity.variant_key,
            "comparison_key": identity.comparison_key,
            "factors": identity.factors,
            "seed": identity.seed,
            "config": self.config,
            "data": {
                "name": self.data.name,
                "classes": list(self.data.classes),
                "images": dict(self.data.images),
                "instances": dict(self.data.instances),
                "warnings": list(self.data.warnings),
                "fingerprint": self.data.fingerprint,
            },
        }


def run_trial(config: Mapping[str, Any]) -> dict[str, Any]:
    """Train, evaluate and record one trial.

    Args:
        config: A resolved configuration, plain values.

    Returns:
        ``{"signature", "status", "failure"}``; the whole record is in `result.json`. A failure of the trial is a
        record too, not an exception.
    """
    prepare()
    trial = Trial.of(config)
    with _alone(trial.folder):  # another command may ask for the same trial at the same time
        record = trial.finished_record()
        if record is None:
            record = _run(trial)
    return {key: record[key] for key in ("signature", "status", "failure")}


def _run(trial: Trial) -> dict[str, Any]:
    """Train and record a trial whose folder is ours; return the record."""
    started = _now()
    shutil.rmtree(trial.folder, ignore_errors=True)
    trial.folder.mkdir(parents=True)
    _write_config(trial)
    with output_to(trial.folder / LOG):
        try:
            record = {**trial.header(), "status": "finished", "failure": None, **_train(trial)}
        except Exception as error:  # whatever went wrong ends this trial, and only this one
            traceback.print_exc()
            record = {**trial.header(), **failed(_kind(error), error), "history": _history(trial.folder)}
    record |= {"started": started, "finished": _now()}
    atomic_write_json(trial.folder / "result.json", record)
    return record


def record_failure(trial: Trial, kind: str, message: str) -> None:
    """Write the record of a trial whose process cannot do it any more."""
    record = {**trial.header(), **failed(kind, message), "history": _history(trial.folder), "finished": _now()}
    atomic_write_json(trial.folder / "result.json", record)


def failed(kind: str, reason: Exception | str) -> dict[str, Any]:
    """Return the part of a record that says how a trial failed."""
    message = " ".join(str(reason).split()) or type(reason).__name__
    return {"status": "failed", "failure": {"type": kind, "message": message, "log": LOG}, "metrics": {}}


def network_yaml(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network's yaml with the graft's spec in it: all that is needed to build it, anywhere."""
    from ultralytics.nn.tasks import yaml_model_load

    from ablate.grafting.surgery import SPEC_KEY, graft_spec
    from ablate.training.trainer import POLICY_KEY

    content: dict[str, Any] = yaml_model_load(config["model"]["architecture"])
    content[POLICY_KEY] = config["on_oom"]
    spec = graft_spec(config["module"], config["insertion"])
    if spec is not None:
        content[SPEC_KEY] = spec
    return content


def _train(trial: Trial) -> dict[str, Any]:
    """Train through Ultralytics and return what the record says of it."""
    import torch
    import yaml

    from ablate.measuring.complexity import complexity
    from ablate.measuring.latency import device_name
    from ablate.measuring.samples import detect_samples
    from ablate.training.trainer import REALISED, AblateTrainer, build_network

    config, folder = trial.config, trial.folder
    device = pick_device(config["device"])
    network_file = folder / f"{Path(config['model']['architecture']).stem}.yaml"
    content = network_yaml(config)
    network_file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    git = _git(folder)
    trainer = AblateTrainer(
        overrides={
            **config["train"],
            **_optimizer_arguments(config["optimizer"]),
            "model": str(network_file),
            "pretrained": config["model"]["weights"] or False,
            "data": str(trial.data.yaml),
            "seed": config["seed"],
            "device": device,
            "project": str(folder),
            "name": "train",
            "exist_ok": True,
            "task": "detect",
            "mode": "train",
        }
    )
    trainer.train()
    realised = json.loads((folder / "train" / REALISED).read_text(encoding="utf-8"))
    history = _history(folder)
    best = max(history, key=lambda row: row.get("fitness") or 0.0)
    network, _, _ = build_network(content, classes=len(trial.data.classes))
    checkpoint = folder / "train" / "weights" / "best.pt"
    plots = sorted(p.relative_to(folder).as_posix() for p in (folder / "train").glob("*.[pj][np]g"))
    (folder / "parameter_groups.json").write_text(
        json.dumps(realised.pop("parameter_groups"), indent=1), encoding="utf-8"
    )
    (folder / "model.txt").write_text(str(network), encoding="utf-8")
    samples = realised.pop("samples")
    return {
        "metrics": {
            **realised.pop("metrics"),
            "epoch": best["epoch"],
            "checkpoint": "best",
            "split": realised.pop("split"),
        },
        "metrics_last": {key: history[-1][key] for key in ("map50_95", "map50", "precision", "recall", "epoch")},
        "per_class": realised.pop("per_class"),
        "history": history,
        "cost": {
            **complexity(network, realised["imgsz"]).summary(),
            "train_minutes": sum(row["seconds"] for row in history) / 60,
            "peak_memory_gb": realised.pop("peak_memory_gb"),
        },
        "graft": realised.pop("graft"),
        "realised": {
            **realised,
            "device_name": device_name(torch.device("cpu" if device == "cpu" else f"cuda:{device.split(',')[0]}")),
            "weights": {**realised["weights"], **_weights_source(config["model"]["weights"])},
            "data_fingerprint": trial.data.fingerprint,
            "versions": versions(),
            "git": git,
        },
        "samples": detect_samples(checkpoint, samples, folder, imgsz=realised["imgsz"], device=device.split(",")[0]),
        "artifacts": {"best": checkpoint.relative_to(folder).as_posix(), "plots": plots, "log": LOG},
    }


def pick_device(device: str) -> str:
    """Return Ultralytics' name of the device that `device` means on this machine: cpu, or GPU numbers.

    Raises:
        ConfigError: There is no such device.
    """
    import torch

    if device == "auto":
        return "0" if torch.cuda.is_available() else "cpu"
    wanted = device.removeprefix("cuda:")
    count = torch.cuda.device_count()
    if wanted != "cpu" and any(int(number) >= count for number in wanted.split(",")):
        raise ConfigError(f"device={device}: this machine has {count or 'no'} CUDA device{'s' * (count != 1)}")
    return wanted


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "python": platform.python_version(),
        "ablate": __version__,
        **{name: version(name) for name in ("torch", "torchvision", "ultralytics", "numpy")},
    }


def _weights_source(weights: str | None) -> dict[str, str | None]:
    """Return a checkpoint's path and the hash that tells it from others wherever it lies."""
    return {"source": weights, "sha256": None if weights is None else file_hash(weights)}


def _optimizer_arguments(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    return {"optimizer" if name == "name" else name: value for name, value in optimizer.items()}


def _history(folder: Path) -> list[dict[str, Any]]:
    """Return the epochs that were logged; a last line that was cut off is left out."""
    path = folder / "train" / "history.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _kind(error: Exception) -> str:
    """Return the failure type of an exception."""
    from ablate.training.errors import TrainingError

    text = str(error).lower()
    if isinstance(error, TrainingError):
        return error.kind
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "out_of_memory"
    if "dataset" in text or "no labels found" in text or "no images found" in text:
        return "data"
    return "code"


def _git(folder: Path) -> dict[str, Any]:
    """Return the commit of the working folder's repository; keep what differs from it in `git.diff`."""

    def ask(*words: str) -> bytes | None:
        try:
            return subprocess.run(["git", *words], capture_output=True, check=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError):
            return None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return {}
    diff = ask("diff", "HEAD") or b""
    if diff:
        (folder / "git.diff").write_bytes(diff)  # bytes: the user's files may be in any encoding
    return {"commit": commit.decode().strip(), "dirty": bool(diff)}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a trial's lock; wait while another process trains it. The system frees it when its owner dies."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_config(trial: Trial) -> None:
    import yaml

    atomic_write_text(trial.folder / "config.yaml", yaml.safe_dump(trial.config, sort_keys=False))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
