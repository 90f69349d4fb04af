"""A trial's identity: a pure function of its settings, its data, its starting weights and its modules.

Two settings have the same signature exactly when nothing that could change the result differs. The signature is
absolute: a default that changes in a later version changes no signature of what was run before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ablate.settings.architecture import stock_file
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.files import file_sha256
from ablate.storage.plain_values import Plain

SHOWN = 12  # hex digits of a displayed signature

# Training arguments that cannot change a trial's result.
WITHOUT_EFFECT = ("plots", "save_period", "verbose")

# Fields of the optimizer that came later, with the value at which they are left out of a signature.
ADDED_LATER = {"orthogonalise": "auto"}


@dataclass(frozen=True)
class Identity:
    """Names and hashes of one trial.

    Attributes:
        signature: 64 hex digits: everything that can change the result.
        variant_key: 16 hex digits: the same without seed and fold; replicates share it.
        comparison_key: 16 hex digits: without seed, fold, grafts and losses; a variant and its baseline share it.
        factors: Level by factor; those of several grafts are joined, such as ``hmha+acmix`` at ``c3k2+head``. A head
            and a loss are factors where they are not stock.
        variant: Readable name of the variant, such as ``hmha@c3k2+wiou@box musgd``.
        name: Readable name of the trial, such as ``hmha@c3k2 musgd s0``, with a fold ``hmha@c3k2 musgd s0 f2``.
        seed: The seed.
        fold: Which fold it is evaluated on, from 0; None where there are none.
    """

    signature: str
    variant_key: str
    comparison_key: str
    factors: dict[str, str]
    variant: str
    name: str
    seed: int
    fold: int | None = None

    @property
    def short(self) -> str:
        """The signature as it is displayed."""
        return self.signature[:SHOWN]

    def called(self, variant: str) -> Identity:
        """Return the identity under another name of the variant, as in a sweep where it is a control."""
        return replace(self, variant=variant, name=variant + self.name.removeprefix(self.variant))


def identify(settings: TrialSettings, data_fingerprint: str) -> Identity:
    """Return the identity of a trial on data with this fingerprint.

    Raises:
        ConfigError: The class of a module cannot be found.
    """
    grafts = settings.grafts
    frozen = {"frozen": settings.freeze_grafts} if settings.train.freeze else {}
    contents = [{**graft.key, **frozen} for graft in grafts]
    head = next((graft for graft in grafts if graft.kind == "head"), None)
    others = [graft for graft in grafts if graft is not head]
    factors = {
        "module": "+".join(graft.module.title for graft in others) or "none",
        "insertion": "+".join(graft.insertion.name for graft in others) or "none",
        "optimizer": settings.optimizer.name.lower(),
        "model": settings.model.name,
        "data": settings.data.name,
        **settings.losses.factors,
    }
    if head is not None:  # stock where it is left out
        factors["head"] = head.module.text
    texts = {
        "shared": _text(_shared(settings, data_fingerprint)),
        "graft": _text(contents if len(contents) > 1 else next(iter(contents), None)),
        "seed": _text(settings.seed),
    }
    of_variant = ["shared", "graft"]
    if settings.tuning is not None:  # variants are compared that were tuned alike, whatever rate each was given by it
        texts["rate"] = _text(settings.optimizer.lr0 if settings.tuning.given else None)
    if losses := settings.losses.key:  # none of them is part of a signature where all are stock, as it was
        texts["loss"] = _text(losses)
        of_variant.append("loss")
    replicate = ["seed"]
    if settings.fold is not None:  # how images are divided is shared by what is compared; which part is judged is not
        texts["fold"] = _text(settings.fold.index)
        replicate.append("fold")
    components = [*(graft.text for graft in grafts), *settings.losses.components]
    variant = f"{'+'.join(components) or 'baseline'} {factors['optimizer']}"
    return Identity(
        signature=_hash(texts, *of_variant, *({"rate"} & texts.keys()), *replicate),
        variant_key=_hash(texts, *of_variant)[:16],
        comparison_key=_hash(texts, "shared")[:16],
        factors=factors,
        variant=variant,
        name=f"{variant} s{settings.seed}" + ("" if settings.fold is None else f" f{settings.fold.index}"),
        seed=settings.seed,
        fold=None if settings.fold is None else settings.fold.index,
    )


def file_hash(path: str) -> str:
    """Return the SHA-256 of a file, or the name of what is no file here, such as an architecture of Ultralytics."""
    file = Path(path).expanduser()
    return file_sha256(file) if file.is_file() else f"name:{path}"


def architecture_hash(architecture: str) -> str:
    """Return the SHA-256 of a network's yaml, or its name where it is one of Ultralytics', whatever file is here."""
    return f"name:{architecture}" if stock_file(architecture) is not None else file_hash(architecture)


def _shared(settings: TrialSettings, data_fingerprint: str) -> Plain:
    """Return what can change a result and is the same for a variant and its baseline; of files their content."""
    optimizer, train, model = asdict(settings.optimizer), settings.train.arguments, settings.model
    tuning = settings.tuning
    if tuning is not None and tuning.given:
        optimizer["lr0"] = tuning.given
    return {
        "optimizer": {name: value for name, value in optimizer.items() if (name, value) not in ADDED_LATER.items()},
        "model": {"name": model.name, "architecture": model.architecture},
        "train": {name: value for name, value in train.items() if name not in WITHOUT_EFFECT},
        "on_oom": settings.on_oom,
        "data_fingerprint": data_fingerprint,
        "weights": None if model.weights is None else file_hash(model.weights),
        "architecture": architecture_hash(model.architecture),
        **({} if tuning is None else {"tuning": tuning.key}),
        **({} if settings.fold is None else {"fold": settings.fold.key}),
    }


def _text(value: object) -> str:
    """Return a value as canonical JSON."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _hash(texts: Mapping[str, str], *names: str) -> str:
    """Return the SHA-256 of the object that has these of the values, whose canonical JSON is given, by name."""
    content = ",".join(f'"{name}":{texts[name]}' for name in sorted(names))
    return hashlib.sha256(f"{{{content}}}".encode()).hexdigest()


def _canonical(value: object) -> object:
    """Return the value with numbers written one way: 1.0 and 1 are the same setting."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value
