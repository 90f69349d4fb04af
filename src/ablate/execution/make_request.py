"""From a command to its trials: laid out, composed, checked, some left out, in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ablate.errors import ConfigError
from ablate.execution.latency_matches import LatencyMatcher
from ablate.preflight.estimate import relative_cost
from ablate.preflight.network_answer import NetworkCost
from ablate.preflight.networks import preflight
from ablate.records.sweep_record import Control, Design, TunedRate
from ablate.settings.argument_checks import shown
from ablate.settings.trial_settings import CommandSettings
from ablate.storage.plain_values import Plain
from ablate.study.control_trials import join_controls
from ablate.study.designs import SUBSETS, lay_out
from ablate.study.fold_data import DataFinder
from ablate.study.grid import Axes, Cell
from ablate.study.selection import check_rules, exclude, lonely_baselines, ordered
from ablate.study.trial import Trial, of_each_fold

EXCLUDED = "excluded"
LONELY = "a baseline that nothing is left to be compared with"


class LeftOut(NamedTuple):
    """A trial that is left out, by name, and why."""

    trial: str
    reason: str


@dataclass(frozen=True)
class Request:
    """The trials of a command.

    Attributes:
        trials: In the order in which they are to run.
        design: What the report needs to know of a design of components, or None.
        left_out: Trials that were left out.
        notes: What the user should know of the command.
        preflown: Whether every network has been built already.
        controls: By variant key.
        tuned: By variant key, the learning rates that short trials have chosen.
    """

    trials: list[Trial]
    design: Design | None = None
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()
    preflown: bool = False
    controls: dict[str, Control] = field(default_factory=dict)
    tuned: dict[str, TunedRate] = field(default_factory=dict)


def make_request(
    axes: Axes,
    settings: Plain,
    make_trials: Callable[[Sequence[Cell]], list[Trial]],
    find_weights: Callable[[str], str],
    finder: DataFinder,
    match_latency: LatencyMatcher,
) -> Request:
    """Return the trials that a command means.

    Args:
        axes: For each overridden key its overrides.
        settings: The configuration with the command's fixed overrides.
        make_trials: Composes and checks cells; one trial each.
        find_weights: Finds a checkpoint by the name under which it was published.
        finder: Finds the data of folds.
        match_latency: Finds stock networks that are as slow as a graft.

    Raises:
        ConfigError: The command is invalid, no trial is left, or a latency that is to be matched cannot be measured.
        DataError: A data set cannot be divided into folds.
    """
    command = CommandSettings.from_plain(settings)
    check_rules(command.exclude)
    if command.controls and command.design in SUBSETS:
        raise ConfigError(
            f"controls: design={command.design} compares all its variants with one baseline, whatever their "
            "optimizer or model, so no control would match it; they go with design=product and design=one_at_a_time"
        )
    layout = lay_out(axes, settings)
    trials = [each for trial in make_trials(layout.cells) for each in of_each_fold(trial, finder)]
    layout = layout.over_folds(command.folds)
    signatures = [trial.identity.signature for trial in trials]
    requested = {signature for signature, joined in zip(signatures, layout.joined, strict=True) if not joined}
    joined = set(signatures) - requested
    selection = _select(trials, joined, command)
    reasons, costs = selection.reasons, selection.costs
    staying = _without(trials, reasons)
    if not staying:
        raise ConfigError("nothing is left to do: every trial is excluded or cannot be built")
    controls = join_controls(staying, command.controls, find_weights, _count_gflops, match_latency)
    if selection.preflown and controls.trials:
        costs |= preflight(controls.trials, with_cost=True).costs
    names = {trial.identity.signature: trial.identity.name for trial in trials}
    return Request(
        trials=ordered([*staying, *controls.trials], command.order, lambda trial: relative_cost(trial, costs)),
        design=layout.record([None if t.identity.signature in reasons else t.identity.variant_key for t in trials]),
        left_out=[LeftOut(name, reasons[signature]) for signature, name in names.items() if signature in reasons],
        notes=[
            *finder.notes,
            *(f"exclude: no trial matches {shown(rule)}" for rule in selection.unmatched),
            *controls.notes,
            *match_latency.notes,
        ],
        preflown=selection.preflown,
        controls=controls.controls,
    )


@dataclass(frozen=True)
class _Selection:
    """Which trials are left out.

    Attributes:
        reasons: By signature, of the trials that are left out.
        unmatched: Rules of `exclude` that no trial matches.
        costs: By variant key, of the networks that were built.
        preflown: Whether all networks have been built.
    """

    reasons: dict[str, str]
    unmatched: Sequence[Plain]
    costs: dict[str, NetworkCost]
    preflown: bool


def _select(trials: Sequence[Trial], joined: Collection[str], command: CommandSettings) -> _Selection:
    """Leave out what is excluded, what cannot be built, and baselines that are compared with nothing then.

    Args:
        trials: All of the command.
        joined: Signatures of those that joined as baselines.
        command: What it says of them.
    """
    exclusion = exclude(trials, command.exclude)
    reasons = dict.fromkeys(exclusion.signatures, EXCLUDED)
    reasons |= dict.fromkeys(lonely_baselines(trials, joined, reasons), LONELY)
    preflown = command.skip_invalid or command.order in ("longest_first", "cheapest_first")
    if not preflown:
        return _Selection(reasons, exclusion.unmatched, {}, preflown)
    networks = preflight(_without(trials, reasons), with_cost=True, skip_invalid=command.skip_invalid)
    for trial in trials:
        if trial.identity.variant_key in networks.invalid:
            reasons[trial.identity.signature] = networks.invalid[trial.identity.variant_key]
    reasons |= dict.fromkeys(lonely_baselines(trials, joined, reasons), LONELY)
    return _Selection(reasons, exclusion.unmatched, dict(networks.costs), preflown)


def _count_gflops(trials: Sequence[Trial]) -> dict[str, float]:
    """Return 1e9 floating-point operations for one image, by variant key."""
    return {variant: cost.gflops for variant, cost in preflight(trials, with_cost=True).costs.items()}


def _without(trials: Sequence[Trial], left_out: Mapping[str, str]) -> list[Trial]:
    return [trial for trial in trials if trial.identity.signature not in left_out]
