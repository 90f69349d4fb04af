"""A network as a checkpoint holds it: tensors by name, and plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from ablate.checkpoints.file_check import NETWORK, CheckpointError, UnsafeCheckpoint
from ablate.checkpoints.inert_reading import Named, read
from ablate.safe_text import escaped
from ablate.storage.plain_values import Plain

ANY = ("",)  # the beginning of every name: all that is no tensor and no plain value is left out, unread
_REBUILT = ("yaml", "names", "nc", "model", "save", "inplace", "stride", "criterion", "training")  # by building it
_MOST = 200_000  # values or modules of a checkpoint; one that refers to itself again and again has more


_ENTRIES = ("state", "yaml", "names", "attributes")


@dataclass(frozen=True)
class StoredNetwork:
    """A network without its classes.

    Attributes:
        state: Its parameters and buffers by name.
        yaml: What Ultralytics builds it from, with its grafts.
        names: Of the classes.
        attributes: Further plain attributes, such as the arguments that it was trained with.
    """

    state: dict[str, Tensor]
    yaml: Plain = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    attributes: Plain = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module) -> StoredNetwork:
        """Return a network's tensors, which are not copied, and its plain values."""
        names = getattr(network, "names", None)
        attributes = {
            name: plain_values(value)
            for name, value in vars(network).items()
            if not name.startswith("_") and name not in _REBUILT
        }
        return cls(
            state=dict(network.state_dict()),
            yaml=plain_values(getattr(network, "yaml", {})),
            names=dict(names) if isinstance(names, dict) else {},
            attributes={name: value for name, value in attributes.items() if value is not None},
        )

    @classmethod
    def from_plain(cls, content: Plain) -> StoredNetwork:
        """Return the network that a checkpoint holds as plain values."""
        return cls(content["state"], content["yaml"], content["names"], content["attributes"])

    def to_plain(self) -> Plain:
        """Return what a checkpoint holds; `from_plain` is the inverse."""
        return {"yaml": self.yaml, "names": self.names, "attributes": self.attributes, "state": self.state}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        entries: All entries of the file: plain values, tensors, and `Named` for all else.
    """

    entries: Plain

    @property
    def is_plain(self) -> bool:
        """Whether the network is stored as plain values and tensors, without objects of its classes."""
        return any(isinstance(value, Named) and value.name == NETWORK for value in self.entries.values())

    @property
    def network(self) -> StoredNetwork:
        """The network: the average of the weights, where there is one.

        Raises:
            CheckpointError: There is none.
        """
        network = self.entries.get("ema") or self.entries.get("model")
        if isinstance(network, nn.Module):
            return StoredNetwork.of(network)
        if not isinstance(network, Named):
            raise CheckpointError(f"it holds no network under 'ema' or 'model' but {_kind(network)}")
        try:
            return _stored(network)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # other values than a network has
            raise CheckpointError(f"its network is damaged: {escaped(str(error), 200)}") from error


def read_checkpoint(path: Path, *, trust: bool = False, parts: Iterable[str] = ()) -> Checkpoint:
    """Read a checkpoint of Ultralytics or ours.

    Args:
        path: The file.
        trust: Load it as Ultralytics does, which runs whatever it names.
        parts: Further beginnings of names that it may hold, such as those of a user's modules.

    Raises:
        CheckpointError: It cannot be read, or names what is no part of a network.
    """
    if trust:
        return _loaded(path)
    entries = read(path, parts)
    if isinstance(entries, Named) and isinstance(entries.state, dict):  # a whole object was saved
        entries = {"model": entries if "_modules" in entries.state else entries.state.get("model")}
    if not isinstance(entries, dict):
        raise CheckpointError(f"it holds no network but {_kind(entries)}")
    return Checkpoint(entries)


def read_own(path: Path, targets: Iterable[str], *, trust: bool = False) -> Checkpoint:
    """Read a checkpoint that a trial wrote.

    Earlier versions stored a user's modules as objects, which may name anything; those names are left out.

    Args:
        path: The checkpoint.
        targets: The classes of the trial's grafts.
        trust: Whether it may name what is no part of a network; nothing that it names is run in any case.

    Raises:
        CheckpointError: It cannot be read, or is none that the trial can have written.
    """
    try:
        return read_checkpoint(path)
    except UnsafeCheckpoint:
        of_users = any(not target.startswith("ablate.modules.") for target in targets)
        checkpoint = read_checkpoint(path, parts=ANY)
        if trust or (of_users and not checkpoint.is_plain):
            return checkpoint
        raise


def _kind(value: object) -> str:
    return value.name if isinstance(value, Named) else type(value).__name__


def _loaded(path: Path) -> Checkpoint:
    from ultralytics.nn.tasks import torch_safe_load

    try:
        return Checkpoint(torch_safe_load(str(path), safe_only=False)[0])
    except Exception as error:  # whatever its code raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"Ultralytics cannot load it: {reason}") from error


def _stored(network: Named) -> StoredNetwork:
    """Return the network that a stand-in describes."""
    if network.name == NETWORK:
        content = network.arguments[0] if network.arguments else None
        if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in _ENTRIES):
            raise CheckpointError("it holds a network of another version of ablate")
        return StoredNetwork.from_plain(
            {**plain_values({**content, "state": None}), "state": _tensors(content["state"])}
        )
    attributes = network.state if isinstance(network.state, dict) else {}
    if "_modules" not in attributes:
        raise CheckpointError(f"it holds no network but {network.name}")
    names, yaml = plain_values(attributes.get("names")), plain_values(attributes.get("yaml"))
    return StoredNetwork(
        state=dict(_walk(network)),
        yaml=yaml if isinstance(yaml, dict) else {},
        names=dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {},
        attributes=plain_values({name: attributes[name] for name in ("args", "task") if name in attributes}),
    )


def _tensors(state: Any) -> dict[str, Tensor]:
    return {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _walk(network: Named) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a module's state dict."""
    waiting = [("", network)]
    for _ in range(_MOST):
        if not waiting:
            return
        prefix, module = waiting.pop()
        attributes = module.state if isinstance(module.state, dict) else {}
        hidden = attributes.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (attributes.get(kind) or {}).items():
                if isinstance(tensor, Tensor) and name not in hidden:
                    yield prefix + name, tensor.detach()
        children = attributes.get("_modules") or {}
        waiting += [
            (f"{prefix}{name}.", child) for name, child in reversed(children.items()) if isinstance(child, Named)
        ]
    raise CheckpointError("it holds more modules than a network has")


def plain_values(value: Any) -> Any:
    """Return the plain values in what was read: mappings, lists, texts, numbers, truth values, None; else None.

    Raises:
        CheckpointError: There are more than a checkpoint has.
    """
    left = [_MOST]

    def give(value: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise CheckpointError("it holds more values than a network has")
        if isinstance(value, Named):  # such as Ultralytics' namespace of arguments
            value = value.state
        if isinstance(value, SimpleNamespace):
            value = vars(value)
        if isinstance(value, dict):
            return {key: give(item) for key, item in value.items() if isinstance(key, str | int | float | bool | None)}
        if isinstance(value, list | tuple):
            return [give(item) for item in value]
        return value if value is None or type(value) in (str, int, float, bool) else None

    return give(value)
