"""Jobs on a Ray cluster, or on this machine through Ray: one actor a slot, through Ray's core interface.

An actor is a process that keeps its GPUs and stays warm between jobs; Ray's tasks would either start a process for each
job or hand a warm one to another GPU, which torch does not notice. What ends an actor costs the job that it runs, and
the slot gets a new one. Trying again is left to `ablate.launching.jobs`, as on every backend.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ablate.launching.jobs import BUSY, Outcome, exception_outcome
from ablate.launching.nodes import AUTO, Node, NodeSlot, large_enough, node_slots
from ablate.launching.remote import NoCluster, WorkerContext, run_in_context

REFRESH = 5.0  # seconds between two looks at which nodes there are
PATIENCE = 5.0  # seconds in which a cluster must answer
STORE = 100_000_000  # bytes of Ray's object store on this machine: results are small

logger = logging.getLogger(__name__)


class RayBackend:
    """Actors on the nodes of a Ray cluster.

    Args:
        address: None for a cluster of this machine alone, which ends with the sweep; ``auto`` or ``host:port`` for one
            that runs.
        num_cpus: Cores for each trial, or ``auto``.
        num_gpus: GPUs for each trial, also fractions; ``auto``: one, if there is any.
        cores: CPU cores of this machine to share out, where it is the cluster; None: all.
        shared: A folder that every node must see, for the results.

    Raises:
        NoCluster: On entering: no cluster answers, none of its nodes is large enough, or one does not see the folder.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: int | str = AUTO,
        num_gpus: float | str = AUTO,
        cores: int | None = None,
        shared: Path | None = None,
    ) -> None:
        self._address, self._cores, self._shared = address, cores, shared
        self._num_cpus, self._num_gpus = num_cpus, num_gpus
        self._ours = False  # whether it was we who connected to Ray
        self._slots: list[NodeSlot] = []
        self._refreshed = float("-inf")  # when the nodes were listed last
        self._sees: dict[str, bool] = {}  # which nodes see the shared folder
        self._actors: dict[NodeSlot, Any] = {}
        self._lost_actors: list[Any] = []  # dead or out of reach, still to be killed

    def __enter__(self) -> RayBackend:
        import ray

        self._ours = not ray.is_initialized()
        if self._ours:
            connect(self._address, self._cores)
        try:
            self._check_nodes()
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        import ray

        self._lost_actors += self._actors.values()
        self._actors.clear()
        self._reap_actors()
        if self._ours:
            ray.shutdown()

    def slots(self) -> list[NodeSlot]:
        """Return the slots of the nodes that are alive; the nodes are listed anew every few seconds."""
        if time.monotonic() - self._refreshed > REFRESH:
            self._slots = node_slots(self._with_shared_folder(_nodes()), self._num_cpus, self._num_gpus)
            self._refreshed = time.monotonic()
        return self._slots

    def submit(self, slot: NodeSlot, function: str, payload: Any) -> Future[Outcome]:
        """Start a job in the slot's actor."""
        from ray import exceptions

        future: Future[Outcome] = Future()
        if slot in self._actors and not _is_true(self._actors[slot].is_alive.remote()):
            self._drop(slot, self._actors[slot])  # it died while it had nothing to do
        self._reap_actors()
        actor = self._actors.get(slot) or self._start(slot)

        def ended(done: Future[Outcome]) -> None:
            error = done.exception()
            if error is None:
                return future.set_result(done.result())
            self._drop(slot, actor)
            self._refreshed = float("-inf")  # its node may have died with it
            if isinstance(error, exceptions.ActorUnschedulableError) or "never ran" in str(error):
                future.set_result(Outcome(result=BUSY))  # its node had died before: nothing was tried
            else:
                future.set_exception(error)

        actor.run.remote(function, payload).future().add_done_callback(ended)
        return future

    def stop(self, slot: NodeSlot, future: Future[Outcome] | None = None) -> None:
        """End a slot's job and its process; the next job gets a new one."""
        if slot in self._actors:
            self._drop(slot, self._actors[slot])
        self._reap_actors()

    def explain(self, error: BaseException) -> Outcome:
        """Return the outcome of an exception: of the job, or of a process or node that died."""
        from ray import exceptions

        if isinstance(error, exceptions.OutOfMemoryError):
            return Outcome(
                failure="out_of_memory", message="Ray ended the worker process for lack of memory on its node"
            )
        if isinstance(error, exceptions.RayTaskError):
            return exception_outcome(error.cause or error)
        if isinstance(error, exceptions.RayActorError):
            return Outcome(failure="killed", message=f"the worker process died ({_reason(error)})")
        return exception_outcome(error)

    def _start(self, slot: NodeSlot) -> Any:
        import ray

        worker = ray.remote(_Worker).options(
            num_cpus=slot.cpus,
            num_gpus=slot.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=_only_on(slot.node),
        )
        logger.debug("an actor for slot %s: %d CPUs, %g GPUs", slot, slot.cpus, slot.gpus)
        self._actors[slot] = worker.remote(WorkerContext.of_driver(cpus=slot.cpus, gpus=math.ceil(slot.gpus)))
        return self._actors[slot]

    def _drop(self, slot: NodeSlot, actor: Any) -> None:
        """Give a slot's actor up, unless the slot has another by now."""
        self._lost_actors.append(actor)
        if self._actors.get(slot) is actor:
            del self._actors[slot]

    def _reap_actors(self) -> None:
        """Kill lost actors: one that was only out of reach must not go on beside its successor.

        Not to be called from the callback of an ended actor, which runs in a thread of Ray's that would wait for
        itself.
        """
        import ray

        while self._lost_actors:
            actor = self._lost_actors.pop()
            with suppress(Exception):  # it is dead already, or the cluster is gone
                ray.kill(actor)

    def _check_nodes(self) -> None:
        """Check the size and the shared folder of all nodes before the first job starts.

        Raises:
            NoCluster: See `RayBackend`.
        """
        nodes = _nodes()
        large_enough(nodes, self._num_cpus, self._num_gpus)
        sharing = self._with_shared_folder(nodes)
        others = [node.host for node in nodes if node not in sharing]
        if others:
            raise NoCluster(
                f"{self._shared}: not seen from the Ray node{'s' * (len(others) > 1)} {', '.join(others)}; "
                "let root=... be a folder that all nodes share"
            )

    def _with_shared_folder(self, nodes: list[Node]) -> list[Node]:
        """Return the nodes that see the shared folder; each is checked once, for a file that only this folder holds."""
        new = [node.id for node in nodes if node.id not in self._sees]
        if new and self._shared is not None and self._address is not None:
            import ray

            look = ray.remote(_exists)
            with _token(self._shared) as token:
                tasks = {n: look.options(num_cpus=0, scheduling_strategy=_only_on(n)).remote(str(token)) for n in new}
                self._sees |= {name: _is_true(task) for name, task in tasks.items()}
        return [node for node in nodes if self._sees.get(node.id, True)]


