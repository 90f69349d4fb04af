"""What a trial was made from, as MLflow's inputs: its data set, and the network and weights that it started from."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate.records.trial_record import TrialHeader, TrialRecord
from ablate.storage.layout import OutputFolder
from ablate.tracking import mlflow_payload as entries


class Inputs:
    """Logs inputs of runs, each once.

    Args:
        client: MLflow's client.
        experiment: The experiment's id.
        root: The output folder.
        tags: What every model is tagged with.
    """

    def __init__(self, client: Any, experiment: str, root: Path, tags: Mapping[str, str]) -> None:
        self._client = client
        self._experiment = experiment
        self._root = root
        self._tags = dict(tags)
        self._models: dict[tuple[str, ...], str] = {}  # network and weights -> MLflow's model

    def log_datasets(self, run: Any, headers: Sequence[TrialHeader]) -> None:
        """Log the data sets that trials tell of, as far as the run does not have them."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        known = {item.dataset.digest for item in run.inputs.dataset_inputs} if run.inputs else set()
        found = [dataset for header in headers if (dataset := entries.dataset(header)) is not None]
        tags = [InputTag("mlflow.data.context", "training")]
        used = [DatasetInput(Dataset(**dataset), tags) for dataset in found if dataset["digest"] not in known]
        if used:
            self._client.log_inputs(run.info.run_id, datasets=used)

    def log_model(self, run: Any, record: TrialRecord) -> None:
        """Log the network and the weights that a trial started from; trials that share them share MLflow's model."""
        from mlflow.entities import LoggedModelInput
        from mlflow.exceptions import MlflowException

        found = entries.starting_model(record)
        if found is None or (run.inputs and run.inputs.model_inputs):
            return
        try:
            key = tuple(found.values())
            if key not in self._models:
                self._models[key] = self._model(found)
            self._client.log_inputs(run.info.run_id, models=[LoggedModelInput(self._models[key])])
        except MlflowException as error:
            if error.error_code != "ENDPOINT_NOT_FOUND":  # a server of MLflow 2 knows no such models
                raise

    def _model(self, found: Mapping[str, str]) -> str:
        """Return the id of MLflow's model for a network with its weights; make it where there is none."""
        params = {name: value for name, value in found.items() if name != "name"}
        words = [f"params.{name} = '{value}'" for name, value in params.items() if "'" not in value]
        with one_at_a_time(self._root):
            known = self._client.search_logged_models([self._experiment], " AND ".join(words), max_results=1)
            if known:
                return str(known[0].model_id)
            model = self._client.create_logged_model(
                self._experiment, name=found["name"], params=params, model_type="starting network", tags=self._tags
            )
            return str(self._client.finalize_logged_model(model.model_id, "READY").model_id)


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Keep other commands that work in the same folder waiting."""
    with OutputFolder(root).tracking_lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def one_at_a_trial(root: Path, signature: str) -> Iterator[None]:
    """Keep other commands in the same folder from writing to the same trial's run; other trials' go on."""
    with OutputFolder(root).publishing_lock.open("a+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, int(signature[:12], 16))  # one byte for each trial, which need not exist
        yield
