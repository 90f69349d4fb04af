"""The slots of a cluster: how many trials each of its machines holds, and with which share of it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.launching.devices import visible_gpus
from ablate.launching.remote import NoCluster

AUTO = "auto"
CPUS = 4  # cores for a trial without a GPU, where nobody says how many


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


def node_slots(nodes: Sequence[Mapping[str, Any]], num_cpus: int | str, num_gpus: float | str) -> list[NodeSlot]:
    """Return the slots of a cluster.

    Args:
        nodes: As `ray.nodes()` describes them.
        num_cpus: Cores for each trial; ``auto``: a node's cores shared out among its GPUs, or 4 where no GPU is used.
        num_gpus: GPUs for each trial, also a fraction; ``auto``: one, if there is any.
    """
    if num_gpus == AUTO:
        num_gpus = 1.0 if any(node["Resources"].get("GPU") for node in nodes) else 0.0
    share, slots = float(num_gpus), []
    for node in nodes:
        cpus, gpus = int(node["Resources"].get("CPU", 0)), node["Resources"].get("GPU", 0.0)
        count = int(gpus / share + 1e-6) if share else cpus
        usual = max(cpus // max(count, 1), 1) if share else min(CPUS, cpus)
        each = usual if num_cpus == AUTO else int(num_cpus)
        count = min(count, cpus // each) if each else count
        host = str(node["NodeManagerHostname"]).partition(".")[0]
        names = [host] if count == 1 else [f"{host} {number + 1}" for number in range(count)]
        slots += [NodeSlot(node["NodeID"], number, name, each, share) for number, name in enumerate(names)]
    return slots


def large_enough(nodes: Sequence[Mapping[str, Any]], num_cpus: int | str, num_gpus: float | str) -> list[NodeSlot]:
    """Return the slots of a cluster (see `node_slots`).

    Raises:
        NoCluster: There is none.
    """
    slots = node_slots(nodes, num_cpus, num_gpus)
    if not slots:
        there = "; ".join(f"{node['NodeManagerHostname']} has {_size(node['Resources'])}" for node in nodes)
        raise NoCluster(f"hydra.launcher: num_cpus={num_cpus}, num_gpus={num_gpus}: no node has as much: {there}")
    return slots


def this_machine(cores: int) -> dict[str, Any]:
    """Describe this machine as Ray would if it were a node."""
    resources = {"CPU": cores, "GPU": len(visible_gpus())}
    return {"NodeID": "", "NodeManagerHostname": socket.gethostname(), "Resources": resources}


def _size(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
