"""MLflow: what is recorded, and that training never waits for it.

Results are on disk before MLflow hears of them. Everything here can be repeated: a trial has one run, found again by
its signature, and what it holds already is not sent twice. What the store refuses of a record costs only itself: the
rest is sent, the run ends, a tag of it (`ablate.not_recorded`) and `Store.take_refusals` say what is missing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.analysis.table_summary import TableSummary
from ablate.records.metrics import EpochRow
from ablate.records.records import SHORT, DamagedRecordError, load_object, load_record, mapping, sequence
from ablate.records.store_address import (
    artifacts_uri,
    is_database,
    own_database,
    sqlite_file,
    tracking_uri,
    without_account,
)
from ablate.records.trial_record import TrialHeader, TrialRecord
from ablate.settings.environment import prepare
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import OutputFolder, SweepFolder, TrialFolder
from ablate.tracking import mlflow_payload as entries
from ablate.tracking import parent_run as summary
from ablate.tracking.curve_points import KINDS, Point, Points, held_times, metrics_of, points_of
from ablate.tracking.open_store import find_experiment, open_client
from ablate.tracking.run_inputs import Inputs, one_at_a_time, one_at_a_trial
from ablate.tracking.sending import Sender
from ablate.tracking.store_problems import Refusal
from ablate.tracking.sweep_files import log_table, sweep_files


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
        self.uri = without_account(address) if uri else address  # what links name a store by
        self._root = root
        self._artifacts = artifacts
        self._is_own = sqlite_file(address) == own_database(root)
        root.mkdir(parents=True, exist_ok=True)
        self._client = open_client(address, root)
        # Without a server MLflow would put files into the folder where the command was given.
        place = artifacts_uri(root) if is_database(self.uri) else None
        self._experiment = find_experiment(self._client, experiment, place)
        self._sender = Sender(self._client)
        self._sent: dict[str, set[Point]] = {}  # run -> epochs and samples that it is known to hold
        self._sweeps: dict[str, str] = {}  # parent run -> its sweep's name
        self._inputs = Inputs(self._client, self._experiment, root, common_tags())

    def take_refusals(self) -> list[Refusal]:
        """Return what the store did not take since this was last asked."""
        return self._sender.take()

    # -- trials -----------------------------------------------------------------------------------------------------

    def begin(self, folder: Path, header: TrialHeader, parent: str | None, rows: Sequence[EpochRow] = ()) -> str:
        """Open the run of a trial that starts now, or take up the one it has; return its id."""
        with one_at_a_trial(self._root, header["signature"]):  # MLflow refuses a parameter that another wrote just now
            return self._begin(folder, header, parent, rows)

    def _begin(self, folder: Path, header: TrialHeader, parent: str | None, rows: Sequence[EpochRow]) -> str:
        name = _name(header, folder)
        run_id = self._run_of(folder, header, parent, points_of(rows, ()))
        self._client.update_run(run_id, status="RUNNING")
        run = self._client.get_run(run_id)
        params = _lacking(run.data.params, entries.parameters(mapping(header, "config")))
        self._sender.send(run_id, name, params=params, tags=_lacking(run.data.tags, entries.trial_tags(header)))
        self._sender.attempt(name, "the data set", self._inputs.log_datasets, run, [header])
        self._link(folder, run_id, "running", parent)
        return run_id

    def stop(self, folder: Path) -> None:
        """Say that a trial was stopped while it ran; it will go on in the same run."""
        link = read_link(folder)
        if self._is_ours(link) and link.get("state") == "running":
            self._client.set_terminated(link["run_id"], "KILLED")
            self._link(folder, link["run_id"], "stopped")

    def follow(self, folder: Path, header: TrialHeader, parent: str | None, rows: Sequence[EpochRow]) -> None:
        """Log epochs of a trial that runs; the first ones open its run, or take up the one it has."""
        link = read_link(folder)
        running = link.get("state") == "running" and self._is_ours(link)
        run_id = str(link["run_id"]) if running else self.begin(folder, header, parent, rows)
        self.epochs(run_id, rows, entries.read_samples(folder), _name(header, folder))

    def epochs(
        self,
        run_id: str,
        rows: Sequence[EpochRow],
        samples: Sequence[Mapping[str, Any]] = (),
        name: str = "",
    ) -> None:
        """Log finished epochs (losses, learning rates, mAP) and samples of the machine, as far as they are new."""
        new = self._new(run_id, points_of(rows, samples))
        self._sender.send(run_id, name or run_id, metrics_of(new))
        self._sent.setdefault(run_id, set()).update(new)

    def publish(self, folder: Path, parent: str | None = None) -> str | None:
        """Send a trial's whole record; return the run's id, or None where the record as a whole is refused.

        Raises:
            FileNotFoundError: There is no record.
            DamagedRecordError: It cannot be read.
        """
        record = load_record(folder)

        def send() -> str:
            with one_at_a_trial(self._root, folder.name):
                return self._publish(folder, record, parent)

        run_id: str | None = self._sender.attempt(_name(record, folder), "the record", send)
        return run_id

    def _publish(self, folder: Path, record: TrialRecord, parent: str | None) -> str:
        name, before, attempt = _name(record, folder), len(self._sender.refusals), self._sender.attempt
        points = points_of(record.history, entries.read_samples(folder))
        params = {**entries.parameters(mapping(record, "config")), **entries.realised_parameters(record)}
        run = self._client.get_run(self._run_of(folder, record, parent, points))
        if any(run.data.params.get(key, params[key]) != params[key] for key in params if _is_realised(key)):
            self._client.delete_run(run.info.run_id)  # parameters cannot change: it tells of another training
            run = self._client.get_run(self._new_run(record, parent))
        run_id = str(run.info.run_id)
        finished = record.get("status") == "finished"
        ended = entries.milliseconds(record.get("finished"), default=run.info.end_time or int(time.time() * 1000))
        try:
            attempt(name, "its numbers", self._send_record, run, name, record, points, ended, parent)
            attempt(name, "the data set", self._inputs.log_datasets, run, [record])
            attempt(name, "the model", self._inputs.log_model, run, record)
            for file, place in entries.trial_files(folder, record) if self._artifacts else ():
                self._log_file(run_id, name, file, place)
            self._tell_refusals(run, name, before)
        finally:  # a run that says that it runs would do so for good
            self._client.set_terminated(run_id, "FINISHED" if finished else "FAILED", end_time=ended)
        again = any(refusal.again for refusal in self._sender.refusals[before:])
        self._link(folder, run_id, "incomplete" if again else "complete", parent)
        self._sent.pop(run_id, None)
        return run_id

    def _send_record(
        self, run: Any, name: str, record: TrialRecord, points: Points, ended: int, parent: str | None
    ) -> None:
        """Send parameters, tags and metrics, as far as the run does not have them."""
        from mlflow.entities import Metric

        run_id = run.info.run_id
        tags = {
            **_lacking(run.data.tags, entries.trial_tags(record)),
            **entries.outcome_tags(record),
            **self._sweep_tags(run.data.tags, parent),
        }
        for key in entries.FAILURE_TAGS:  # a trial that failed before and was tried again keeps its run
            if key in run.data.tags and key not in tags:
                self._client.delete_tag(run_id, key)
        params = {**entries.parameters(mapping(record, "config")), **entries.realised_parameters(record)}
        known = run.data.metrics
        final = [
            Metric(key, found, ended, 0)
            for key, found in entries.final_metrics(record).items()
            if known.get(key) != found
        ]
        metrics = [*metrics_of(self._new(run_id, points)), *final]
        self._sender.send(run_id, name, metrics, _lacking(run.data.params, params), tags)

    def _log_file(self, run_id: str, name: str, file: Path, place: str | None) -> None:
        self._sender.attempt(name, f"the file {file.name}", self._client.log_artifact, run_id, str(file), place)

    def _tell_refusals(self, run: Any, name: str, before: int) -> None:
        """Say in a tag of a run what the store did not take of its record; forget what was said before."""
        run_id, tag = run.info.run_id, entries.NOT_RECORDED
        refusals = self._sender.refusals[before:]
        if refusals:
            text = "; ".join(f"{refusal.what}: {refusal.reason}" for refusal in refusals)[: entries.MAX_TAG]
            self._sender.attempt(name, f"the tag {tag}", self._client.set_tag, run_id, tag, text)
        elif tag in run.data.tags:
            self._sender.attempt(name, f"the tag {tag}", self._client.delete_tag, run_id, tag)

    def publish_missing(
        self, root: Path, parent: str | None = None, children: Container[str] = frozenset()
    ) -> list[str]:
        """Send every record on disk that this store does not hold completely.

        Args:
            root: The output folder.
            parent: The run of a sweep.
            children: Signatures of the trials of that sweep.

        Returns:
            The signatures of the records that were sent.
        """
        sent = []
        for files in OutputFolder(root).trial_folders():
            folder, link = files.path, read_link(files.path)
            complete = link.get("state") == "complete" and self._is_ours(link)
            if complete or not files.result.is_file():
                continue
            with suppress(DamagedRecordError, FileNotFoundError):  # it will be trained again; there is nothing to send
                if self.publish(folder, parent if folder.name in children else None) is not None:
                    sent.append(folder.name)
        return sent

    # -- sweeps -----------------------------------------------------------------------------------------------------

    def open_sweep(self, name: str, command: str, run_id: str | None = None) -> str:
        """Open the parent run of a sweep, or take up the one it has; return its id."""
        if run_id is None or not self._exists(run_id):
            shown = command[: entries.MAX_TAG]
            tags = {**common_tags(), "ablate.kind": "sweep", "ablate.sweep": name, "ablate.command": shown}
            run_id = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        self._client.update_run(run_id, status="RUNNING")
        return str(run_id)

    def close_sweep(
        self,
        run_id: str,
        directory: Path,
        signatures: Sequence[str],
        note: str,
        table: TableSummary,
        failed: bool,
    ) -> None:
        """Give a sweep's parent run what its trials share, its table and report, and its end."""
        from mlflow.entities import Metric

        files = SweepFolder(directory)
        name, before, attempt = directory.name, len(self._sender.refusals), self._sender.attempt
        for signature in signatures:
            attempt(name, f"its trial {signature[:SHORT]}", self._join, files.trial(signature).path, directory.name)
        told = summary.of_sweep(directory, table)
        for signature, kind in told.controls.items():
            link = read_link(files.trial(signature).path)
            if self._is_ours(link):
                what = f"its control {signature[:SHORT]}"
                attempt(name, what, self._client.set_tag, link["run_id"], "ablate.control", kind)
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, 0) for key, value in told.metrics.items()]
        run = self._client.get_run(run_id)
        try:
            tags = {**told.tags, entries.NOTE: note[: entries.MAX_TAG]}
            self._sender.send(run_id, name, metrics, _lacking(run.data.params, told.shared), tags)
            attempt(name, "the data sets", self._inputs.log_datasets, run, told.trained)
            if self._artifacts:
                attempt(name, "the table", log_table, self._client, run_id, told.table)
                for file, place in sweep_files(directory):
                    self._log_file(run_id, name, file, place)
            self._tell_refusals(run, name, before)
        finally:
            self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def _join(self, folder: Path, sweep: str) -> None:
        """Say of a trial's run that it belongs to a sweep too, unless it is known to say so."""
        link = read_link(folder)
        if not self._is_ours(link) or sweep in sequence(link, "sweeps"):
            return
        names = self._client.get_run(link["run_id"]).data.tags.get("ablate.sweeps", "").split()
        if sweep not in names:
            self._client.set_tag(link["run_id"], "ablate.sweeps", " ".join([*names, sweep]))
        atomic_write_json(TrialFolder(folder).run_link, {**link, "sweeps": [*link.get("sweeps", []), sweep]})

    # -- finding and making -----------------------------------------------------------------------------------------

    def _is_ours(self, link: Mapping[str, Any]) -> bool:
        """Tell whether a trial's link is to a run of this store."""
        uri = link.get("uri")
        if not uri or not link.get("run_id"):
            return False
        return uri == self.uri or (self._is_own and sqlite_file(str(uri)) == own_database(self._root.resolve()))

    def _run_of(self, folder: Path, header: TrialHeader, parent: str | None, points: Points) -> str:
        """Return the one run of a trial: the linked one, else the one with its signature, else a new one.

        A run cannot forget: where it holds epochs of an earlier try and this one began anew, it goes to MLflow's bin.
        """
        with one_at_a_time(self._root):  # two commands that look at once would both find none
            known = self._known_run(folder, header["signature"])
            if known is not None and self._holds_another_try(known, points):
                self._client.delete_run(known)
                known = None
            return known or self._new_run(header, parent)

    def _known_run(self, folder: Path, signature: str) -> str | None:
        link = read_link(folder)
        if self._is_ours(link) and self._exists(link["run_id"]):
            return str(link["run_id"])
        found = self._client.search_runs([self._experiment], f"tags.`ablate.signature` = '{signature}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _holds_another_try(self, run_id: str, points: Points) -> bool:
        """Tell whether a run has an epoch that these points have too, but finished at another time.

        What it holds of these points is remembered: a record that is sent again sends nothing twice.
        """
        held = {kind: held_times(self._client, run_id, points, kind) for kind in KINDS}
        times = {step: moment for kind, step, moment in points if kind == "epoch"}
        if any(times.get(step, moment) != moment for step, moment in held["epoch"].items()):
            return True
        have = {point for point in points if held[point[0]].get(point[1]) == point[2]}
        self._sent.setdefault(run_id, set()).update(have)
        return False

    def _new_run(self, header: TrialHeader, parent: str | None) -> str:
        known_by = ("ablate.kind", "ablate.signature")  # a name that is refused must not keep the run from being made
        tags = {**common_tags(), **self._sweep_tags({}, parent)}
        tags |= {key: found for key, found in entries.trial_tags(header).items() if key in known_by}
        if parent:
            tags["mlflow.parentRunId"] = parent
        start = entries.milliseconds(header.get("started"), default=int(time.time() * 1000))
        name = str(header.get("name"))[: entries.MAX_NAME]
        run = self._client.create_run(self._experiment, start_time=start, run_name=name, tags=tags)
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
        atomic_write_json(
            TrialFolder(folder).run_link, {"run_id": run_id, "uri": self.uri, "state": state, "sweeps": sweeps}
        )

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _new(self, run_id: str, points: Points) -> Points:
        """Return the points of curves that the run is not known to hold."""
        sent = self._sent.get(run_id, set())
        return {point: values for point, values in points.items() if point not in sent}


def _name(record: TrialHeader, folder: Path) -> str:
    """What a trial is called in messages."""
    return str(record.get("name") or folder.name[:SHORT])


def _lacking(known: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if name not in known}


def _is_realised(name: str) -> bool:
    return name.startswith("realised.")


def read_link(folder: Path) -> dict[str, Any]:
    """Return what is known of a trial's MLflow run; empty where nothing is."""
    return load_object(TrialFolder(folder).run_link)


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