class _Worker:
    """The actor: runs jobs, one after the other, in one process."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def is_alive(self) -> bool:
        return True

    def run(self, function: str, payload: Any) -> Outcome:
        return run_in_context(self._context, function, payload)


def connect(address: str | None, cores: int | None) -> None:
    """Start a cluster on this machine, or join one that runs.

    Raises:
        NoCluster: There is none at this address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use over the network
    import ray
    from ray._private import worker
    from ray.job_config import JobConfig

    class OwnPath(JobConfig):  # type: ignore[misc]
        """A job whose workers do not look for modules in the folder where the command was given."""

        def _runtime_env_has_working_dir(self) -> bool:
            return True  # only where there is none Ray puts that folder in front of their search path

    if (
        address is None
    ):  # its token is for this cluster only; Ray would keep one in the home folder, and then ask for it
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        _check_reachable(address)
    # Ray has no public switch for its own messages on processes that died; ours is one line.
    worker._worker_logs_enabled = False
    local = {"address": "local", "num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE}
    try:
        with _restored_sigterm():
            place = local if address is None else {"address": address}
            ray.init(**place, job_config=OwnPath(), log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        message = " ".join(str(error).split())
        raise NoCluster(f"hydra.launcher.address={address or 'null'}: Ray cannot be reached: {message}") from error


def _check_reachable(address: str) -> None:
    """Check that a Ray head node listens at the address, with a short timeout; Ray itself would try for minutes.

    Raises:
        NoCluster: It is unreachable or malformed.
    """
    place = os.environ.get("RAY_ADDRESS", "") if address == AUTO else address
    if not place:
        return  # Ray looks for a cluster that runs on this machine, and fails at once if there is none
    host, _, port = place.rpartition(":")
    field = f"hydra.launcher.address={address}{f' (RAY_ADDRESS={place})' if address == AUTO else ''}"
    if "://" in place or not host or not port.isdigit():
        raise NoCluster(f"{field}: say null (this machine), auto, or host:port of a Ray cluster's head node")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise NoCluster(f"{field}: no Ray cluster answers there ({error})") from error


@contextmanager
def _restored_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces by its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".shared-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _exists(path: str) -> bool:
    with suppress(OSError):
        list(Path(path).parent.iterdir())  # a network file system may have an older listing in its cache
    return Path(path).exists()


def _is_true(reference: Any) -> bool:
    """Return whether Ray delivers a true value within 30 seconds."""
    import ray

    try:
        return bool(ray.get(reference, timeout=30))
    except ray.exceptions.RayError:
        return False


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _nodes() -> list[Node]:
    """Return the nodes that are alive."""
    import ray

    alive = [(node, node["Resources"]) for node in ray.nodes() if node["Alive"]]
    return [
        Node(node["NodeID"], str(node["NodeManagerHostname"]), size.get("CPU", 0.0), size.get("GPU", 0.0))
        for node, size in alive
    ]


def _reason(error: BaseException) -> str:
    """Return the cause that one of Ray's long messages names."""
    message = " ".join(str(error).split())
    code = re.search(r"exits with an exit code (\d+)", message)
    if code:
        return f"exit code {code[1]}"
    if "is unavailable" in message:
        return "its node is out of reach"
    return "its node died" if "node has died" in message else "killed, or crashed"
