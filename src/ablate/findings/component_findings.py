"""What each component of a study is worth, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.component_effects import ComponentEffect, effects_of
from ablate.analysis.number_format import points
from ablate.analysis.phrases import interval_text, joined


def component_findings(comparison: Comparison) -> list[str]:
    """The effects of the components, study by study."""
    sentences: list[str] = []
    for study in effects_of(comparison):
        texts = _removals(study.effects) if study.is_removal else _main_effects(study.effects)
        sentences += [f"With {study.title}, {text[0].lower()}{text[1:]}" if study.title else text for text in texts]
    return sentences


def _removals(effects: Sequence[ComponentEffect]) -> list[str]:
    numbers = [effect for effect in effects if effect.mean is not None]
    seeds = max((len(effect.seeds) for effect in numbers), default=0)
    words = [f"removing {effect.component} {_removed(effect)}" for effect in numbers]
    lead = f"Compared with all components together ({seeds} seed{'' if seeds == 1 else 's'}),"
    sentences = [f"{lead} {'; '.join(words)}.{_doubts(numbers)}"] if numbers else []
    return sentences + _refusals(effects)


def _removed(effect: ComponentEffect) -> str:
    """What happens without a component; the size is positive, and the interval is that of the change as it is named."""
    gains = _mean(effect) < 0
    size = points(abs(_mean(effect)), signed=False)
    what = "changes nothing" if float(size) == 0 else f"{'raises' if gains else 'lowers'} mAP by {size} points"
    return what + _test(effect, sign=-1 if gains else 1)


def _main_effects(effects: Sequence[ComponentEffect]) -> list[str]:
    numbers = [effect for effect in effects if effect.mean is not None]
    pairs = max((effect.pairs for effect in numbers), default=0)
    lead = "Main effects, averaged over the settings of the other components" if pairs > 1 else "Effects of adding each"
    words = [f"{effect.component} {points(_mean(effect))} points{_test(effect)}" for effect in numbers]
    sentences = [f"{lead}: {'; '.join(words)}.{_doubts(numbers)}"] if numbers else []
    fewer = [f"{effect.component} ({effect.pairs} of {pairs})" for effect in numbers if effect.pairs < pairs]
    if fewer:
        sentences.append(f"Pairs of variants are missing, so the average covers fewer of them for {joined(fewer)}.")
    return sentences + _refusals(effects)


def _doubts(effects: Sequence[ComponentEffect]) -> str:
    """What the numbers do not support, in words that follow them."""
    text = ""
    unclear = [e.component for e in effects if e.interval is not None and not e.supported]
    if unclear:
        effect = "effect of {} is" if len(unclear) == 1 else "effects of {} are"
        text += f" The {effect.format(joined(unclear))} not significant after Holm correction; an effect within the CI "
        text += "cannot be ruled out."
    if any(effect.interval is None for effect in effects):
        one = max(len(effect.seeds) for effect in effects) == 1
        few = "There is one seed" if one else "There are too few seeds, or they do not differ"
        text += f" {few}, so there is no CI, and an effect cannot be separated from seed-to-seed variance."
    return text


def _refusals(effects: Sequence[ComponentEffect]) -> list[str]:
    return [
        f"The effect of {effect.component} cannot be estimated: {effect.reason}." for effect in effects if effect.reason
    ]


def _test(effect: ComponentEffect, sign: int = 1) -> str:
    """The interval of `sign` times an effect, and the p-value; empty where there is none."""
    if effect.interval is None or effect.p_holm is None:
        return ""
    low, high = sorted((sign * effect.interval.low, sign * effect.interval.high))
    return f" ({interval_text(low, high)}, Holm-corrected p {cell('p_holm', effect.p_holm)})"


def _mean(effect: ComponentEffect) -> float:
    return effect.mean or 0.0
