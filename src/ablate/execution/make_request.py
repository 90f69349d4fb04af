"""From what a command says to the trials it means: laid out, composed, checked, some left out, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.errors import ConfigError
from ablate.preflight.estimate import relative_cost
from ablate.preflight.networks import preflight
from ablate.study.control_trials import join_controls
from ablate.study.designs import SUBSETS, lay_out
from ablate.study.grid import Axes, Cell
from ablate.study.selection import check_rules, drop_lonely_baselines, ordered, select
from ablate.study.trial import Trial


@dataclass(frozen=True)
class Request:
    """The trials of a command.

    Attributes:
        trials: In the order in which they are to run.
        design: What the report needs to know of a design of components, or None.
        left_out: Trials that were left out, by name, with the reason.
        notes: What the user should know of his own words.
        preflown: Whether every network has been built already.
        controls: By variant key what it is a control of: `Joined.controls`.
    """

    trials: list[Trial]
    design: dict[str, Any] | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    preflown: bool = False
    controls: dict[str, dict[str, Any]] = field(default_factory=dict)


def make_request(
    axes: Axes,
    settings: Mapping[str, Any],
    make_trials: Callable[[Sequence[Cell]], list[Trial]],
    find_weights: Callable[[str], str],
) -> Request:
    """Return the trials that a command means.

    Args:
        axes: For each overridden key its overrides.
        settings: The configuration with what is the same for the whole command, plain values.
        make_trials: Composes and checks cells; one trial each.
        find_weights: Finds a checkpoint by the name under which it was published.

    Raises:
        ConfigError: Something cannot be meant, or nothing is left to do.
    """
    check_rules(settings["exclude"])
    if settings["controls"] and settings["design"] in SUBSETS:
        raise ConfigError(
            f"controls: design={settings['design']} compares all its variants with one baseline, whatever their "
            "optimizer or model, so no control would match it; they go with design=product and design=one_at_a_time"
        )
    layout = lay_out(axes, settings)
    trials = make_trials(layout.cells)
    selection = select(trials, layout.joined, settings["exclude"])
    kept = selection.kept
    reasons = {t.identity.variant_key: "excluded" for t, stays in zip(trials, kept, strict=True) if not stays}
    costs: Mapping[str, Any] = {}
    preflown = False
    if settings["skip_invalid"] or settings["order"] in ("longest_first", "cheapest_first"):
        staying = [trial for trial, stays in zip(trials, kept, strict=True) if stays]
        costs, invalid = preflight(staying, with_cost=True, skip_invalid=settings["skip_invalid"])
        reasons |= invalid
        kept = [stays and t.identity.variant_key not in invalid for t, stays in zip(trials, kept, strict=True)]
        kept = drop_lonely_baselines(trials, layout.joined, kept)
        preflown = True
    if not any(kept):
        raise ConfigError("nothing is left to do: every trial is excluded or cannot be built")
    staying = [trial for trial, stays in zip(trials, kept, strict=True) if stays]
    joined = join_controls(staying, settings["controls"], find_weights)
    if preflown and joined.trials:
        costs = {**costs, **preflight(joined.trials, with_cost=True).answers}
    alone = "a baseline that nothing is left to be compared with"
    left_out = {
        trial.identity.signature: (trial.identity.name, reasons.get(trial.identity.variant_key, alone))
        for trial, stays in zip(trials, kept, strict=True)
        if not stays
    }
    return Request(
        trials=ordered(
            [*staying, *joined.trials],
            settings["order"],
            lambda trial: relative_cost(trial, costs),
        ),
        design=layout.record([t.identity.variant_key if k else None for t, k in zip(trials, kept, strict=True)]),
        left_out=list(left_out.values()),
        notes=[*(f"exclude: no trial matches {dict(rule)}" for rule in selection.unmatched), *joined.notes],
        preflown=preflown,
        controls=joined.controls,
    )
