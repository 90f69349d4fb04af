"""The files that a trial is made from, by their content: what its signature promises, and what is on disk now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.settings.graft_syntax import MATCHED
from ablate.settings.signature import file_hash, grafts_of
from ablate.sources.module_source import module_source

SHOWN = 8  # hex digits of a hash in a message


class InputsChanged(Exception):
    """A file that a trial is made from is not what its signature says any more; the message is one line.

    Args:
        message: What changed.
        intact: Whether the training so far was still on the right files, so that it can be continued.
    """

    kind = "changed"

    def __init__(self, message: str, *, intact: bool = False) -> None:
        super().__init__(message)
        self.intact = intact


@dataclass(frozen=True)
class TrialInputs:
    """Hashes of what a trial is made from.

    Attributes:
        data: Fingerprint of the data set.
        weights: SHA-256 of the starting weights; None without any.
        architecture: SHA-256 of the network's yaml, or the name of one that Ultralytics ships.
        sources: Hash of the source by class, for the class of each graft and for those that they are matched with.
    """

    data: str
    weights: str | None
    architecture: str
    sources: Mapping[str, str]

    @classmethod
    def of(cls, config: Mapping[str, Any], data_fingerprint: str) -> TrialInputs:
        """Read what is on disk now for a settled configuration.

        Raises:
            ConfigError: The class of a module cannot be found.
        """
        return cls(
            data_fingerprint,
            weights_hash(config),
            file_hash(str(config["model"]["architecture"])),
            {target: module_source(target).sha256 for target in classes_of(config)},
        )

    def plain(self) -> dict[str, Any]:
        """Return them as a record holds them."""
        return {**vars(self), "sources": dict(self.sources)}

    def changes(self, now: TrialInputs, config: Mapping[str, Any]) -> list[str]:
        """Return in words what differs between these and those of now."""
        model = config["model"]
        pairs = [
            (f"data set {config['data']['name']}", "fingerprint", self.data, now.data),
            (f"model.weights={model['weights']}", "SHA-256", self.weights, now.weights),
            (f"model.architecture={model['architecture']}", "SHA-256", self.architecture, now.architecture),
        ]
        pairs += [
            (_files_of(target), f"source of {target}", self.sources.get(target), found)
            for target, found in now.sources.items()
        ]
        return [
            f"{what} ({kind} {_shown(before)} -> {_shown(after)})"
            for what, kind, before, after in pairs
            if before != after
        ]


def weights_hash(config: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of a configuration's starting weights as they are now; None without any."""
    weights = config["model"]["weights"]
    return None if weights is None else file_hash(str(weights))


def classes_of(config: Mapping[str, Any]) -> list[str]:
    """Return the dotted paths of the classes whose source a settled configuration's trial depends on, each once."""
    targets = []
    for graft in grafts_of(config):
        module = graft["module"]
        like = module.get("like") if module["_target_"] == MATCHED else None
        targets += [str(module["_target_"]), *([str(like["_target_"])] if like else [])]
    return list(dict.fromkeys(targets))


def _files_of(target: str) -> str:
    files = module_source(target).files
    return files[0].name + (" or a file that it uses" if len(files) > 1 else "")


def _shown(found: str | None) -> str:
    return "none" if found is None else found.removeprefix("name:")[:SHOWN]
