"""The slots of a cluster: how many trials each node runs at a time, and with how many cores and GPUs."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from ablate.launching.devices import visible_gpus
from ablate.launching.remote import NoCluster

AUTO = "auto"
CPUS = 4  # default cores for a trial without a GPU


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        id: Ray's name of the node.
        host: Its host name.
        cpus: Its cores.
        gpus: Its GPUs.
    """

    id: str
    host: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class NodeSlot:
    """A place for one trial at a time on a node.

    Attributes:
        node: Ray's name of the node.
        number: Counted from 0 on each node.
        name: The node's name for people, numbered where it has several slots.
        cpus: Cores of the trial.
        gpus: GPUs of the trial; a fraction where several share one.
    """

    node: str
    number: int
    name: str = field(compare=False)
    cpus: int = field(compare=False)
    gpus: float = field(compare=False)

    def __str__(self) -> str:
        return self.name


def node_slots(nodes: Sequence[Node], num_cpus: int | str, num_gpus: float | str) -> list[NodeSlot]:
    """Return the slots of a cluster.

    Args:
        nodes: Its nodes.
        num_cpus: Cores for each trial; ``auto``: a node's cores shared out among its GPUs, or 4 where no GPU is used.
        num_gpus: GPUs for each trial, also a fraction; ``auto``: one, if there is any.
    """
    if num_gpus == AUTO:
        num_gpus = 1.0 if any(node.gpus for node in nodes) else 0.0
    share, slots = float(num_gpus), []
    for node in nodes:
        cpus = int(node.cpus)
        count = int(node.gpus / share + 1e-6) if share else cpus
        usual = max(cpus // max(count, 1), 1) if share else min(CPUS, cpus)
        each = usual if num_cpus == AUTO else int(num_cpus)
        count = min(count, cpus // each) if each else count
        host = node.host.partition(".")[0]
        names = [host] if count == 1 else [f"{host} {number + 1}" for number in range(count)]
        slots += [NodeSlot(node.id, number, name, each, share) for number, name in enumerate(names)]
    return slots


def large_enough(nodes: Sequence[Node], num_cpus: int | str, num_gpus: float | str) -> list[NodeSlot]:
    """Return the slots of a cluster (see `node_slots`).

    Raises:
        NoCluster: There is none.
    """
    slots = node_slots(nodes, num_cpus, num_gpus)
    if not slots:
        sizes = "; ".join(f"{node.host} has {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
        raise NoCluster(f"hydra.launcher: num_cpus={num_cpus}, num_gpus={num_gpus}: no node has as much: {sizes}")
    return slots


def this_machine(cores: int) -> Node:
    """Return this machine as a node."""
    return Node("", socket.gethostname(), cores, len(visible_gpus()))
