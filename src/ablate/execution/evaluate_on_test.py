"""Evaluate a trial's checkpoint on the test split, in a worker process."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ablate.records.test_split import TestEvaluation, save_test
from ablate.records.trial_record import TrialRecord
from ablate.storage.layout import TRAINING, TrialFolder, predictions_name

if TYPE_CHECKING:
    from ablate.records.predictions import Predictions
    from ablate.records.realised import Evaluation

EVALUATE = "ablate.execution.evaluate_on_test:evaluate_on_test"


@dataclass(frozen=True)
class TestJob:
    """What a worker evaluates.

    Attributes:
        folder: The trial's.
        record: The trial's.
        checkpoint: "best" or "last".
        path: Its file.
        sha256: Of the file.
        opening: Hash of the ledger's line.
        data_file: Of the data set, in our cache.
        data: Its fingerprint.
        device: Where; None: where the trial's settings say.
        trust: Whether the checkpoint may name what is no part of a network.
    """

    __test__ = False

    folder: Path
    record: TrialRecord
    checkpoint: str
    path: Path
    sha256: str
    opening: str
    data_file: Path
    data: str
    device: str | None = None
    trust: bool = False


def evaluate_on_test(job: TestJob) -> int:
    """Evaluate a checkpoint on the test split; write `test.json` and the predictions. Return the number of images."""
    from ablate.records.predictions import save_predictions
    from ablate.settings.environment import output_to, prepare

    prepare()
    name = f"{TRAINING}/{predictions_name(f'test_{job.checkpoint}')}"
    with output_to(Path(os.devnull)):
        evaluation, predictions = evaluate(job, "test", name)
    save_predictions(job.folder / name, predictions, job.record.signature)
    images = len(predictions.names)
    epoch = job.record.metrics.epoch if job.checkpoint == "best" else job.record.metrics_last.epoch
    metrics = msgspec.structs.replace(evaluation.metrics, epoch=epoch, checkpoint=job.checkpoint, split="test")
    save_test(
        TrialFolder(job.folder),
        TestEvaluation(
            signature=job.record.signature,
            checkpoint=job.checkpoint,
            sha256=job.sha256,
            data=job.data,
            opening=job.opening,
            images=images,
            metrics=metrics,
            per_class=evaluation.per_class,
            predictions=name,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
    return images


def evaluate(job: TestJob, split: str, file: str) -> tuple[Evaluation, Predictions]:
    """Evaluate a checkpoint on all images of a split, as a training does at its end."""
    from ultralytics.utils.events import events

    from ablate.checkpoints.stored_network import read_own
    from ablate.records.json_struct import from_json
    from ablate.records.metrics import Metrics
    from ablate.settings.trial_settings import TrialSettings
    from ablate.sources.working_folder import allow
    from ablate.training.grafted_model import saved_form
    from ablate.training.history import accuracy
    from ablate.training.network import restore
    from ablate.training.trainer_arguments import pick_device, training_arguments_of
    from ablate.training.training_report import evaluation
    from ablate.training.validator import PredictionsValidator

    events.enabled = False  # Ultralytics' reports of use
    record = job.record
    settings = TrialSettings.from_plain(record.config)
    targets = settings.targets
    allow(targets)
    stored = read_own(job.path, targets, trust=job.trust).network
    network = saved_form(restore(stored, targets, trust=job.trust))
    device = job.device or pick_device(settings.device)
    arguments = {
        **training_arguments_of(settings),
        "data": str(job.data_file),
        "device": device.removeprefix("cuda:").split(",")[0],
        "split": split,
        "fraction": 1.0,
        "batch": 2 * (record.realised.batch or 8),  # as the trainer does
        "imgsz": record.realised.imgsz or settings.train.imgsz,
        "rect": True,
        "plots": False,
        "compile": False,
        "workers": 0,
        "task": "detect",
        "mode": "val",
    }
    with tempfile.TemporaryDirectory(prefix="ablate-test-") as folder:
        validator = PredictionsValidator(save_dir=Path(folder), args=arguments)
        figures = validator(model=network.float().eval())
    predictions = validator.predictions
    assert predictions is not None
    names = [stored.names[index] for index in sorted(stored.names)]
    return evaluation(from_json(accuracy(figures), Metrics), predictions, names, file), predictions
