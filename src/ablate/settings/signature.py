"""A trial's identity: a pure function of its resolved configuration, its data, its starting weights and its module.

Two configurations have the same signature exactly when nothing that could change the result differs. The signature is
absolute: a default that changes in a later version changes no signature of what was run before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.settings.graft_syntax import MATCHED, Graft, read_graft, settle_insertion, settle_like, show_graft
from ablate.settings.schema import ADDED_LATER, NOT_IDENTITY
from ablate.sources.module_source import module_source
from ablate.storage.files import file_sha256
from ablate.storage.plain_values import plain_copy

SHOWN = 12  # hex digits of a signature that people see


@dataclass(frozen=True)
class Identity:
    """Names and hashes of one trial.

    Attributes:
        signature: 64 hex digits: everything that can change the result.
        variant_key: 16 hex digits: the same without the seed; replicates share it.
        comparison_key: 16 hex digits: without seed, module and insertion; a variant and its baseline share it.
        factors: Level by factor; those of several grafts are joined, such as ``hmha+acmix`` at ``c3k2+head``.
        variant: The variant for people, such as ``hmha@c3k2+acmix@head musgd``.
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
    """Return the configuration with every graft resolved and in its one order; settling it again changes nothing.

    What plays no part is set to its neutral value, so that it cannot make two equal trials look different. A graft is
    the same whether it was given by `module` and `insertion` or in `grafts`: all are sorted by insertion point (at one
    point they stay in the order given, in which they are chained), the first becomes `module` and `insertion`, the
    others are `grafts`.

    Raises:
        ConfigError: A text in `grafts` is none.
    """
    settled: dict[str, Any] = plain_copy(dict(config))
    data = settled["data"]
    if data.get("name") == "custom" and data.get("path"):
        data["name"] = Path(str(data["path"])).stem  # tells one data set of the user's from another
    further = [read_graft(graft) if isinstance(graft, str) else graft for graft in settled.get("grafts") or []]
    own = {"module": settled["module"], "insertion": settled["insertion"]}
    grafts = [own, *further] if own["module"].get("_target_") is not None else further
    for graft in grafts:
        graft["module"] = settle_like(graft["module"])
        graft["insertion"] = settle_insertion(graft["module"], graft["insertion"])
    grafts.sort(key=lambda graft: str(graft["insertion"]["name"]))
    nothing = {"module": own["module"], "insertion": {"name": "none", "at": None, "wiring": "plain"}}
    return {**settled, **(grafts[0] if grafts else nothing), "grafts": grafts[1:]}


def grafts_of(config: Mapping[str, Any]) -> list[Graft]:
    """Return the grafts of a settled configuration in their order, none for the baseline."""
    if config["module"].get("_target_") is None:
        return []
    return [{"module": config["module"], "insertion": config["insertion"]}, *(config.get("grafts") or [])]


def identify(config: Mapping[str, Any], data_fingerprint: str) -> Identity:
    """Return the identity of a settled configuration trained on data with this fingerprint.

    Raises:
        ConfigError: The class of a module cannot be found.
    """
    unset = [path for path, default in ADDED_LATER.items() if _at(config, path) == default]
    semantic = _without(config, (*NOT_IDENTITY, *unset, "module", "insertion", "grafts"))
    seed = int(semantic.pop("seed"))
    weights = config["model"]["weights"]
    shared = {
        **semantic,
        "data_fingerprint": data_fingerprint,
        "weights": None if weights is None else file_hash(str(weights)),
        "architecture": file_hash(str(config["model"]["architecture"])),  # a file of the user's own, by content
    }
    grafts = grafts_of(config)
    frozen = {"frozen": bool(config.get("freeze_grafts"))} if config["train"].get("freeze") else {}
    contents: list[dict[str, Any]] = [{**_content(graft), **frozen} for graft in grafts]
    graft = contents if len(contents) > 1 else next(iter(contents), None)
    factors = {
        "module": "+".join(str(graft["module"]["name"]) for graft in grafts) or str(config["module"]["name"]),
        "insertion": "+".join(str(graft["insertion"]["name"]) for graft in grafts) or "none",
        "optimizer": str(config["optimizer"]["name"]).lower(),
        "model": str(config["model"]["name"]),
        "data": str(config["data"]["name"]),
    }
    texts = {"shared": _text(shared), "graft": _text(graft), "seed": _text(seed)}
    variant = f"{'+'.join(map(show_graft, grafts)) or 'baseline'} {factors['optimizer']}"
    return Identity(
        signature=_hash(texts, "shared", "graft", "seed"),
        variant_key=_hash(texts, "shared", "graft")[:16],
        comparison_key=_hash(texts, "shared")[:16],
        factors=factors,
        variant=variant,
        name=f"{variant} s{seed}",
        seed=seed,
    )


def _content(graft: Graft) -> dict[str, Any]:
    """Return what of a graft can change a result: options and source of its module, and where it goes."""
    module = graft["module"]
    content = {
        "module": _unnamed(module),
        "source": _source_hash(module),
        "insertion": graft["insertion"],
    }
    like = module.get("like")
    if module["_target_"] == MATCHED and like is not None:  # its size is that of another module
        content |= {"module": {**_unnamed(module), "like": _unnamed(like)}, "like": _source_hash(like)}
    return content


def _unnamed(module: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in module.items() if name not in ("name", "insertion")}


def _source_hash(module: Mapping[str, Any]) -> str:
    return module_source(str(module["_target_"])).sha256


def _at(config: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path; None where there is none."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _without(config: Mapping[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    kept: dict[str, Any] = plain_copy(dict(config))
    for path in paths:
        *parents, leaf = path.split(".")
        node: Any = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(leaf, None)
    return kept


def _text(value: Any) -> str:
    """Return a value as canonical JSON."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _hash(texts: Mapping[str, str], *names: str) -> str:
    """Return the SHA-256 of the object that has these of the values, whose canonical JSON is given, by name."""
    content = ",".join(f'"{name}":{texts[name]}' for name in sorted(names))
    return hashlib.sha256(f"{{{content}}}".encode()).hexdigest()


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
    return file_sha256(found) if found.is_file() else f"name:{path}"
