"""Jobs as Slurm jobs, or as processes that imitate them on this machine, through submitit.

A job that reaches its time limit, or makes room for another, is put back into the queue by submitit with the same call;
that call finds on disk what was done before. The driver may end: submitted jobs run without it.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ablate.launching.devices import Slot
from ablate.launching.jobs import BUSY, Outcome, exception_outcome
from ablate.launching.remote import NoCluster, WorkerContext, run_in_context

SHARED = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name")
OURS = ("submitit_folder", "max_num_timeout")  # not parameters of a submission
POLL = 0.5  # seconds between two looks at the folder
QUERY = 60.0  # seconds between two queries of Slurm's accounting, for all jobs at once
LATE = 15.0  # seconds that a file may need to cross a network file system

logger = logging.getLogger(__name__)


@dataclass
class _Submitted:
    job: Any
    future: Future[Outcome]
    ended: float | None = None  # when the job was first seen to have ended without a result


class SubmititBackend:
    """Jobs of a Slurm cluster (`slurm`), or processes of this machine in submitit's own way (`local`).

    Args:
        cluster: ``slurm`` or ``local``.
        parameters: As hydra-submitit-launcher names them: ``submitit_folder``, ``timeout_min``, ``partition``...
        cores: CPU cores of this machine, shared out where the cluster is ``local``.
        device: ``cpu`` keeps GPUs away from the jobs.

    Raises:
        NoCluster: On entering, or with the first job: there is no Slurm here, or it refuses such jobs.
    """

    def __init__(self, cluster: str, parameters: Mapping[str, Any], *, cores: int = 1, device: str = "auto") -> None:
        self._cluster, self._parameters = cluster, dict(parameters)
        gpus = 0 if device == "cpu" else _gpus(parameters)
        cpus = _cpus(parameters, gpus)
        usual = 1 if gpus else max(cores // cpus, 1)
        count = int(parameters.get("array_parallelism") or usual)
        self._slots = [Slot(f"{cluster} {number + 1}") for number in range(count)]
        self._task = _Task(cluster, WorkerContext.of_driver(cpus=cpus, gpus=gpus), self._limit_text())
        self._submitted: dict[Slot, _Submitted] = {}
        self._lock = threading.Lock()  # submitit's objects are shared with the thread that follows the jobs
        self._stop = threading.Event()
        self._accepted = False

    def __enter__(self) -> SubmititBackend:
        self._executor = self._make_executor()
        self._follower = threading.Thread(target=self._follow, daemon=True, name="submitit")
        self._follower.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None = None, *rest: Any) -> None:
        self._stop.set()
        self._follower.join()
        left = [entry.job.job_id for entry in self._submitted.values() if not entry.future.done()]
        if self._cluster == "local":
            for slot in list(self._submitted):
                self.stop(slot)
        elif left and error is not None:
            error.add_note(f"Slurm goes on with {', '.join(left)}; to end them too: scancel {' '.join(left)}")

    def slots(self) -> list[Slot]:
        """Return a slot for each job that may be in the queue, or run, at a time."""
        return self._slots

    def submit(self, slot: Slot, function: str, payload: Any) -> Future[Outcome]:
        """Hand a job to the cluster."""
        future: Future[Outcome] = Future()
        try:
            with self._lock:
                job = self._executor.submit(self._task, function, payload)
        except Exception as error:
            if not self._accepted:
                raise NoCluster(f"hydra/launcher={self._cluster}: the job was refused: {_last_line(error)}") from error
            logger.info("the job for slot %s was refused for now: %s", slot, _last_line(error))
            future.set_result(Outcome(result=BUSY))  # the queue is full for this user, or does not answer just now
            return future
        logger.info("slot %s is job %s of %s", slot, job.job_id, self._cluster)
        self._accepted = True
        self._submitted[slot] = _Submitted(job, future)
        return future

    def stop(self, slot: Slot, future: Future[Outcome] | None = None) -> None:
        """End a job, running or waiting."""
        entry = self._submitted.pop(slot, None)
        if entry is None or entry.future.done():
            return
        if self._cluster == "local":
            _kill_tree(int(entry.job.job_id))
        else:
            with self._lock:
                entry.job.cancel(check=False)

    def explain(self, error: BaseException) -> Outcome:
        """Return how a job ended that gave no result."""
        return exception_outcome(error)

    def _make_executor(self) -> Any:
        import submitit

        folder = self._parameters["submitit_folder"]
        timeouts = {f"{self._cluster}_max_num_timeout": int(self._parameters.get("max_num_timeout") or 0)}
        submission = {
            name if name in (*SHARED, "stderr_to_stdout") else f"{self._cluster}_{name}": value
            for name, value in self._parameters.items()
            if name not in OURS
        }
        try:
            executor = submitit.AutoExecutor(folder, self._cluster, **timeouts)
            executor.update_parameters(**submission)
        except (AssertionError, NameError, RuntimeError, ValueError) as error:
            raise NoCluster(f"hydra/launcher={self._cluster}: {_last_line(error)}") from error
        return executor

    def _limit_text(self) -> str:
        times = self._parameters.get("max_num_timeout") or 0
        again = f", and had been continued {times} times (max_num_timeout)" if times else ""
        return f"it took longer than its limit of {self._parameters.get('timeout_min')} minutes{again}"

    def _follow(self) -> None:
        """Set futures as their jobs end, until stopped (runs in a thread)."""
        queried = time.monotonic()
        while not self._stop.wait(POLL):
            entries = [entry for entry in list(self._submitted.values()) if not entry.future.done()]
            if entries and time.monotonic() - queried > QUERY:
                queried = time.monotonic()
                with self._lock:
                    entries[0].job.get_info(mode="force")  # queries all jobs
            for entry in entries:
                with self._lock:
                    outcome = self._outcome(entry)
                if outcome is not None:
                    entry.future.set_result(outcome)

    def _outcome(self, entry: _Submitted) -> Outcome | None:
        """Return how a job ended; None while it has not, or may have but its result has not arrived."""
        job = entry.job
        preempted = job.state == "PREEMPTED"  # about to be queued again, or else at its end
        if not (job.done() or preempted):
            entry.ended = None
            return None
        if job.paths.result_pickle.exists():
            try:
                outcome: Outcome = job.result()
            except Exception as error:  # it failed before our code ran
                return Outcome(failure="code", message=f"{_last_line(error)} (log: {job.paths.stderr})")
            return outcome
        entry.ended = entry.ended or time.monotonic()
        wait = 2 * QUERY if preempted else LATE if self._cluster == "slurm" else 0.0
        if time.monotonic() - entry.ended < wait:
            return None
        return _unfinished_outcome(job, self._cluster, self._limit_text())


class _Task:
    """What submitit runs, and puts back into the queue."""

    def __init__(self, cluster: str, context: WorkerContext, limit: str) -> None:
        self._cluster, self._context, self._limit = cluster, context, limit

    def __call__(self, function: str, payload: Any) -> Outcome:
        _handle_cluster_signals(self._cluster)
        try:
            return run_in_context(self._context, function, payload)
        except _OutOfTime:
            return Outcome(failure="timeout", message=self._limit)

    def checkpoint(self, *arguments: Any) -> Any:
        """Return what is to run when the job comes out of the queue again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class _OutOfTime(BaseException):
    """The time limit was reached once too often; not to be caught as a failure of the job's own code."""


