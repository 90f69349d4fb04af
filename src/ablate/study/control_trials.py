"""Controls: trials that join a sweep so that "it helps" can be told from "it is bigger" and from "it was operated on".

| control | what it is | beside |
|---|---|---|
| identity | a graft that does nothing at the places of a graft, always wired plainly | every insertion point |
| params | a plain block of convolutions with as many parameters, at the same places and wired alike | every graft |
| scale | the stock network of the next bigger scale | every combination of model, optimizer, data and training |

Each is made from the settled configuration of a trial that was asked for, so it has that trial's seed, data, optimizer
and training. Two that are equal are one. With another wiring than plain an identity would be no control: x + x is twice
the map, and a x + x is not the stock network either once a has been trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import ConfigError
from ablate.settings.graft_syntax import Graft, show_graft
from ablate.settings.schema import CONTROL_MODULES, option_file, options
from ablate.settings.signature import grafts_of
from ablate.study.trial import Trial

SCALES = "nsmblx"  # Ultralytics' letters, from small to big

Configuration = dict[str, Any]


@dataclass
class Joined:
    """The controls of a sweep.

    Attributes:
        trials: Those that were not asked for anyway.
        controls: By variant key what `sweep.json` says: ``{"kind", "comparison_key", "of", "signatures"}``. The
            comparison key is that of the variants that it is shown among; the signatures are those of `trials`.
        notes: Why there is no control where one could be expected.
    """

    trials: list[Trial] = field(default_factory=list)
    controls: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def join_controls(trials: Sequence[Trial], kinds: Sequence[str], find_weights: Callable[[str], str]) -> Joined:
    """Return the controls of some trials.

    Args:
        trials: What runs otherwise, with its baselines.
        kinds: Which controls join, of `ablate.settings.schema.CONTROLS`.
        find_weights: Finds a checkpoint by the name under which it was published.

    Raises:
        ConfigError: A model has no scales, or the sweep starts from a checkpoint that no bigger network has.
    """
    joined = Joined()
    known = {trial.identity.signature for trial in trials}
    for kind in dict.fromkeys(kinds):
        for trial in trials:
            for config, of in _controls(kind, trial, joined.notes, find_weights):
                control = Trial.of(config, trial.data)
                identity = control.identity
                entry: dict[str, Any] = {"kind": kind, "comparison_key": trial.identity.comparison_key, "of": of}
                entry = joined.controls.setdefault(identity.variant_key, {**entry, "signatures": []})
                if identity.signature not in known:
                    known.add(identity.signature)
                    entry["signatures"].append(identity.signature)
                    joined.trials.append(control)
    grafted = any(grafts_of(trial.config) for trial in trials)
    if not grafted and (without := [kind for kind in dict.fromkeys(kinds) if kind != "scale"]):
        joined.notes.append(f"controls: no trial has a graft that {' and '.join(without)} could be a control of")
    joined.notes[:] = dict.fromkeys(joined.notes)
    return joined


def _controls(
    kind: str, trial: Trial, notes: list[str], find_weights: Callable[[str], str]
) -> Iterator[tuple[Configuration, str]]:
    """Yield the control of a trial, at most one, and what it is matched with."""
    grafts = grafts_of(trial.config)
    studied = [graft for graft in grafts if graft["module"]["name"] not in CONTROL_MODULES]
    if kind == "scale":
        bigger = _bigger(trial.config, notes, find_weights)
        if bigger is not None:
            yield bigger, ""
    elif studied and kind == "identity":
        yield _with_grafts(trial.config, _identities(studied)), ""
    elif studied and kind == "params":
        yield _with_grafts(trial.config, [_matched(graft) for graft in grafts]), "+".join(map(show_graft, grafts))


def _identities(grafts: Sequence[Graft]) -> list[Graft]:
    """Return one identity for each insertion point."""
    places = {str(graft["insertion"]["name"]): {**graft["insertion"], "wiring": "plain"} for graft in grafts}
    return [{"module": option_file("module", "identity"), "insertion": place} for place in places.values()]


def _matched(graft: Graft) -> Graft:
    """Return a block with as many parameters as a graft; a graft that is a control itself stays."""
    module = graft["module"]
    if module["name"] in CONTROL_MODULES:
        return graft
    like = {name: value for name, value in module.items() if name != "insertion"}
    return {"module": {**option_file("module", "convblock"), "like": like}, "insertion": graft["insertion"]}


def _with_grafts(config: Configuration, grafts: Sequence[Graft]) -> Configuration:
    first, *further = deepcopy(list(grafts))
    return {**deepcopy(config), **first, "grafts": further}


def _bigger(config: Configuration, notes: list[str], find_weights: Callable[[str], str]) -> Configuration | None:
    """Return the baseline of the next bigger scale; None, and a note, where there is none."""
    model = config["model"]
    name = str(model["name"])
    found = re.fullmatch(rf"(yolo(?:v\d+|\d+))([{SCALES}])", name)
    stock = option_file("model", name)
    if found is None or Path(str(model["architecture"])).name != stock.get("architecture"):
        raise ConfigError(
            f"controls: scale: {name} ({model['architecture']}) is no stock network, so it has no next bigger scale; "
            "leave scale out"
        )
    bigger = next((f"{found[1]}{s}" for s in SCALES[SCALES.index(found[2]) + 1 :] if _is_model(f"{found[1]}{s}")), None)
    if bigger is None:
        notes.append(f"controls: {name} is the biggest of its scales: it has no control of scale")
        return None
    weights = None if model["weights"] is None else _weights_of(bigger, model, find_weights)
    nothing: Configuration = {
        "module": option_file("module", "none"),
        "insertion": {"name": "none", "at": None, "wiring": "plain"},
        "grafts": [],
        "model": {**model, **option_file("model", bigger), "weights": weights},
    }
    return {**deepcopy(config), **nothing}


def _is_model(name: str) -> bool:
    return name in options("model")


def _weights_of(bigger: str, model: Mapping[str, Any], find_weights: Callable[[str], str]) -> str:
    """Return the checkpoint of a bigger network that was published with the one that the sweep starts from."""
    given = Path(str(model["weights"]))
    if given.name != f"{model['name']}.pt":
        raise ConfigError(
            f"controls: scale: the sweep starts from {given.name}, and {bigger} has no such weights; only published "
            f"ones ({model['name']}.pt) have their like ({bigger}.pt): start from these, from model.weights=null, or "
            "leave scale out"
        )
    beside = given.with_name(f"{bigger}.pt")
    return str(beside) if beside.is_file() else find_weights(beside.name)
