"""A trial's identity: a pure function of its resolved configuration, its data, its starting weights and its module.

Two configurations have the same signature exactly when nothing that could change the result differs. The signature is
absolute: a default that changes in a later version changes no signature of what was run before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.config import NOT_IDENTITY, option_file
from ablate.validation import source_file

SHOWN = 12  # hex digits of a signature that people see


@dataclass(frozen=True)
class Identity:
    """Names and hashes of one trial.

    Attributes:
        signature: 64 hex digits: everything that can change the result.
        variant_key: 16 hex digits: the same without the seed; replicates share it.
        comparison_key: 16 hex digits: without seed, module and insertion; a variant and its baseline share it.
        factors: Level by factor.
        variant: The variant for people, such as ``hmha@c3k2 musgd``.
        name: The trial for people, such as ``hmha@c3k2 musgd s0``.
        seed: The seed.
    """

    signature: str
    variant_key: str
    comparison_key: str
    factors: dict[str, str]
    variant: str
    name: str
    seed: int

    @property
    def short(self) -> str:
        """The signature as people see it."""
        return self.signature[:SHOWN]


def settle(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with the customary insertion named, and none for the baseline.

    What plays no part is set to its neutral value, so that it cannot make two equal trials look different.
    """
    settled = deepcopy(dict(config))
    data = settled["data"]
    if data.get("name") == "custom" and data.get("path"):
        data["name"] = Path(str(data["path"])).stem  # tells one data set of the user's from another
    insertion = settled["insertion"]
    if settled["module"].get("_target_") is None:
        settled["insertion"] = {"name": "none", "at": None, "wiring": "plain"}
    elif insertion["at"] is not None:
        insertion["at"] = list(dict.fromkeys(insertion["at"]))
        insertion["name"] = "layer" + "+".join(map(str, insertion["at"]))
    elif insertion["name"] == "customary":
        insertion["name"] = settled["module"].get("insertion") or "head"
    return settled


def identify(config: Mapping[str, Any], data_fingerprint: str) -> Identity:
    """Return the identity of a settled configuration trained on data with this fingerprint.

    Raises:
        ConfigError: The module's class cannot be found.
    """
    semantic = _without(config, NOT_IDENTITY)
    module = semantic.pop("module")
    insertion = semantic.pop("insertion")
    semantic.pop("grafts", None)
    seed = int(semantic.pop("seed"))
    target = module.get("_target_")
    weights = config["model"]["weights"]
    shared = {
        **semantic,
        "data_fingerprint": data_fingerprint,
        "weights": None if weights is None else file_hash(str(weights)),
        "architecture": file_hash(str(config["model"]["architecture"])),  # a file of the user's own, by content
    }
    graft = None
    if target is not None:
        graft = {
            "module": {name: value for name, value in module.items() if name != "name"},
            "source": hashlib.sha256(source_file(str(target)).read_bytes()).hexdigest(),
            "insertion": insertion,
        }
    factors = {
        "module": str(module["name"]),
        "insertion": str(insertion["name"]),
        "optimizer": str(config["optimizer"]["name"]).lower(),
        "model": str(config["model"]["name"]),
        "data": str(config["data"]["name"]),
    }
    place = "" if graft is None else f"@{factors['insertion']}"
    if insertion["wiring"] != "plain":
        place += f"[{insertion['wiring']}]"
    what = "baseline" if graft is None else factors["module"] + _options(module)
    variant = f"{what}{place} {factors['optimizer']}"
    return Identity(
        signature=_hash({"shared": shared, "graft": graft, "seed": seed}),
        variant_key=_hash({"shared": shared, "graft": graft})[:16],
        comparison_key=_hash({"shared": shared})[:16],
        factors=factors,
        variant=variant,
        name=f"{variant} s{seed}",
        seed=seed,
    )


def _options(module: Mapping[str, Any]) -> str:
    """Return a module's options that are not those of its file, such as ``[rerank=batch]``; for people only."""
    usual = option_file("module", str(module["name"]))
    changed = [f"{name}={value}" for name, value in module.items() if name in usual and usual[name] != value]
    return f"[{','.join(changed)}]" if changed else ""


def _without(config: Mapping[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    kept = deepcopy(dict(config))
    for path in paths:
        *parents, leaf = path.split(".")
        node: Any = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(leaf, None)
    return kept


def _hash(value: Any) -> str:
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Return the value with numbers written one way: 1.0 and 1 are the same setting."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


def file_hash(path: str) -> str:
    """Return the SHA-256 of a file, or the name of what is no file here, such as an architecture of Ultralytics."""
    found = Path(path).expanduser()
    if not found.is_file():
        return f"name:{path}"
    with found.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
