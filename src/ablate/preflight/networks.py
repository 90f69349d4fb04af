"""Before any training starts: can every network of the sweep be built, grafted and filled with its weights?"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import ablate
from ablate.data.data_use import images_used
from ablate.errors import ConfigError
from ablate.launching.devices import Slot
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs
from ablate.launching.local import LocalBackend
from ablate.preflight.result_cache import Cache
from ablate.records.code_version import versions
from ablate.settings.environment import cpu_threads, output_to, prepare
from ablate.settings.signature import file_hash
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial
from ablate.training.trainer_arguments import network_yaml, trained_classes

COCO_CLASSES = 80  # of the detectors that Ultralytics publishes, which give a network the width of their class branch
NETWORKS_PER_WORKER = 8  # a further process takes as long to start as this one takes to build these


class Preflight(NamedTuple):
    """What came out, by variant key.

    Attributes:
        answers: ``{"places", "wiring", "weights"}`` and, with the cost, ``{"params", "params_train", "gflops",
            "gflops_uncounted", "gflops_ultralytics"}``; ``"contract"`` is a `Findings` as plain values.
        invalid: Why a combination is none: a place that its network lacks, channels that its module refuses, an output
            that is no map of the input's shape.
    """

    answers: dict[str, dict[str, Any]]
    invalid: dict[str, str]


class Builders:
    """Processes that build networks. Entered early, they import what they need while the driver does something else.

    Args:
        networks: How many there are to build, as far as it is known.
    """

    def __init__(self, networks: int) -> None:
        self.backend = LocalBackend(_slots(networks))

    def __enter__(self) -> Builders:
        for slot in self.backend.slots():
            self.backend.submit(slot, "ablate.preflight.networks:warm_up", None)
        return self

    def __exit__(self, *exception: object) -> None:
        for slot in self.backend.slots():
            with suppress(KeyError):  # it has built what there was to build, and ended
                self.backend.stop(slot)


def preflight(
    trials: Sequence[Trial],
    *,
    with_cost: bool = False,
    skip_invalid: bool = False,
    builders: Builders | None = None,
) -> Preflight:
    """Build each distinct network once, in processes of their own; what was built before is known from the cache.

    Args:
        trials: The trials that are to run.
        with_cost: Also count parameters and FLOPs.
        skip_invalid: Return which combinations are illegal, instead of raising.
        builders: Processes that have been started already; they are used once.

    Raises:
        ConfigError: One cannot be built; the message names the variant, the place and the reason.
    """
    first: dict[str, Trial] = {}
    for trial in trials:
        first.setdefault(trial.identity.variant_key, trial)
    keys = {variant: _key(trial, with_cost) for variant, trial in first.items()}
    networks = {_text(key): (key, first[variant]) for variant, key in keys.items()}
    answers = _answers(networks, with_cost, builders)
    result = Preflight({}, {})
    for variant, key in keys.items():
        answer, (_, trial) = answers[_text(key)], networks[_text(key)]
        if "error" in answer:
            raise ConfigError(str(answer["error"]))
        if "invalid" in answer or _stops_at_one_image(trial, answer):
            reason = str(answer["invalid"] if "invalid" in answer else answer["contract"]["single"])
            model = trial.settings.model.name
            result.invalid[variant] = reason if model in reason else f"{model}: {reason}"
        else:
            result.answers[variant] = answer
    if result.invalid and not skip_invalid:
        raise ConfigError(_complaint(first, result.invalid))
    return result


def contract_notes(trials: Sequence[Trial], answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what the user should know of the modules of some trials, although they keep the contract."""
    notes: dict[str, None] = {}
    for trial in trials:
        found = answers.get(trial.identity.variant_key, {}).get("contract") or {}
        notes |= dict.fromkeys(found.get("notes", ()))
        if found.get("mixed") and trial.settings.train.amp and trial.settings.device != "cpu":
            notes[f"under mixed precision (train.amp=true) {found['mixed']}"] = None
    return list(notes)


