"""What the controls show, in words: is the comparison sound, and is a gain more than size?"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.identical_results import is_identical, is_identity, twins
from ablate.analysis.number_format import points
from ablate.analysis.pairing import shared_seeds
from ablate.analysis.phrases import count, interval_text, listed
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant
from ablate.records.trial_record import TrialRecord
from ablate.statistics.interval import Interval
from ablate.statistics.paired import paired_differences, t_interval

ALARM = "THE COMPARISON ITSELF IS BROKEN"
EXACT = 1e-9  # mAP50-95: two trainings that compute the same agree to the last digit


def broken(comparison: Comparison) -> list[str]:
    """Identity controls that do not reproduce their baseline: said before anything else."""
    sentences = []
    for control, baseline, differences in _identities(comparison):
        if not control.is_comparable:
            sentences.append(
                f"{control.label} cannot verify the comparison: its training differed from that of {baseline.label}; "
                "see the notes."
            )
        elif max(map(abs, differences)) > EXACT:
            most = points(max(map(abs, differences)), signed=False)
            size = f"{most} points" if float(most) else "less than 0.01 points"
            threads = _other_threads(control.variant, baseline)
            if threads:
                sentences.append(
                    f"{control.label} cannot verify the comparison: it was trained with {threads}, which changes "
                    f"floating-point rounding, and its mAP50-95 differs by up to {size}. Set OMP_NUM_THREADS for both "
                    "to make them comparable."
                )
                continue
            sentences.append(
                f"{ALARM}: {control.label} computes the same function as {baseline.label}, but with the same seed its "
                f"mAP50-95 differs by up to {size}. Either grafting changes the network or training is not "
                "deterministic. Do not trust any difference in this table until this is resolved."
            )
    return sentences


def without_effect(comparison: Comparison) -> list[str]:
    """Variants that change something and gave the baseline's results in every digit: said before any difference."""
    sentences = []
    for group in comparison.groups:
        base = group.baseline
        same = [
            row.label
            for row in group.rows
            if base is not None and row.variant is not base and not is_identity(row.variant)
            if is_identical(row.variant, base)
        ]
        if same and base is not None:
            gave = f"{listed(same)} gave the results of {base.label} in every digit, metrics and losses of each epoch"
            sentences.append(
                f"{gave}: what {'it changes' if len(same) == 1 else 'they change'} did not act, and "
                f"{'its row is' if len(same) == 1 else 'their rows are'} no evidence that it makes no difference."
            )
        for pair in twins([row.variant for row in group.rows if row.variant.control is None]):
            names = [variant.label for variant in pair if base is None or variant.key != base.key]
            if len(names) > 1 and not set(names) & set(same):
                sentences.append(
                    f"{listed(names)} gave the same results in every digit, metrics and losses of each epoch: what "
                    "they differ in did not act."
                )
    return sentences


def control_findings(comparison: Comparison) -> list[str]:
    """What the controls show of size and scale; and that surgery changes nothing, where that is so."""
    sentences = []
    for group in comparison.groups:
        sentences += [text for row in group.rows for text in _size(row, group)]
        sentences += [text for row in group.rows for text in _scale(row, group)]
    exact = [
        (control.label, len(differences))
        for control, _, differences in _identities(comparison)
        if control.is_comparable and max(map(abs, differences)) <= EXACT
    ]
    if exact:
        seeds = count(min(number for _, number in exact), "seed")
        each = f"each with {seeds}" if len(exact) > 1 else f"with {seeds}"
        sentences.append(
            f"{listed(label for label, _ in exact)} reproduced the baseline exactly, {each}: grafting by itself "
            "changes nothing."
        )
    return sentences


def _identities(comparison: Comparison) -> Iterator[tuple[Row, Variant, list[float]]]:
    """Each identity control with its baseline and their differences on the same seeds."""
    for group in comparison.groups:
        for row in group.rows:
            if row.control == "identity" and group.baseline is not None:
                _, differences = paired_differences(row.variant.accuracy(), group.baseline.accuracy())
                if differences:
                    yield row, group.baseline, differences


