"""MLflow: what is recorded, and that training never waits for it.

Results are on disk before MLflow hears of them. Everything here can be repeated: a trial has one run, found again by
its signature, and what it holds already is not sent twice.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.environment import prepare
from ablate.files import atomic_write_json
from ablate.tracking import entries, summary
from ablate.tracking.address import is_database, tracking_uri, without_account
from ablate.tracking.browsing import experiment_tags
from ablate.tracking.inputs import Inputs, one_at_a_time, one_at_a_trial
from ablate.tracking.opening import open_client
from ablate.tracking.records import DamagedRecordError, load_object, load_record

LINK = "mlflow.json"  # beside result.json: which run has it, and whether that is running, stopped or complete
LIMITS = (800, 100, 100)  # metrics, parameters, tags in one request; MLflow allows 1000 of all kinds together

_Points = dict[tuple[str, int, int], dict[str, float]]  # (epoch or sample, step, milliseconds) -> metrics


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
        address = tracking_uri(root, uri)
        self.uri = without_account(address)  # what links name a store by
        self._root = root
        self._artifacts = artifacts
        root.mkdir(parents=True, exist_ok=True)
        self._client = open_client(address, root)
        self._experiment = self._find_experiment(experiment)
        self._sent: dict[str, set[tuple[str, int, int]]] = {}  # run -> epochs and samples that it is known to hold
        self._sweeps: dict[str, str] = {}  # parent run -> its sweep's name
        self._inputs = Inputs(self._client, self._experiment, root, common_tags())

    # -- trials -----------------------------------------------------------------------------------------------------

    def begin(
        self, folder: Path, header: Mapping[str, Any], parent: str | None, rows: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """Open the run of a trial that starts now, or take up the one it has; return its id."""
        with one_at_a_trial(self._root, header["signature"]):  # MLflow refuses a parameter that another wrote just now
            return self._begin(folder, header, parent, rows)

    def _begin(
        self, folder: Path, header: Mapping[str, Any], parent: str | None, rows: Sequence[Mapping[str, Any]]
    ) -> str:
        run_id = self._run_of(folder, header, parent, rows)
        self._client.update_run(run_id, status="RUNNING")
        run = self._client.get_run(run_id)
        self._send(run_id, params=_lacking(run.data.params, entries.parameters(header["config"])))
        self._inputs.log_datasets(run, [header])
        self._link(folder, run_id, "running", parent)
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
        run_id = str(link["run_id"]) if running else self.begin(folder, header, parent, rows)
        self.epochs(run_id, rows, entries.read_samples(folder))

    def epochs(self, run_id: str, rows: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]] = ()) -> None:
        """Log finished epochs (losses, learning rates, mAP) and samples of the machine, as far as they are new."""
        new = self._new(run_id, rows, samples)
        self._send(run_id, metrics=_metrics(new))
        self._sent.setdefault(run_id, set()).update(new)

    def publish(self, folder: Path, parent: str | None = None) -> str:
        """Send a trial's whole record; return the run's id."""
        record = load_record(folder)
        with one_at_a_trial(self._root, record["signature"]):
            return self._publish(folder, record, parent)

    def _publish(self, folder: Path, record: Mapping[str, Any], parent: str | None) -> str:
        from mlflow.entities import Metric

        rows = record.get("history", [])
        params = {**entries.parameters(record.get("config", {})), **entries.realised_parameters(record)}
        run = self._client.get_run(self._run_of(folder, record, parent, rows))
        if any(run.data.params.get(name, params[name]) != params[name] for name in params if _is_realised(name)):
            self._client.delete_run(run.info.run_id)  # parameters cannot change: it tells of another training
            run = self._client.get_run(self._new_run(record, parent))
        run_id = str(run.info.run_id)
        tags = {**entries.outcome_tags(record), **self._sweep_tags(run.data.tags, parent)}
        for name in entries.FAILURE_TAGS:  # a trial that failed before and was tried again keeps its run
            if name in run.data.tags and name not in tags:
                self._client.delete_tag(run_id, name)
        ended = entries.milliseconds(record["finished"], default=int(time.time() * 1000))
        final = [Metric(name, value, ended, 0) for name, value in entries.final_metrics(record).items()]
        metrics = [*_metrics(self._new(run_id, rows, entries.read_samples(folder))), *final]
        self._send(run_id, metrics, _lacking(run.data.params, params), tags)
        self._inputs.log_datasets(run, [record])
        self._inputs.log_model(run, record)
        if self._artifacts:
            for file, place in entries.trial_files(folder, record):
                self._client.log_artifact(run_id, str(file), place)
        finished = record["status"] == "finished"
        self._client.set_terminated(run_id, "FINISHED" if finished else "FAILED", end_time=ended)
        self._link(folder, run_id, "complete", parent)
        self._sent.pop(run_id, None)
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

    # -- sweeps -----------------------------------------------------------------------------------------------------

    def open_sweep(self, name: str, command: str, run_id: str | None = None) -> str:
        """Open the parent run of a sweep, or take up the one it has; return its id."""
        if run_id is None or not self._exists(run_id):
            tags = {**common_tags(), "ablate.kind": "sweep", "ablate.sweep": name, "ablate.command": command}
            run_id = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        self._client.update_run(run_id, status="RUNNING")
        return str(run_id)

    def close_sweep(self, run_id: str, directory: Path, signatures: Sequence[str], note: str, failed: bool) -> None:
        """Give a sweep's parent run what its trials share, its table and report, and its end."""
        from mlflow.entities import Metric

        trials = directory.parent.parent / "trials"
        for signature in signatures:
            self._join(trials / signature, directory.name)
        told = summary.of_sweep(directory)
        for signature, kind in told.controls.items():
            link = read_link(trials / signature)
            if link.get("uri") == self.uri and link.get("run_id"):
                self._client.set_tag(link["run_id"], "ablate.control", kind)
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in told.metrics.items()]
        run = self._client.get_run(run_id)
        self._send(run_id, metrics, _lacking(run.data.params, told.shared), {**told.tags, entries.NOTE: note})
        self._inputs.log_datasets(run, told.trained)
        if self._artifacts:
            self._log_table(run_id, told.table)
            for file in sorted(directory.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    self._client.log_artifact(run_id, str(file), "report" if file.suffix != ".json" else None)
                elif file.is_dir():
                    self._client.log_artifacts(run_id, str(file), f"report/{file.name}")
        self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def _log_table(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the comparison as one of MLflow's tables; `log_table` appends, so a later one replaces the file."""
        import pandas as pd

        if not rows:
            return
        frame = pd.DataFrame(rows)
        if any(file.path == summary.TABLE for file in self._client.list_artifacts(run_id)):
            self._client.log_text(run_id, frame.to_json(orient="split", index=False), summary.TABLE)
        else:
            self._client.log_table(run_id, frame, summary.TABLE)

    def _join(self, folder: Path, sweep: str) -> None:
        """Say of a trial's run that it belongs to a sweep too, unless it is known to say so."""
        link = read_link(folder)
        if link.get("uri") != self.uri or not link.get("run_id") or sweep in link.get("sweeps", []):
            return
        names = self._client.get_run(link["run_id"]).data.tags.get("ablate.sweeps", "").split()
        if sweep not in names:
            self._client.set_tag(link["run_id"], "ablate.sweeps", " ".join([*names, sweep]))
        atomic_write_json(folder / LINK, {**link, "sweeps": [*link.get("sweeps", []), sweep]})

    # -- finding and making -----------------------------------------------------------------------------------------

    def _find_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        now = int(time.time() * 1000)
        if found is None:
            # without a server MLflow would put files into the folder where the command was given
            place = (self._root.absolute() / "mlartifacts").as_uri() if is_database(self.uri) else None
            try:
                return str(self._client.create_experiment(name, artifact_location=place, tags=experiment_tags(now)))
            except MlflowException:  # another command made it in this moment
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        for key, value in experiment_tags(now, found.tags).items():
            self._client.set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)

    def _run_of(
        self, folder: Path, header: Mapping[str, Any], parent: str | None, rows: Sequence[Mapping[str, Any]]
    ) -> str:
        """Return the one run of a trial: the linked one, else the one with its signature, else a new one.

        A run cannot forget: where it holds epochs of an earlier try and this one began anew, it goes to MLflow's bin.
        """
        with one_at_a_time(self._root):  # two commands that look at once would both find none
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
        tags = {**common_tags(), **entries.trial_tags(header), **self._sweep_tags({}, parent)}
        if parent:
            tags["mlflow.parentRunId"] = parent
        start = entries.milliseconds(header.get("started"), default=int(time.time() * 1000))
        run = self._client.create_run(self._experiment, start_time=start, run_name=header["name"], tags=tags)
        return str(run.info.run_id)

    def _sweep_tags(self, known: Mapping[str, str], parent: str | None) -> dict[str, str]:
        """Return the tags that name the sweep that trains a trial, and all that it is part of."""
        if parent is None:
            return {}
        name = self._sweep_of(parent)
        names = [*known.get("ablate.sweeps", "").split(), name]
        return {"ablate.sweep": known.get("ablate.sweep", name), "ablate.sweeps": " ".join(dict.fromkeys(names))}

    def _sweep_of(self, parent: str) -> str:
        if parent not in self._sweeps:
            self._sweeps[parent] = self._client.get_run(parent).data.tags.get("ablate.sweep", parent)
        return self._sweeps[parent]

    def _link(self, folder: Path, run_id: str, state: str, parent: str | None = None) -> None:
        known = read_link(folder)
        sweeps = known.get("sweeps", []) if known.get("run_id") == run_id else []
        if parent is not None:
            sweeps = list(dict.fromkeys([*sweeps, self._sweep_of(parent)]))
        atomic_write_json(folder / LINK, {"run_id": run_id, "uri": self.uri, "state": state, "sweeps": sweeps})

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    # -- sending ----------------------------------------------------------------------------------------------------

    def _send(
        self,
        run_id: str,
        metrics: Sequence[Any] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags in as few requests as MLflow's limits allow."""
        from mlflow.entities import Param, RunTag

        rest = list(metrics), [Param(*p) for p in (params or {}).items()], [RunTag(*t) for t in (tags or {}).items()]
        while any(rest):
            first = [part[:limit] for part, limit in zip(rest, LIMITS, strict=True)]
            self._client.log_batch(run_id, *first)
            rest = rest[0][LIMITS[0] :], rest[1][LIMITS[1] :], rest[2][LIMITS[2] :]

    def _new(self, run_id: str, rows: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]]) -> _Points:
        """Return the points of curves that this process has not sent yet; a store that holds one ignores it."""
        sent = self._sent.get(run_id, set())
        points = {("epoch", int(row["epoch"]), int(row["time"] * 1000)): entries.epoch_metrics(row) for row in rows}
        points |= {
            ("sample", int(sample["step"]), int(sample["time"] * 1000)): entries.sample_metrics(sample)
            for sample in samples
        }
        return {point: values for point, values in points.items() if point not in sent}


def _metrics(points: _Points) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(name, value, moment, step)
        for (_, step, moment), values in points.items()
        for name, value in values.items()
    ]


def _lacking(known: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if name not in known}


def _is_realised(name: str) -> bool:
    return name.startswith("realised.")


def read_link(folder: Path) -> dict[str, Any]:
    """Return what is known of a trial's MLflow run; empty where nothing is."""
    return load_object(folder / LINK)


def common_tags() -> dict[str, str]:
    """Return the tags that everything of ours in MLflow has."""
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
