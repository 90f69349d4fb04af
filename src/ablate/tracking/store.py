"""MLflow: what is recorded, and that training never waits for it.

Results are on disk before MLflow hears of them. Everything here can be repeated: a trial has one run, found again by
its signature, and what it holds already is not sent twice.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ablate.environment import prepare
from ablate.tracking import entries
from ablate.tracking.browsing import experiment_tags
from ablate.tracking.records import DamagedRecordError, atomic_write_json, load_object, load_record, mapping

LINK = "mlflow.json"  # beside result.json: which run has it, and whether that is running, stopped or complete
MAX_ITEMS = 100  # parameters or tags in one request; MLflow's own limit
MAX_METRICS = 1000
CONTEXT = "mlflow.data.context"


def tracking_uri(root: Path, uri: str | None) -> str:
    """Return MLflow's tracking URI: the given one, or SQLite below the root."""
    return uri or f"sqlite:///{root.absolute() / 'mlflow.db'}"


class Store:
    """One MLflow tracking store, used through its client only: no global state of MLflow is touched.

    Args:
        root: The output folder.
        uri: A tracking URI, or None for SQLite in the root.
        experiment: Name of the experiment.
        artifacts: Whether to log files (checkpoint, plots, reports).
    """

    def __init__(self, root: Path, uri: str | None = None, experiment: str = "ablate", artifacts: bool = True) -> None:
        prepare()
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self.uri = tracking_uri(root, uri)
        self._root = root
        self._artifacts = artifacts
        root.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=self.uri)
        self._experiment = self._find_experiment(experiment, local=uri is None)

    def begin(
        self, folder: Path, header: Mapping[str, Any], parent: str | None, rows: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """Open the run of a trial that starts now, or take up the one it has; return its id."""
        run_id = self._run_of(folder, header, parent, rows)
        self._client.update_run(run_id, status="RUNNING")
        self._log_parameters(run_id, header["config"])
        self._link(folder, run_id, "running")
        return run_id

    def stop(self, folder: Path) -> None:
        """Say that a trial was stopped while it ran; it will go on in the same run."""
        link = read_link(folder)
        if link.get("uri") == self.uri and link.get("state") == "running":
            self._client.set_terminated(link["run_id"], "KILLED")
            self._link(folder, link["run_id"], "stopped")

    def follow(
        self, folder: Path, header: Mapping[str, Any], parent: str | None, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Log epochs of a trial that runs; the first ones open its run, or take up the one it has."""
        link = read_link(folder)
        running = link.get("state") == "running" and link.get("uri") == self.uri
        self.epochs(str(link["run_id"]) if running else self.begin(folder, header, parent, rows), rows)

    def epochs(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log finished epochs: losses, learning rates, mAP."""
        from mlflow.entities import Metric

        metrics = [
            Metric(_key(name), float(value), int(row["time"] * 1000), int(row["epoch"]))
            for row in rows
            for name, value in row.items()
            if isinstance(value, int | float) and name not in ("epoch", "epochs", "time")
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS])

    def publish(self, folder: Path, parent: str | None = None) -> str:
        """Send a trial's whole record; return the run's id."""
        record = load_record(folder)
        run_id = self._run_of(folder, record, parent, record.get("history", []))
        self._log_parameters(run_id, record.get("config", {}))
        self.epochs(run_id, record.get("history", []))
        self._log_results(run_id, record)
        if self._artifacts:
            for file, place in _trial_files(folder, record):
                self._client.log_artifact(run_id, str(file), place)
        finished = record["status"] == "finished"
        ended = int(datetime.fromisoformat(record["finished"]).timestamp() * 1000)
        self._client.set_terminated(run_id, "FINISHED" if finished else "FAILED", end_time=ended)
        self._link(folder, run_id, "complete")
        return run_id

    def publish_missing(
        self, trials: Path, parent: str | None = None, children: Container[str] = frozenset()
    ) -> list[str]:
        """Send every record on disk that this store does not hold completely.

        Args:
            trials: The folder of all trials.
            parent: The run of a sweep.
            children: Signatures of the trials of that sweep.

        Returns:
            The signatures of the records that were sent.
        """
        sent = []
        for folder in sorted(trials.iterdir()) if trials.is_dir() else []:
            link = read_link(folder)
            if (folder / "result.json").is_file() and not (
                link.get("state") == "complete" and link.get("uri") == self.uri
            ):
                try:
                    self.publish(folder, parent if folder.name in children else None)
                except DamagedRecordError:
                    continue  # it will be trained again; there is nothing to send
                sent.append(folder.name)
        return sent

    def open_sweep(self, name: str, command: str, run_id: str | None = None) -> str:
        """Open the parent run of a sweep, or take up the one it has; return its id."""
        if run_id is None or not self._exists(run_id):
            tags = {**_common_tags(), "ablate.kind": "sweep", "ablate.sweep": name, "ablate.command": command}
            run_id = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        self._client.update_run(run_id, status="RUNNING")
        return str(run_id)

    def close_sweep(self, run_id: str, directory: Path, signatures: Sequence[str], note: str, failed: bool) -> None:
        """Give a sweep's parent run its table as description, its report as artifacts, and its end."""
        self._client.set_tag(run_id, NOTE, note)
        for signature in signatures:
            child = read_link(directory.parent.parent / "trials" / signature).get("run_id")
            if child:
                self._add_to_sweeps(str(child), directory.name)
        if self._artifacts:
            for file in sorted(directory.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    self._client.log_artifact(run_id, str(file), "report" if file.suffix != ".json" else None)
                elif file.is_dir():
                    self._client.log_artifacts(run_id, str(file), f"report/{file.name}")
        self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def _find_experiment(self, name: str, local: bool) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = (self._root.absolute() / "mlartifacts").as_uri() if local else None
            try:
                return str(self._client.create_experiment(name, artifact_location=place, tags=EXPERIMENT_TAGS))
            except MlflowException:  # another command made it in this moment
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _run_of(
        self, folder: Path, header: Mapping[str, Any], parent: str | None, rows: Sequence[Mapping[str, Any]]
    ) -> str:
        """Return the one run of a trial: the linked one, else the one with its signature, else a new one.

        A run cannot forget: where it holds epochs of an earlier try and this one began anew, it goes to MLflow's bin.
        """
        with _one_at_a_time(self._root):  # two commands that look at once would both find none
            known = self._known_run(folder, header["signature"])
            if known is not None and self._holds_another_try(known, rows):
                self._client.delete_run(known)
                known = None
            return known or self._new_run(header, parent)

    def _known_run(self, folder: Path, signature: str) -> str | None:
        link = read_link(folder)
        if link.get("uri") == self.uri and link.get("run_id") and self._exists(link["run_id"]):
            return str(link["run_id"])
        found = self._client.search_runs([self._experiment], f"tags.`ablate.signature` = '{signature}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _holds_another_try(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether a run has an epoch that these rows have too, but finished at another time."""
        times = {int(row["epoch"]): int(row["time"] * 1000) for row in rows}
        held = self._client.get_metric_history(run_id, "map50_95") if times else []
        return any(times.get(metric.step, metric.timestamp) != metric.timestamp for metric in held)

    def _new_run(self, header: Mapping[str, Any], parent: str | None) -> str:
        tags = {
            **_common_tags(),
            "ablate.kind": "trial",
            "ablate.signature": header["signature"],
            "ablate.variant": header["variant"],
            "ablate.variant_key": header["variant_key"],
            "ablate.baseline": str(header["factors"]["module"] == "none").lower(),
            "ablate.seed": str(header["seed"]),
            **{f"ablate.{factor}": level for factor, level in header["factors"].items()},
        }
        if parent:
            tags["mlflow.parentRunId"] = parent
        started = header.get("started")
        start = int(datetime.fromisoformat(started).timestamp() * 1000) if started else int(time.time() * 1000)
        run = self._client.create_run(self._experiment, start_time=start, run_name=header["name"], tags=tags)
        return str(run.info.run_id)

    def _link(self, folder: Path, run_id: str, state: str) -> None:
        atomic_write_json(folder / LINK, {"run_id": run_id, "uri": self.uri, "state": state})

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _log_parameters(self, run_id: str, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(run_id).data.params
        params = [Param(name, str(value)[:MAX_VALUE]) for name, value in flatten(config) if name not in known]
        for start in range(0, len(params), MAX_ITEMS):
            self._client.log_batch(run_id, params=params[start : start + MAX_ITEMS])

    def _log_results(self, run_id: str, record: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        figures = {f"final/{name}": value for name, value in record.get("metrics", {}).items()}
        figures |= {f"cost/{name}": value for name, value in record.get("cost", {}).items()}
        realised = record.get("realised", {})
        tags = {"ablate.status": record["status"], **{f"ablate.realised.{k}": v for k, v in flatten(realised)}}
        if record.get("failure"):
            tags |= _failure_tags(record["failure"])
        else:  # a trial that failed before and was tried again keeps its run, not its failure
            for name in FAILURE_TAGS:
                if name in self._client.get_run(run_id).data.tags:
                    self._client.delete_tag(run_id, name)
        metrics = [
            Metric(name, float(value), now, 0)
            for name, value in figures.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        entries = [RunTag(name, str(value)[: MAX_TEXT if name == NOTE else MAX_VALUE]) for name, value in tags.items()]
        commit = realised.get("git", {}).get("commit")
        if commit:
            entries.append(RunTag("mlflow.source.git.commit", commit))
        self._client.log_batch(run_id, metrics=metrics, tags=entries[:MAX_ITEMS])

    def _add_to_sweeps(self, run_id: str, sweep: str) -> None:
        known = self._client.get_run(run_id).data.tags.get("ablate.sweeps", "")
        names = known.split()
        if sweep not in names:
            self._client.set_tag(run_id, "ablate.sweeps", " ".join([*names, sweep]))


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Keep other commands that work in the same folder waiting."""
    with (root / ".tracking.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_link(folder: Path) -> dict[str, Any]:
    """Return what is known of a trial's MLflow run; empty where nothing is."""
    return load_object(folder / LINK)


def _common_tags() -> dict[str, str]:
    import getpass

    from ablate import __version__

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
