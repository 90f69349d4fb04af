"""Names of variants as people read them: the recorded label, and what tells equal labels apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ablate.records.factor_levels import levels_of
from ablate.records.trial_record import Record, TrialRecord
from ablate.safe_text import clipped, one_line
from ablate.storage.plain_values import Plain

Leaves = dict[str, object]  # dotted name of a setting -> its value
LONGEST_LABEL = 400  # characters of a recorded label; it is drawn in figures
LONGEST = 28  # characters of a value inside a label


def display_labels(variants: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """One label per variant key, all different.

    Args:
        variants: variant key -> its records, at least one each.

    Returns:
        variant key -> label. Where several keys share the recorded label, each gets the factors or
        else the settings in which they differ, next to the level they belong to:
        `hmha[rerank=batch]@c3k2 musgd`.
    """
    labels = {key: clipped(one_line(records[0].variant or key), LONGEST_LABEL) for key, records in variants.items()}
    for label in set(labels.values()):
        twins = [key for key in labels if labels[key] == label]
        if len(twins) > 1:
            labels.update(_told_apart(label, {key: variants[key] for key in twins}))
    return labels


def _told_apart(label: str, twins: dict[str, Sequence[Record]]) -> dict[str, str]:
    """Labels for variants that share one: by factors, where those are equal by settings, else by key."""
    factors: dict[str, Leaves] = {key: {**levels_of(records[0].factors)} for key, records in twins.items()}
    leaves = {key: {name: factors[key][name] for name in _differing(factors)} for key in twins}
    for same in {repr(described): described for described in leaves.values()}.values():
        settings = {key: settings_of(twins[key]) for key in twins if leaves[key] == same}
        differing = _differing(settings)
        for key, described in settings.items():
            leaves[key] = same | {leaf: described[leaf] for leaf in differing if leaf in described}
    named = {key: _insert(label, leaves[key], twins[key][0]) for key in twins}
    counts = Counter(named.values())
    return {key: name if counts[name] == 1 else f"{name} #{key[:6]}" for key, name in named.items()}


def _differing(described: dict[str, Leaves]) -> list[str]:
    """Leaves whose value is not the same for all, in the order in which they appear."""
    leaves = dict.fromkeys(leaf for values in described.values() for leaf in values)
    return [leaf for leaf in leaves if len({repr(values.get(leaf)) for values in described.values()}) > 1]


def settings_of(records: Sequence[Record]) -> Leaves:
    """Flat config of a variant, without what varies between its own replicates (the seed, folders)."""
    flat = [_flatten(record.config if isinstance(record, TrialRecord) else {}) for record in records]
    return {
        leaf: setting
        for leaf, setting in flat[0].items()
        if leaf != "seed" and all(repr(other.get(leaf)) == repr(setting) for other in flat[1:])
    }


def _flatten(config: Plain, prefix: str = "") -> Leaves:
    """Nested mapping -> {dotted name: value}."""
    flat: Leaves = {}
    for key, entry in config.items():
        if isinstance(entry, dict):
            flat |= _flatten(entry, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = entry
    return flat


def _insert(label: str, leaves: Leaves, record: Record) -> str:
    """Put `[name=value]` behind the level that each leaf belongs to, or at the end."""
    places: dict[str, list[str]] = {}
    for leaf, setting in leaves.items():
        group, _, name = leaf.rpartition(".")
        level = record.factors.get(group.split(".")[0], "")
        target = level if level and level in label else ""
        text = one_line(str(setting))
        text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "~"
        places.setdefault(target, []).append(f"{name if target else leaf}={text}")
    for level, words in places.items():
        bracket = f"[{', '.join(words)}]"
        label = label.replace(level, level + bracket, 1) if level else f"{label} {bracket}"
    return label