def _handle_cluster_signals(cluster: str) -> None:
    """Keep the cluster's signals from being recorded as failures of the job's own code (runs where the job runs).

    submitit handles the signal to requeue; where it may not requeue, that is no error of the job's code. With SIGTERM,
    Slurm announces to all processes of the job that it will kill it, and requeue it if it was preempted. A data loader
    then dies first and the job would fail of that, so the job waits for the kill.
    """
    from submitit.core.utils import UncompletedJobError

    back = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}")
    requeue: Any = signal.getsignal(back)

    def go_back(number: int, frame: FrameType | None) -> None:
        try:
            requeue(number, frame)
        except UncompletedJobError as error:
            raise _OutOfTime from error

    def wait_for_sigkill(number: int, frame: FrameType | None) -> None:
        if cluster == "local":
            os._exit(128 + number)  # no SIGKILL follows here
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises an error when a data loader dies
        while True:
            signal.pause()  # `go_back` still runs

    def forked() -> None:
        signal.signal(back, signal.SIG_IGN)  # it would ask for the requeue a second time
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(back, go_back)
    signal.signal(signal.SIGTERM, wait_for_sigkill)
    os.register_at_fork(after_in_child=forked)


def _unfinished_outcome(job: Any, cluster: str, limit: str) -> Outcome:
    state = str(job.state).upper()
    if state.startswith("OUT_OF_ME"):
        return Outcome(failure="out_of_memory", message=f"Slurm ended job {job.job_id} for lack of memory (mem_gb)")
    if state.startswith("TIMEOUT"):
        return Outcome(failure="timeout", message=limit)
    detail = f"Slurm job {job.job_id}: {state.lower()}; " if cluster == "slurm" else ""
    return Outcome(failure="killed", message=f"the worker process died ({detail}log: {job.paths.stderr})")


def _gpus(parameters: Mapping[str, Any]) -> int:
    """Return how many GPUs a job has."""
    for name in ("gpus_per_node", "gpus_per_task"):
        if parameters.get(name):
            return int(parameters[name])
    match = re.search(r"gpu(?::[a-zA-Z][^:,]*)?(?::(\d+))?", str(parameters.get("gres") or ""))
    return int(match[1] or 1) if match else 0


def _cpus(parameters: Mapping[str, Any], gpus: int) -> int:
    """Return how many cores a job has; Slurm gives one by default."""
    return int(parameters.get("cpus_per_task") or (parameters.get("cpus_per_gpu") or 0) * gpus or 1)


def _kill_tree(process: int) -> None:
    import psutil

    with suppress(psutil.Error):
        controller = psutil.Process(process)
        for member in [controller, *controller.children(recursive=True)]:
            with suppress(psutil.Error):
                member.kill()


def _last_line(error: BaseException) -> str:
    """Return the line of submitit's long messages that names the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    reasons = [line for line in lines if not line.startswith(("You can check", "- /"))]
    return reasons[-1] if reasons else type(error).__name__
