"""Before any training starts: can every network of the sweep be built, grafted and filled with its weights?"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from ablate.errors import ConfigError
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs
from ablate.preflight.builders import BUILD, Builders, NetworkJob
from ablate.preflight.network_answer import NetworkAnswer, NetworkCost, Rejection
from ablate.preflight.result_cache import Cache
from ablate.records.code_version import versions
from ablate.settings.signature import architecture_hash, file_hash
from ablate.sources.package_walk import imported_files
from ablate.storage.content_hash import content_hash
from ablate.study.trial import Trial
from ablate.training.trainer_arguments import trained_classes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preflight:
    """The networks of some trials, by variant key.

    Attributes:
        answers: Those that can be built.
        invalid: Why others cannot: a place that the network lacks, channels that the module refuses, an output that is
            not a map of the input's shape.
    """

    answers: Mapping[str, NetworkAnswer]
    invalid: Mapping[str, str]

    @property
    def costs(self) -> dict[str, NetworkCost]:
        """The cost of each variant whose parameters and FLOPs were counted."""
        return {variant: answer.cost for variant, answer in self.answers.items() if answer.cost is not None}


@dataclass(frozen=True)
class NetworkKey:
    """Everything that the shapes of a trial's network depend on, and the code that builds it.

    Attributes:
        grafts: Each graft and the source of its classes, hashed.
        losses: Those that are not stock, with their sources, hashed; None without any.
        architecture: File name of the network's yaml, and its hash.
        classes: Number of classes.
        channels: Of the images.
        weights: Hash of the starting weights, whose class branch the network gets; None without any.
        versions: Name and version of each package that takes part.
        code: Hash of ablate's own code that builds, counts and trains.
    """

    grafts: tuple[str, ...]
    losses: str | None
    architecture: tuple[str, str]
    classes: int
    channels: int
    weights: str | None
    versions: tuple[tuple[str, str], ...]
    code: str


@dataclass(frozen=True)
class AnswerKey:
    """Everything that a `NetworkAnswer` depends on.

    Attributes:
        network: The network.
        names: Class names, which are looked for in the weights; None without weights.
        cls_remap: Whether they are.
        trusted: Whether the weights may run code when they are loaded.
        freeze: Layers that are frozen.
        graft_imgsz: Side in pixels of the images that grafts are checked with; None without grafts.
        cost_imgsz: Side in pixels of the image whose FLOPs are counted; None where they are not.
    """

    network: NetworkKey
    names: tuple[str, ...] | None
    cls_remap: bool | None
    trusted: bool
    freeze: str
    graft_imgsz: int | None
    cost_imgsz: int | None


def preflight(
    trials: Sequence[Trial],
    *,
    with_cost: bool = False,
    skip_invalid: bool = False,
    builders: Builders | None = None,
) -> Preflight:
    """Build each distinct network once, in worker processes; those that were built before are in the cache.

    Args:
        trials: The trials that are to run.
        with_cost: Also count parameters and FLOPs.
        skip_invalid: Return which combinations cannot be built, instead of raising.
        builders: Processes that have been started already; they are used once.

    Raises:
        ConfigError: One cannot be built; the message names the variant, the place and the reason.
    """
    first = first_of_each_variant(trials)
    keys = {variant: _answer_key(trial, with_cost) for variant, trial in first.items()}
    results = _build_all({key: first[variant] for variant, key in keys.items()}, with_cost, builders)
    answers: dict[str, NetworkAnswer] = {}
    invalid: dict[str, str] = {}
    for variant, key in keys.items():
        result, trial = results[key], first[variant]
        if isinstance(result, NetworkAnswer) and result.contract.single and _has_batch_of_one(trial):
            result = Rejection(result.contract.single, skippable=True)
        if isinstance(result, NetworkAnswer):
            answers[variant] = result
            continue
        if not result.skippable:
            raise ConfigError(result.reason)
        model = trial.settings.model.name
        invalid[variant] = result.reason if model in result.reason else f"{model}: {result.reason}"
    if invalid and not skip_invalid:
        raise ConfigError(_complaint(first, invalid))
    return Preflight(answers, invalid)


def first_of_each_variant(trials: Sequence[Trial]) -> dict[str, Trial]:
    """Return the first trial of each variant, by variant key."""
    first: dict[str, Trial] = {}
    for trial in trials:
        first.setdefault(trial.identity.variant_key, trial)
    return first


def contract_notes(trials: Sequence[Trial], answers: Mapping[str, NetworkAnswer]) -> list[str]:
    """Return what is odd about the modules of some trials although they keep the contract, each sentence once."""
    notes: dict[str, None] = {}
    for trial in trials:
        answer = answers.get(trial.identity.variant_key)
        if answer is None:
            continue
        notes |= dict.fromkeys(answer.contract.notes)
        texts = [graft.text for graft in trial.settings.grafts]
        twice = dict.fromkeys(text for text in texts if texts.count(text) > 1)
        notes |= dict.fromkeys(
            f"{text} is there {texts.count(text)} times: one module after the other" for text in twice
        )
        if answer.contract.mixed and trial.settings.train.amp and trial.settings.device != "cpu":
            notes[f"under mixed precision (train.amp=true) {answer.contract.mixed}"] = None
    return list(notes)


def network_key(trial: Trial) -> NetworkKey:
    """Return everything that the shapes of a trial's network depend on, and the code that builds it."""
    settings, model = trial.settings, trial.settings.model
    return NetworkKey(
        grafts=tuple(content_hash(graft.key) for graft in settings.grafts),
        losses=content_hash(settings.losses.key) if settings.losses.parts else None,
        architecture=(Path(model.architecture).name, architecture_hash(model.architecture)),
        classes=len(trained_classes(settings, trial.data)),
        channels=trial.data.channels,
        weights=file_hash(model.weights) if model.weights else None,
        versions=tuple(sorted(versions().items())),
        code=_code(),
    )


