"""Which of a command's trials run, and in which order: constraints as data."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from ablate.errors import ConfigError, nearest
from ablate.records.factor_levels import ALL_FACTORS, STOCK, levels_of
from ablate.settings.argument_checks import shown
from ablate.settings.losses import FACTOR_OF
from ablate.settings.schema import ORDERS, Config, option_file, options
from ablate.settings.signature import Identity
from ablate.settings.trial_settings import TrialSettings

Rule = dict[str, object]  # a value or a list of values by key


class TrialLike(Protocol):
    """What is looked at here of a trial."""

    @property
    def settings(self) -> TrialSettings:
        """What is trained, and how."""

    @property
    def identity(self) -> Identity:
        """Names and hashes."""


T = TypeVar("T", bound=TrialLike)


@dataclass(frozen=True)
class Exclusion:
    """The trials that some rules leave out.

    Attributes:
        signatures: Of these trials.
        unmatched: The rules that no trial matches.
    """

    signatures: frozenset[str]
    unmatched: list[Rule]


def check_rules(rules: Sequence[Any]) -> None:
    """Check the rules of `exclude`.

    Raises:
        ConfigError: One is no mapping, is empty, or names a key that no trial has.
    """
    example = "such as exclude=[{module: hat, model: yolo26x}]"
    valid = _keys() if rules else []
    for rule in rules:
        if not isinstance(rule, Mapping) or not rule:
            raise ConfigError(f"exclude: {shown(rule)} is no rule; a list of mappings is needed, {example}")
        for key, levels in rule.items():
            if str(key) not in valid:
                guess = nearest(str(key), valid)
                factors = ", ".join(ALL_FACTORS)
                raise ConfigError(
                    f"exclude: {key}: no such key. {guess}valid: {factors}, seed, or a field: train.imgsz"
                )
            if isinstance(levels, Mapping) or any(isinstance(level, Mapping | list) for level in _listed(levels)):
                raise ConfigError(f"exclude: {key}: {shown(levels)}: a value or a list of values is needed, {example}")


def exclude(trials: Sequence[TrialLike], rules: Sequence[Rule]) -> Exclusion:
    """Return the trials that rules leave out: a trial of which all entries of one rule match.

    Args:
        trials: All trials of a command.
        rules: Checked rules, each by key the value, or a list of values, that matches. Keys are factors, `seed` or
            dotted paths of the configuration. Of several grafts one must match what a rule says of module and
            insertion.
    """
    matches = [{trial.identity.signature for trial in trials if _matches(trial, rule)} for rule in rules]
    unmatched = [rule for rule, signatures in zip(rules, matches, strict=True) if not signatures]
    return Exclusion(frozenset().union(*matches), unmatched)


def lonely_baselines(trials: Sequence[TrialLike], joined: Container[str], left_out: Container[str]) -> list[str]:
    """Return the signatures of the baselines that have no trial left to be compared with.

    To be compared, a trial shares a baseline's comparison key, its seed and its fold.

    Args:
        trials: All trials of a command.
        joined: Signatures of the baselines that joined by themselves; any other baseline stays.
        left_out: Signatures of the trials that do not run.
    """
    staying = [trial.identity for trial in trials if trial.identity.signature not in left_out]
    compared = {(it.comparison_key, it.seed, it.fold) for it in staying if it.signature not in joined}
    return [
        it.signature
        for it in staying
        if it.signature in joined and (it.comparison_key, it.seed, it.fold) not in compared
    ]


def ordered(trials: Sequence[T], order: str, cost: Callable[[T], float]) -> list[T]:
    """Return trials in the order in which they are to run; equal ones stay in the order given.

    Args:
        trials: In the order given.
        order: ``given``, ``longest_first``, ``cheapest_first``, or ``by_seed``: each variant's first seed before any
            variant's second, and of one seed each variant's first fold before any variant's second.
        cost: Expected cost of a trial, in any unit; called for the two orders that need it.
    """
    if order == "longest_first":
        return sorted(trials, key=cost, reverse=True)
    if order == "cheapest_first":
        return sorted(trials, key=cost)
    if order == "by_seed":
        replicates: dict[str, dict[tuple[int, int | None], int]] = {}
        ranks = []
        for trial in trials:
            variant = replicates.setdefault(trial.identity.variant_key, {})
            ranks.append(variant.setdefault((trial.identity.seed, trial.identity.fold), len(variant)))
        return [trials[index] for index in sorted(range(len(trials)), key=ranks.__getitem__)]
    if order != "given":
        raise ConfigError(f"order={order}: {nearest(order, ORDERS)}valid: {', '.join(ORDERS)}")
    return list(trials)


def _matches(trial: TrialLike, rule: Rule) -> bool:
    factors = levels_of(trial.identity.factors)
    of_graft: Rule = {}  # by path inside a graft: one and the same graft must match them all
    for key, levels in rule.items():
        if key.partition(".")[0] in ("module", "insertion"):
            of_graft[key if "." in key else f"{key}.name"] = levels
            continue
        key = FACTOR_OF.get(key.removeprefix("loss."), key) if key.startswith("loss.") else key
        level = factors[key] if key in ALL_FACTORS else _value(trial.settings.to_plain(), key)
        named = str(level).partition("[")[0] if key in STOCK else level  # wiou[delta=3] is a wiou
        if not _among(level, levels) and not _among(named, levels):
            return False
    nothing = {"module": {"name": "none"}, "insertion": {"name": "none"}}
    grafts = [graft.to_plain() for graft in trial.settings.grafts] or [nothing]
    return any(all(_among(_value(graft, path), levels) for path, levels in of_graft.items()) for graft in grafts)


def _listed(levels: object) -> list[Any]:
    return list(levels) if isinstance(levels, list | tuple) else [levels]


def _among(level: object, levels: object) -> bool:
    return _text(level) in map(_text, _listed(levels))


def _text(value: object) -> str:
    """Return a value as text that is the same for 1 and 1.0, and for MuSGD and musgd."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower()


def _value(config: Mapping[str, Any], path: str) -> Any:
    node: Any = config
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def _keys() -> list[str]:
    """Return the keys that a rule may have: factors first, then every field of the configuration."""
    keys = dict.fromkeys([*ALL_FACTORS, "seed"])
    for section, content in asdict(Config()).items():
        keys |= dict.fromkeys([f"{section}.{name}" for name in content] if isinstance(content, dict) else [section])
    for group in ("module", "data"):
        for name in options(group):
            with suppress(ConfigError):  # a file that nobody chose may be damaged
                keys |= dict.fromkeys(f"{group}.{key}" for key in option_file(group, name))
    return list(keys)
