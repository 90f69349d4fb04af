"""Sending records to MLflow.

Results are on disk before they are sent. Everything here can be repeated: a trial has one run, which is found again by
its signature, and what the run has already is not sent twice. A value that the store refuses does not keep the rest of
a record from being sent; the tag `ablate.not_recorded` and `Store.take_refusals` list what is missing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ablate.analysis.table_summary import TableSummary
from ablate.records.loading import DamagedRecordError, load_record, load_run_link, save_run_link
from ablate.records.machine_sample import MachineSample
from ablate.records.metrics import EpochRow
from ablate.records.run_link import RunLink
from ablate.records.store_address import (
    artifacts_uri,
    is_database,
    own_database,
    sqlite_file,
    tracking_uri,
    without_account,
)
from ablate.records.trial_record import FINISHED, SHORT, TrialHeader, TrialRecord
from ablate.safe_text import one_line
from ablate.settings.environment import prepare
from ablate.storage.content_hash import content_hash
from ablate.storage.layout import OutputFolder, SweepFolder, TrialFolder
from ablate.tracking import mlflow_payload as payload
from ablate.tracking import parent_run
from ablate.tracking.artifact_folders import own_place
from ablate.tracking.curve_points import KINDS, Point, Points, metrics_of, points_of, stored_times
from ablate.tracking.finding_runs import find_run, is_run
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
        artifacts: Whether to log files (checkpoint, plots, reports); with `diff` git.diff too.
    """

    def __init__(
        self, root: Path, uri: str | None = None, experiment: str = "ablate", artifacts: bool = True, diff: bool = False
    ) -> None:
        prepare()
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        for name in ("alembic", "mlflow", "mlflow.store.db.utils", "mlflow.tracking"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they print the traceback of an error that is caught
        address = tracking_uri(root, uri)
        self.uri = without_account(address) if uri else address  # as trials' links name this store
        self._root = root
        self._artifacts, self._diff = artifacts, diff
        self._is_own = sqlite_file(address) == own_database(root)
        root.mkdir(parents=True, exist_ok=True)
        self._client = open_client(address, root)
        # Without a server MLflow would put files into the folder where the command was given.
        place = artifacts_uri(root) if is_database(self.uri) else None
        self._experiment = find_experiment(self._client, experiment, place)
        self._made = self._client.get_experiment(self._experiment).creation_time
        self._sender = Sender(self._client)
        self._sent: dict[str, set[Point]] = {}  # run -> epochs and samples that it is known to have
        self._sweeps: dict[str, str] = {}  # parent run -> its sweep's name
        self._inputs = Inputs(self._client, self._experiment, root, payload.common_tags())

    def take_refusals(self) -> list[Refusal]:
        """Return what the store refused since the last call."""
        return self._sender.take()

    # -- trials -----------------------------------------------------------------------------------------------------

    def begin(self, folder: Path, header: TrialHeader, parent: str | None, rows: Sequence[EpochRow] = ()) -> str:
        """Open the run of a trial that starts now, or continue its existing run; return the run's id."""
        with one_at_a_trial(self._root, header.signature):  # MLflow refuses a parameter that another wrote just now
            return self._begin(folder, header, parent, rows)

    def _begin(self, folder: Path, header: TrialHeader, parent: str | None, rows: Sequence[EpochRow]) -> str:
        name = _name(header, folder)
        run_id = self._run_of(folder, header, parent, points_of(rows, ()))
        self._client.update_run(run_id, status="RUNNING")
        run = self._client.get_run(run_id)
        params = _new_entries(run.data.params, payload.parameters(header.config))
        self._sender.send(run_id, name, params=params, tags=_new_entries(run.data.tags, payload.trial_tags(header)))
        self._sender.attempt(name, "the data set", self._inputs.log_datasets, run, [header])
        self._link(folder, run_id, "running", parent)
        return run_id

    def stop(self, folder: Path) -> None:
        """Mark the run of a trial that was stopped while it ran; the trial will continue in the same run."""
        link = load_run_link(TrialFolder(folder))
        run_id = self._linked_run(link)
        if run_id is not None and link.state == "running":
            self._client.set_terminated(run_id, "KILLED")
            self._link(folder, run_id, "stopped")

    def follow(self, folder: Path, header: TrialHeader, parent: str | None, rows: Sequence[EpochRow]) -> None:
        """Log epochs of a trial that runs; the first call opens its run, or continues its existing run."""
        link = load_run_link(TrialFolder(folder))
        run_id = self._linked_run(link) if link.state == "running" else None
        run_id = run_id or self.begin(folder, header, parent, rows)
        self.epochs(run_id, rows, payload.read_samples(folder), _name(header, folder))

    def epochs(
        self,
        run_id: str,
        rows: Sequence[EpochRow],
        samples: Sequence[MachineSample] = (),
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
        points = points_of(record.history, payload.read_samples(folder))
        params = {**payload.parameters(record.config), **payload.realised_parameters(record)}
        run = self._client.get_run(self._run_of(folder, record, parent, points))
        if any(run.data.params.get(key, params[key]) != params[key] for key in params if _is_realised(key)):
            self._client.delete_run(run.info.run_id)  # parameters cannot change: the run is of another training
            run = self._client.get_run(self._new_run(record, parent))
        run_id = str(run.info.run_id)
        ended = payload.milliseconds(record.finished, default=run.info.end_time or int(time.time() * 1000))
        try:
            attempt(name, "its numbers", self._send_record, run, name, record, points, ended, parent)
            attempt(name, "the data set", self._inputs.log_datasets, run, [record])
            attempt(name, "the model", self._inputs.log_model, run, record)
            keeps = self._keeps_files(run, name)
            for file, place in payload.trial_files(folder, record, with_diff=self._diff) if keeps else ():
                self._log_file(run_id, name, file, place)
            self._sender.tag_refusals(run, name, before)
        finally:  # else the run would be shown as running for ever
            self._client.set_terminated(run_id, "FINISHED" if record.status == FINISHED else "FAILED", end_time=ended)
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
            **_new_entries(run.data.tags, payload.trial_tags(record)),
            **payload.outcome_tags(record),
            **self._sweep_tags(run.data.tags, parent),
        }
        for key in payload.FAILURE_TAGS:  # a trial that failed before and was tried again keeps its run
            if key in run.data.tags and key not in tags:
                self._client.delete_tag(run_id, key)
        params = {**payload.parameters(record.config), **payload.realised_parameters(record)}
        stored = run.data.metrics
        final = [
            Metric(key, value, ended, 0)
            for key, value in payload.final_metrics(record).items()
            if stored.get(key) != value
        ]
        metrics = [*metrics_of(self._new(run_id, points)), *final]
        self._sender.send(run_id, name, metrics, _new_entries(run.data.params, params), tags)

    def _keeps_files(self, run: Any, name: str) -> bool:
        """Tell whether a run's files are to be sent: not where a store of ours would put them elsewhere."""
        if not (self._artifacts and self._is_own):
            return self._artifacts
        return self._sender.attempt(name, "its files", own_place, run.info.artifact_uri, self._root) is not None

    def _log_file(self, run_id: str, name: str, file: Path, place: str | None) -> None:
        self._sender.attempt(name, f"the file {file.name}", self._client.log_artifact, run_id, str(file), place)

    def publish_missing(
        self, root: Path, parent: str | None = None, children: Container[str] = frozenset()
    ) -> list[str]:
        """Send every record on disk that this store does not have completely.

        Args:
            root: The output folder.
            parent: The run of a sweep.
            children: Signatures of the trials of that sweep.

        Returns:
            The signatures of the records that were sent.
        """
        sent = []
        for files in OutputFolder(root).trial_folders():
            folder, link = files.path, load_run_link(files)
            complete = link.state == "complete" and self._linked_run(link) is not None
            if complete or not files.result.is_file():
                continue
            with suppress(DamagedRecordError, FileNotFoundError):  # it will be trained again; there is nothing to send
                if self.publish(folder, parent if folder.name in children else None) is not None:
                    sent.append(folder.name)
        return sent

    # -- sweeps -----------------------------------------------------------------------------------------------------

    def open_sweep(self, name: str, command: str, run_id: str | None = None) -> str:
        """Open the parent run of a sweep, or continue its existing run; return the run's id."""
        if run_id is None or not is_run(self._client, run_id, "ablate.sweep", name):
            identity = {"ablate.kind": "sweep", "ablate.sweep": name}
            place = {"ablate.root": content_hash(str(self._root.absolute()))}  # a server may have another root's
            run_id = find_run(self._client, self._experiment, identity if self._is_own else {**identity, **place})
        if run_id is None:
            tags = {**payload.common_tags(), **identity, **place, "ablate.command": command[: payload.MAX_TAG]}
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
        """Send what a sweep's trials share, its table and its report to its parent run; end that run."""
        from mlflow.entities import Metric

        files = SweepFolder(directory)
        name, before, attempt = directory.name, len(self._sender.refusals), self._sender.attempt
        for signature in signatures:
            attempt(name, f"its trial {signature[:SHORT]}", self._join, files.trial(signature).path, directory.name)
        summary = parent_run.of_sweep(directory, table)
        for signature, kind in summary.controls.items():
            trial_run = self._linked_run(load_run_link(files.trial(signature)))
            if trial_run is not None:
                what = f"its control {signature[:SHORT]}"
                attempt(name, what, self._client.set_tag, trial_run, "ablate.control", kind)
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, 0) for key, value in summary.metrics.items()]
        run = self._client.get_run(run_id)
        try:
            tags = {**summary.tags, payload.NOTE: note[: payload.MAX_TAG]}
            self._sender.send(run_id, name, metrics, _new_entries(run.data.params, summary.shared), tags)
            attempt(name, "the data sets", self._inputs.log_datasets, run, summary.trained)
            if self._keeps_files(run, name):
                for rows, place_of in (
                    (summary.table, parent_run.TABLE),
                    (summary.test_table, parent_run.TEST_TABLE),
                ):
                    attempt(name, f"the table {place_of}", log_table, self._client, run_id, rows, place_of)
                for file, place in sweep_files(directory):
                    self._log_file(run_id, name, file, place)
            self._sender.tag_refusals(run, name, before)
        finally:
            self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def _join(self, folder: Path, sweep: str) -> None:
        """Tag a trial's run with one more sweep that it belongs to, unless its link lists that sweep."""
        files = TrialFolder(folder)
        link = load_run_link(files)
        run_id = self._linked_run(link)
        if run_id is None or sweep in link.sweeps:
            return
        names = self._client.get_run(run_id).data.tags.get("ablate.sweeps", "").split()
        if sweep not in names:
            self._client.set_tag(run_id, "ablate.sweeps", " ".join([*names, sweep]))
        save_run_link(files, msgspec.structs.replace(link, sweeps=(*link.sweeps, sweep)))

    # -- finding and making -----------------------------------------------------------------------------------------

    def _linked_run(self, link: RunLink) -> str | None:
        """Return the run that a trial's link names; None where there is none, or it is in another store."""
        if not link.uri or not link.run_id or link.store_made not in (None, self._made):
            return None
        is_here = link.uri == self.uri or (self._is_own and sqlite_file(link.uri) == own_database(self._root.resolve()))
        return link.run_id if is_here else None

    def _run_of(self, folder: Path, header: TrialHeader, parent: str | None, points: Points) -> str:
        """Return the one run of a trial: the linked one, else the one with its signature, else a new one.

        Points cannot be removed from a run: one with epochs of an earlier try that was not continued is deleted.
        """
        with one_at_a_time(self._root):  # two commands that search at the same time would both find none
            run_id = self._existing_run(folder, header.signature)
            if run_id is not None and self._has_another_try(run_id, points):
                self._client.delete_run(run_id)
                run_id = None
            return run_id or self._new_run(header, parent)

    def _existing_run(self, folder: Path, signature: str) -> str | None:
        run_id = self._linked_run(load_run_link(TrialFolder(folder)))
        if run_id is not None and is_run(self._client, run_id, "ablate.signature", signature):
            return run_id
        return find_run(self._client, self._experiment, {"ablate.signature": signature})

    def _has_another_try(self, run_id: str, points: Points) -> bool:
        """Tell whether a run has an epoch that these points have too, but with another time.

        Points that the run has are added to `_sent`, so that they are not sent again.
        """
        stored = {kind: stored_times(self._client, run_id, points, kind) for kind in KINDS}
        for kind, step, moment in points:
            if kind == "epoch" and stored[kind].get(step, moment) != moment:
                return True
        in_run = {point for point in points if stored[point[0]].get(point[1]) == point[2]}
        self._sent.setdefault(run_id, set()).update(in_run)
        return False

    def _new_run(self, header: TrialHeader, parent: str | None) -> str:
        identifying = ("ablate.kind", "ablate.signature")  # another tag, refused, would keep the run from being made
        tags = {**payload.common_tags(), **self._sweep_tags({}, parent)}
        tags |= {key: value for key, value in payload.trial_tags(header).items() if key in identifying}
        if parent:
            tags |= {"mlflow.parentRunId": parent}
        started = header.started if isinstance(header, TrialRecord) else None
        start = payload.milliseconds(started, default=int(time.time() * 1000))
        name = one_line(header.name)[: payload.MAX_NAME]
        run = self._client.create_run(self._experiment, start_time=start, run_name=name, tags=tags)
        return str(run.info.run_id)

    def _sweep_tags(self, tags: Mapping[str, str], parent: str | None) -> dict[str, str]:
        """Return the tags that name the sweep that trains a trial, and all that it is part of."""
        if parent is None:
            return {}
        name = self._sweep_of(parent)
        names = [*tags.get("ablate.sweeps", "").split(), name]
        return {"ablate.sweep": tags.get("ablate.sweep", name), "ablate.sweeps": " ".join(dict.fromkeys(names))}

    def _sweep_of(self, parent: str) -> str:
        if parent not in self._sweeps:
            self._sweeps[parent] = self._client.get_run(parent).data.tags.get("ablate.sweep", parent)
        return self._sweeps[parent]

    def _link(self, folder: Path, run_id: str, state: str, parent: str | None = None) -> None:
        files = TrialFolder(folder)
        before = load_run_link(files)
        sweeps = [*before.sweeps] if before.run_id == run_id else []
        if parent is not None:
            sweeps.append(self._sweep_of(parent))
        names = tuple(dict.fromkeys(sweeps))
        link = RunLink(
            run_id=run_id,
            uri=self.uri,
            state=state,
            sweeps=names,
            signature=files.signature,
            store_made=self._made,
        )
        save_run_link(files, link)

    def _new(self, run_id: str, points: Points) -> Points:
        """Return the points of curves that the run is not known to hold."""
        sent = self._sent.get(run_id, set())
        return {point: values for point, values in points.items() if point not in sent}


def _name(record: TrialHeader, folder: Path) -> str:
    """What a trial is called in messages."""
    return record.name or folder.name[:SHORT]


def _new_entries(existing: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if name not in existing}


def _is_realised(name: str) -> bool:
    return name.startswith("realised.")