def _answer_key(trial: Trial, with_cost: bool) -> AnswerKey:
    train, weights = trial.settings.train, trial.settings.model.weights
    return AnswerKey(
        network_key(trial),
        names=tuple(trained_classes(trial.settings, trial.data)) if weights else None,
        cls_remap=train.cls_remap if weights else None,
        trusted=bool(weights) and trial.settings.command.trust_weights,
        freeze=str(train.freeze),
        graft_imgsz=train.imgsz if trial.settings.grafts else None,
        cost_imgsz=train.imgsz if with_cost else None,
    )


def _build_all(
    networks: Mapping[AnswerKey, Trial], with_cost: bool, builders: Builders | None
) -> dict[AnswerKey, NetworkAnswer | Rejection]:
    """Return the answers that the cache has, and build the other networks; of each one trial."""
    cache = Cache("costs", NetworkAnswer)
    answers: dict[AnswerKey, NetworkAnswer | Rejection] = {}
    for key, trial in networks.items():
        answer = cache.get(key) or cache.get(replace(key, cost_imgsz=trial.settings.train.imgsz))
        if answer is not None:
            answers[key] = answer
    missing = [key for key in networks if key not in answers]

    def end(index: int, outcome: Outcome) -> None:
        key = missing[index]
        trial, answer = networks[key], outcome.result
        if outcome.failure:
            answer = _failed(trial, outcome, jobs[index].running)
        elif isinstance(answer, NetworkAnswer) and _answer_key(trial, with_cost) == key:  # else edited meanwhile
            cache.put(key, answer)
        answers[key] = answer

    logger.info("preflight: %d networks, %d of them in the cache", len(networks), len(answers))
    if missing:
        with TemporaryDirectory(prefix="ablate-preflight-") as folder:
            jobs = [_job(networks[key], with_cost, Path(folder) / str(index)) for index, key in enumerate(missing)]
            backend = (builders or Builders(len(missing))).backend
            run_jobs(backend, BUILD, jobs, Observer(end=end), Limits(max_retries=0))
        cache.prune()
    return answers


def _failed(trial: Trial, outcome: Outcome, running: Path) -> Rejection:
    """Return why a network's process gave no answer; the module is to blame whose code ran."""
    title = f"{trial.identity.variant} in {trial.settings.model.name}"
    try:
        call = " ".join(running.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        return Rejection(f"{title}: {outcome.message}")
    for graft in trial.settings.grafts:
        if call.startswith(f"{graft.module.target} "):
            call = f"{graft.module.title} {call.removeprefix(graft.module.target).strip()}"
    return Rejection(f"{title}: {outcome.message} in {call}", skippable=not call.endswith("at its import"))


def _job(trial: Trial, with_cost: bool, running: Path) -> NetworkJob:
    classes = tuple(trained_classes(trial.settings, trial.data))
    return NetworkJob(trial.settings, classes, trial.data.channels, with_cost, running)


def _has_batch_of_one(trial: Trial) -> bool:
    """Tell whether an epoch of a trial has a batch of a single image."""
    images, batch = trial.images_used.train, trial.settings.train.batch
    return batch == 1 or images % batch == 1


def _complaint(first: Mapping[str, Trial], invalid: Mapping[str, str]) -> str:
    variant, reason = next(iter(invalid.items()))
    more = f", nor can {len(invalid) - 1} more" if len(invalid) > 1 else ""
    hint = f" (it cannot be built{more}; skip_invalid=true leaves out what cannot)" if len(first) > 1 else ""
    return f"{first[variant].identity.variant}: {reason}{hint}"


@cache
def _code() -> str:
    """Return a hash of what builds, counts and trains, which may change between two versions."""
    files = imported_files(
        "preflight.builders", ("preflight.builders", "checkpoints", "grafting", "measuring", "training")
    )
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