def _threads(variant: Variant) -> dict[int, str]:
    """By seed the threads of a variant's trials on processors, in words: ``2 threads``, ``2, from epoch 4 on 1``."""
    threads_by_seed = {}
    for trial in variant.trials:
        if not isinstance(trial, TrialRecord) or trial.realised.device != "cpu":
            continue
        (_, first), *changes = trial.realised.threads_by_epoch or ((1, trial.realised.threads),)
        later = "".join(f", from epoch {epoch} on {threads}" for epoch, threads in changes)
        threads_by_seed[trial.seed] = f"{first} thread{'s' * (first != 1)}{later}"
    return threads_by_seed


def _other_threads(control: Variant, baseline: Variant) -> str:
    """Name a seed's numbers of threads where they differ; empty where none does."""
    threads, of_baseline = _threads(control), _threads(baseline)
    pairs = [(threads[seed], of_baseline[seed]) for seed in sorted(threads.keys() & of_baseline.keys())]
    differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return "" if differing is None else f"{differing[0]} (the baseline with {differing[1]})"


def _size(row: Row, group: Group) -> Iterator[str]:
    """What a graft gains beyond a plain block of its size."""
    control, baseline = row.variant.control, group.baseline
    if control is None or control.kind != "params" or not _has_fair_difference(row) or baseline is None:
        return
    for other in group.rows:
        if other.is_control or not _has_fair_difference(other) or _grafts(other) != control.of:
            continue
        if other.optimizer != row.optimizer:
            continue
        seeds = sorted(set(shared_seeds(other.variant, row.variant)) & baseline.by_seed.keys())
        if not seeds:
            continue
        grafted, plain, base = ([v.accuracy()[seed] for seed in seeds] for v in (other.variant, row.variant, baseline))
        gained = [a - b for a, b in zip(grafted, base, strict=True)]
        of_plain = [a - b for a, b in zip(plain, base, strict=True)]
        beyond = [a - b for a, b in zip(grafted, plain, strict=True)]
        lead = (
            f"{other.label} changes mAP by {_difference(fmean(gained), t_interval(gained))}. A plain block of the same "
            f"size changes it by {_difference(fmean(of_plain), t_interval(of_plain))}."
        )
        yield f"{lead} {_beyond(beyond)}"


def _beyond(differences: list[float]) -> str:
    """Whether what is left beyond size is more than chance."""
    interval = t_interval(differences)
    if interval is None:
        return f"The difference between the two, {points(fmean(differences))} points, cannot be tested."
    bounds = interval_text(interval.low, interval.high)
    text = f"{points(interval.estimate)} points, {bounds}, not corrected"
    if interval.low > 0:
        return f"The graft outperforms the block ({text})."
    if interval.high < 0:
        return f"The graft underperforms the block ({text})."
    return f"The graft cannot be distinguished from the block ({text})."


def _scale(row: Row, group: Group) -> Iterator[str]:
    """What the next bigger stock network gains, beside the best variant."""
    difference = row.difference
    if row.control != "scale" or not row.is_comparable or difference is None:
        return
    change = _difference(difference.estimate, difference.over_seeds)
    lead = f"The next larger stock network, {row.model or None}, changes mAP by {change}{_at_cost(row)}"
    others = [
        (other.difference, other)
        for other in group.rows
        if other.difference is not None and other.is_comparable and not other.is_control
    ]
    if not others:
        yield f"{lead}."
        return
    best, variant = max(others, key=lambda one: one[0].estimate)
    text = _difference(best.estimate, best.over_seeds)
    yield f"{lead}. The best variant, {variant.label}, changes it by {text}{_at_cost(variant)}."


def _difference(difference: float, interval: Interval | None) -> str:
    """A difference with its interval over seeds."""
    bounds = interval_text(interval.low, interval.high) if interval else "no CI"
    return f"{points(difference)} points ({bounds})"


def _at_cost(row: Row) -> str:
    """Parameters and latency, as far as they are known."""
    params, ratio = row.cost.params_m, row.latency.ratio
    costs = [f"{cell('params_m', params)} M parameters"] if params is not None else []
    costs += [f"{cell('latency_ratio', ratio)} times the baseline's latency"] if ratio is not None else []
    return f" ({', '.join(costs)})" if costs else ""


def _has_fair_difference(row: Row) -> bool:
    return row.is_comparable and row.difference is not None


def _grafts(row: Row) -> str:
    """The grafts of a variant as its recorded label names them, without the optimizer."""
    return row.variant.trials[0].variant.rpartition(" ")[0]