def _stops_at_one_image(trial: Trial, answer: Mapping[str, Any]) -> bool:
    """Tell whether a module fails with one image in train mode, and an epoch of the trial has such a batch."""
    if not (answer.get("contract") or {}).get("single"):
        return False
    train = trial.config["train"]
    images = images_used(trial.data, train)["train"]
    return int(train["batch"]) == 1 or images % int(train["batch"]) == 1


def warm_up(_: None) -> None:
    """Import what building takes; runs in a worker."""
    prepare()
    with output_to(Path(os.devnull)):
        _settle()


def build(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Build one network; runs in a worker, so that a crash or a leak stays there.

    Args:
        asked: The trial's ``settings``, the names of the ``classes``, the ``channels`` of the images, and whether the
            cost is asked for (``with_cost``).

    Returns:
        An answer (see `Preflight`), or else ``{"invalid": reason}`` or ``{"error": reason}``.
    """
    prepare()
    with output_to(Path(os.devnull)):
        _settle()
        from ablate.grafting.contract import ContractError, check_grafts
        from ablate.grafting.insertion import GraftError
        from ablate.grafting.surgery import load_class
        from ablate.measuring.complexity import complexity
        from ablate.training.freezing import check_freeze
        from ablate.training.network import trained_imgsz

        settings: TrialSettings = asked["settings"]
        source, imgsz = settings.model.weights, settings.train.imgsz
        try:
            classes = {load_class(graft.module.target): graft.module.title for graft in settings.grafts}
            weights = None if source is None else _weights(source, settings.model.architecture)
        except (ConfigError, GraftError) as error:
            return {"error": str(error)}
        try:
            network, surgery, covered = _network(asked, settings, weights)
        except GraftError as error:
            return {"invalid": str(error)} if weights is None or not _fits(asked, settings) else {"error": str(error)}
        try:
            check_freeze(network, settings.train.freeze)
        except ConfigError as error:
            return {"error": str(error)}
        answer: dict[str, Any] = {**surgery, "weights": covered.summary()}
        try:  # on a copy, for a module may keep what it has seen
            answer["contract"] = check_grafts(deepcopy(network), imgsz, classes).summary()
        except ContractError as error:
            return {"invalid": str(error)}
        if source is not None and not _is_file(source):
            answer["weights"] |= {"source": source, "transferred": None, "missing": []}
        if asked["with_cost"]:
            answer |= complexity(network, trained_imgsz(network, imgsz), spend=True).summary()
        return answer


def _answers(
    networks: Mapping[str, tuple[dict[str, Any], Trial]], with_cost: bool, builders: Builders | None
) -> dict[str, dict[str, Any]]:
    """Return what is known of networks, and build the others."""
    known = Cache("costs")
    answers: dict[str, dict[str, Any]] = {}
    for name, (key, trial) in networks.items():
        answer = known.get(key) or known.get({**key, "imgsz": trial.settings.train.imgsz})
        if answer is not None:
            answers[name] = answer
    missing = [name for name in networks if name not in answers]

    def end(index: int, outcome: Outcome) -> None:
        key, trial = networks[missing[index]]
        answer = outcome.result
        if outcome.failure:
            answer = {"error": f"{_title(trial)}: {outcome.message}"}
        elif not {"error", "invalid"} & set(answer) and _key(trial, with_cost) == key:  # else edited meanwhile
            known.put(key, answer)
        answers[missing[index]] = answer

    if missing:
        payloads = [_asked(networks[name][1], with_cost) for name in missing]
        backend = (builders or Builders(len(missing))).backend
        run_jobs(backend, "ablate.preflight.networks:build", payloads, Observer(end=end), Limits(max_retries=0))
        known.prune()
    return answers


def _slots(networks: int) -> list[Slot]:
    """Share the cores among as many processes as are worth their start; no GPU is needed to build a network."""
    cores = cpu_threads()
    count = min(cores, -(-networks // NETWORKS_PER_WORKER))
    threads = str(cores // count)
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return [Slot(f"builder {number + 1}", environment) for number in range(count)]


def _asked(trial: Trial, with_cost: bool) -> dict[str, Any]:
    return {
        "settings": trial.settings,
        "classes": trained_classes(trial.settings, trial.data),
        "channels": trial.data.channels,
        "with_cost": with_cost,
    }


def network_key(trial: Trial) -> dict[str, Any]:
    """Return all that the shapes of a trial's network depend on, and the code that builds it."""
    settings, model = trial.settings, trial.settings.model
    return {
        "grafts": [graft.key for graft in settings.grafts],
        "architecture": [Path(model.architecture).name, file_hash(model.architecture)],
        "classes": len(trained_classes(settings, trial.data)),
        "channels": trial.data.channels,
        "weights": file_hash(model.weights) if model.weights else None,  # the class branch is theirs
        "versions": _versions(),
        "code": _code(),
    }


def _key(trial: Trial, with_cost: bool) -> dict[str, Any]:
    """Return all that an answer depends on."""
    settings, train = trial.settings, trial.settings.train
    names = trained_classes(settings, trial.data)
    own = {"names": names, "cls_remap": train.cls_remap} if settings.model.weights else {}
    own |= {"freeze": train.freeze} if train.freeze else {}
    own |= {"side": train.imgsz} if settings.grafts else {}  # of images that grafts saw
    return {**network_key(trial), **own, "imgsz": train.imgsz if with_cost else None}


def _text(key: Mapping[str, Any]) -> str:
    return repr(sorted(key.items()))


def _title(trial: Trial) -> str:
    return f"{trial.identity.variant} in {trial.settings.model.name}"


def _complaint(first: Mapping[str, Trial], invalid: Mapping[str, str]) -> str:
    variant, reason = next(iter(invalid.items()))
    more = f", nor can {len(invalid) - 1} more" if len(invalid) > 1 else ""
    hint = f" (it cannot be built{more}; skip_invalid=true leaves out what cannot)" if len(first) > 1 else ""
    return f"{first[variant].identity.variant}: {reason}{hint}"


@cache
def _settle() -> None:
    """Import what is needed; then keep the garbage collector from looking through it again with every network."""
    import ablate.training.trainer  # noqa: F401

    gc.collect()
    gc.freeze()


def _network(asked: Mapping[str, Any], settings: TrialSettings, weights: Any) -> tuple[Any, dict[str, Any], Any]:
    from ablate.training.network import build_network

    return build_network(
        network_yaml(settings),
        classes=len(asked["classes"]),
        channels=asked["channels"],
        names=dict(enumerate(asked["classes"])),
        remap=settings.train.cls_remap,
        weights=weights,
        source=str(settings.model.weights),
        seed=settings.seed,
    )


def _fits(asked: Mapping[str, Any], settings: TrialSettings) -> bool:
    """Tell whether the network can be built without weights: then the weights are at fault, not the combination."""
    from ablate.grafting.insertion import GraftError

    try:
        _network(asked, replace(settings, model=replace(settings.model, weights=None)), None)
    except GraftError:
        return False
    return True


def _weights(source: str, architecture: str) -> Any:
    """Read a checkpoint; for a published one that a plan has no need to fetch, return a network of its shapes."""
    if _is_file(source):
        return _checkpoint(source, Path(source).stat().st_mtime_ns)
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    return DetectionModel(yaml_model_load(architecture), nc=COCO_CLASSES, verbose=False)


def _is_file(source: str) -> bool:
    return Path(source).is_file()


@lru_cache(maxsize=1)
def _checkpoint(source: str, changed: int) -> Any:
    """Read a checkpoint once for many networks, as long as the file does not change."""
    from ultralytics.nn.tasks import load_checkpoint

    try:
        return load_checkpoint(source)[0]
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"model.weights={source}: this is no checkpoint that Ultralytics can read: {reason}"
        ) from error


@cache
def _versions() -> dict[str, str]:
    return versions()


@cache
def _code() -> str:
    """Return a hash of what builds, counts and trains, which may change between two versions."""
    home = Path(ablate.__file__).parent
    files = [path for room in ("grafting", "measuring", "training") for path in sorted((home / room).glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
