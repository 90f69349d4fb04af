"""All that ablate uses of Hydra, OmegaConf and hydra-submitit-launcher beyond their public interfaces.

A new version of one of them may change what stands here without notice; nothing else of ablate depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
_CLUSTERS = {"SlurmLauncher": "slurm", "LocalLauncher": "local"}


def parent_of(config: DictConfig, key: str) -> tuple[DictConfig, str]:
    """Return the mapping that holds a key's value, and the value's name in it.

    Raises:
        TypeError: There is no such mapping.
    """
    *path, leaf = key.split(".")
    node: Any = config
    for part in path:
        node = node._get_node(part) if isinstance(node, type(config)) else None
    if not isinstance(node, type(config)):
        raise TypeError(f"{key}: no mapping holds it")
    return node, leaf


def get_node(parent: DictConfig, name: str) -> Any:
    """Return the node of a mapping's value, with its type; None where there is none."""
    return parent._get_node(name)


def set_node(parent: DictConfig, name: str, node: Any) -> None:
    """Put a node in place of a mapping's value."""
    parent._set_item_impl(name, node)


def submitit_cluster(launcher: object) -> str | None:
    """Return the cluster of a launcher of hydra-submitit-launcher, "slurm" or "local"; None for any other launcher."""
    kind = type(launcher)
    return _CLUSTERS.get(kind.__name__) if kind.__module__ == _SUBMITIT else None
