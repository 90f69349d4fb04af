"""Before any training starts: can every network of the sweep be built, grafted and filled with its weights?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.config import ConfigError
from ablate.environment import output_to, prepare
from ablate.launching.local import run_jobs
from ablate.trial import Trial, network_yaml, pick_device


def preflight(trials: Sequence[Trial], *, with_cost: bool = False) -> dict[str, dict[str, Any]]:
    """Build each distinct network once, in a process of its own.

    Args:
        trials: The trials that are to run.
        with_cost: Also count parameters and FLOPs.

    Returns:
        By variant key: ``{"places", "wiring", "weights", "params", "gflops", "gflops_ultralytics"}``.

    Raises:
        ConfigError: One cannot be built; the message names the variant, the place and the reason.
    """
    distinct: dict[str, tuple[str, dict[str, Any]]] = {}
    for trial in trials:
        config = trial.config
        asked = {
            **{name: config[name] for name in ("module", "insertion", "model", "on_oom", "seed")},
            "classes": list(trial.data.classes),
            "imgsz": config["train"]["imgsz"] if with_cost else None,
            "device": None if with_cost else config["device"],  # a plan may be made on another machine
        }
        key = json.dumps({**asked, "seed": None}, sort_keys=True)
        distinct.setdefault(key, (trial.identity.variant, asked))
        distinct[trial.identity.variant_key] = distinct[key]
    unique = {id(asked): (name, asked) for name, asked in distinct.values()}
    outcome = run_jobs("ablate.sweeping.preflight:build_all", [list(unique.values())])[0]
    if outcome.failure:
        raise ConfigError(f"the networks of this sweep cannot be built: {outcome.message}")
    answers = dict(zip(unique, outcome.result, strict=True))
    for answer in answers.values():
        if "error" in answer:
            raise ConfigError(answer["error"])
    return {t.identity.variant_key: answers[id(distinct[t.identity.variant_key][1])] for t in trials}


def build_all(items: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Build networks; runs in a worker, so that a crash or a leak stays there."""
    prepare()
    with output_to(Path(os.devnull)):
        return [_build(name, asked) for name, asked in items]


def _build(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    from ultralytics.nn.tasks import load_checkpoint

    from ablate.grafting.insertion import GraftError
    from ablate.measuring.complexity import complexity
    from ablate.training.trainer import build_network

    weights, source = None, asked["model"]["weights"]
    try:
        if asked["device"] is not None:
            pick_device(asked["device"])
        if source is not None:
            try:
                weights, _ = load_checkpoint(source)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                return {"error": f"model.weights={source}: this is no checkpoint that Ultralytics can read: {reason}"}
        network, surgery, covered = build_network(
            network_yaml(asked),
            classes=len(asked["classes"]),
            names=dict(enumerate(asked["classes"])),
            weights=weights,
            source=str(source),
            seed=asked["seed"],
        )
    except GraftError as error:
        return {"error": f"{name}: {error}"}
    except ConfigError as error:
        return {"error": str(error)}
    answer: dict[str, Any] = {**surgery, "weights": covered.summary()}
    if asked["imgsz"]:
        answer |= complexity(network, asked["imgsz"]).summary()
    return answer
