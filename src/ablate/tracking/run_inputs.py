"""What a trial was made from, as MLflow's inputs: its data set, and the network and weights that it started from."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate.records.trial_record import TrialHeader, TrialRecord
from ablate.storage.confined import open_own
from ablate.storage.layout import OutputFolder
from ablate.tracking import mlflow_payload as payload
from ablate.tracking.mlflow_payload import StartingModel


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
        self._models: dict[StartingModel, str] = {}  # -> id of MLflow's model

    def log_datasets(self, run: Any, headers: Sequence[TrialHeader]) -> None:
        """Log the data sets of trials that the run does not have yet."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        logged = {item.dataset.digest for item in run.inputs.dataset_inputs} if run.inputs else set()
        datasets = [dataset for header in headers if (dataset := payload.dataset(header)) is not None]
        tags = [InputTag("mlflow.data.context", "training")]
        new = [DatasetInput(Dataset(**vars(dataset)), tags) for dataset in datasets if dataset.digest not in logged]
        if new:
            self._client.log_inputs(run.info.run_id, datasets=new)

    def log_model(self, run: Any, record: TrialRecord) -> None:
        """Log the network and weights that a trial started from; trials with the same ones share one MLflow model."""
        from mlflow.entities import LoggedModelInput
        from mlflow.exceptions import MlflowException

        model = payload.starting_model(record)
        if model is None or (run.inputs and run.inputs.model_inputs):
            return
        try:
            if model not in self._models:
                self._models[model] = self._model_id(model)
            self._client.log_inputs(run.info.run_id, models=[LoggedModelInput(self._models[model])])
        except MlflowException as error:
            if error.error_code != "ENDPOINT_NOT_FOUND":  # a server of MLflow 2 has no such models
                raise

    def _model_id(self, model: StartingModel) -> str:
        """Return the id of MLflow's model for a network with its weights; create it where there is none."""
        params = model.parameters
        words = [f"params.{name} = '{value}'" for name, value in params.items() if "'" not in value]
        with one_at_a_time(self._root):
            matches = self._client.search_logged_models([self._experiment], " AND ".join(words), max_results=1)
            if matches:
                return str(matches[0].model_id)
            created = self._client.create_logged_model(
                self._experiment, name=model.name, params=params, model_type="starting network", tags=self._tags
            )
            return str(self._client.finalize_logged_model(created.model_id, "READY").model_id)


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Make other commands that work in the same folder wait."""
    with open_own(OutputFolder(root).tracking_lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def one_at_a_trial(root: Path, signature: str) -> Iterator[None]:
    """Make other commands in the same folder that write to the same trial's run wait."""
    with open_own(OutputFolder(root).publishing_lock) as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, int(signature[:12], 16))  # one byte for each trial, which need not exist
        yield
