"""What the controls say, in words: is the comparison sound, and is a gain more than size?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from ablate.analysis.number_format import cell, points
from ablate.analysis.pairing import Group, shared
from ablate.analysis.phrases import count, interval, names
from ablate.analysis.variants import Variant
from ablate.records.records import value
from ablate.statistics.paired import Interval, paired_differences, t_interval

ALARM = "THE COMPARISON ITSELF IS BROKEN"
EXACT = 1e-9  # mAP50-95: two trainings that compute the same agree to the last digit
BEST_GAIN = 1e-4  # mAP50-95: from here on a difference is a gain at the digits shown


def broken(groups: Sequence[Group]) -> list[str]:
    """Identity controls that do not reproduce their baseline: said before anything else."""
    said = []
    for control, baseline, differences in _identities(groups):
        if control.row.get("comparable") != "yes":
            said.append(
                f"{control.label} cannot say whether the comparison is sound: it was not trained as {baseline.label} "
                "was; the notes name the difference."
            )
        elif max(map(abs, differences)) > EXACT:
            most = points(max(map(abs, differences)), signed=False)
            size = f"{most} points" if float(most) else "less than 0.01 points"
            threads = _other_threads(control, baseline)
            if threads:
                said.append(
                    f"{control.label} cannot say whether the comparison is sound: it was trained with {threads}, which "
                    f"rounds sums otherwise, and its mAP50-95 differs by up to {size}. With OMP_NUM_THREADS set for "
                    "both, the two can be held against each other."
                )
                continue
            said.append(
                f"{ALARM}: {control.label} computes what {baseline.label} computes, yet with "
                f"the same seed its mAP50-95 differs by up to {size}. Either the surgery changes the network or a "
                "training does not repeat itself. Trust no difference in this table until that is settled."
            )
    return said


def control_findings(groups: Sequence[Group]) -> list[str]:
    """What the controls say of size and scale; and that surgery changes nothing, where that is so."""
    said = []
    for group in groups:
        said += [text for control in group.members for text in _size(control, group)]
        said += [text for control in group.members for text in _scale(control, group)]
    sound = [
        (control, len(differences))
        for control, _, differences in _identities(groups)
        if control.row.get("comparable") == "yes" and max(map(abs, differences)) <= EXACT
    ]
    if sound:
        seeds = count(min(number for _, number in sound), "seed")
        each = f"each with {seeds}" if len(sound) > 1 else f"with {seeds}"
        said.append(
            f"{names(control.label for control, _ in sound)} reproduced the baseline exactly, {each}: the surgery by "
            "itself changes nothing."
        )
    return said


def _identities(groups: Sequence[Group]) -> Iterator[tuple[Variant, Variant, list[float]]]:
    """Each identity control with its baseline and their differences on the same seeds."""
    for group in groups:
        for control in group.members:
            if control.control is not None and control.control.kind == "identity" and group.baseline is not None:
                _, differences = paired_differences(control.accuracy(), group.baseline.accuracy())
                if differences:
                    yield control, group.baseline, differences


def _threads(variant: Variant) -> dict[int, str]:
    """By seed the threads of a variant's trials on processors, in words: ``2 threads``, ``2, from epoch 4 on 1``."""
    found = {}
    for record in variant.records:
        changes = value(record, "realised", "threads_by_epoch")
        changes = changes if isinstance(changes, list) else []
        pairs = [change for change in changes if isinstance(change, list) and len(change) == 2]
        pairs = pairs or [[1, value(record, "realised", "threads")]]
        later = "".join(f", from epoch {first} on {threads}" for first, threads in pairs[1:])
        if value(record, "realised", "device") == "cpu":
            first = pairs[0][1]
            found[int(value(record, "seed") or 0)] = f"{first} thread{'s' * (first != 1)}{later}"
    return found


def _other_threads(control: Variant, baseline: Variant) -> str:
    """Name a seed's numbers of threads where they differ; empty where none does."""
    mine, others = _threads(control), _threads(baseline)
    pairs = [(mine[seed], others[seed]) for seed in sorted(mine.keys() & others.keys())]
    differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return "" if differing is None else f"{differing[0]} (the baseline with {differing[1]})"


def _size(control: Variant, group: Group) -> Iterator[str]:
    """What a graft gains beyond a plain block of its size."""
    if control.control is None or control.control.kind != "params" or not _is_fair(control) or not group.baseline:
        return
    for variant in group.members:
        if variant.control is not None or not _is_fair(variant) or _grafts(variant) != control.control.of:
            continue
        if _optimizer(variant) != _optimizer(control):
            continue
        common = sorted(set(shared(variant, control)) & group.baseline.by_seed.keys())
        if not common:
            continue
        mine, plain, base = ([v.accuracy()[seed] for seed in common] for v in (variant, control, group.baseline))
        gained = [a - b for a, b in zip(mine, base, strict=True)]
        against = [a - b for a, b in zip(plain, base, strict=True)]
        beyond = [a - b for a, b in zip(mine, plain, strict=True)]
        lead = (
            f"{variant.label} {_gains(fmean(gained), t_interval(gained))}, a plain block of the same size "
            f"{_difference(fmean(against), t_interval(against))}"
        )
        yield f"{lead}: {_beyond(beyond)}."


def _beyond(differences: list[float]) -> str:
    """Whether what is left beyond size is more than luck."""
    found = t_interval(differences)
    if found is None:
        return f"the {points(fmean(differences))} between them rest on too little to be told apart from size"
    known = f"{points(found.estimate)} points beyond its size, {interval(found.low, found.high)}, not corrected"
    if found.low > 0:
        return f"it gives more than its size does ({known})"
    if found.high < 0:
        return f"it gives less than its size does ({known})"
    return f"the difference is not told apart from size ({known})"


def _scale(control: Variant, group: Group) -> Iterator[str]:
    """What the next bigger stock network gains, beside the best variant."""
    if control.control is None or control.control.kind != "scale" or not _is_fair(control):
        return
    model = value(control.records[0], "factors", "model")
    others = [v for v in group.members if v.control is None and v is not group.baseline and _is_fair(v)]
    known = float(control.row["delta_map50_95"]), _interval(control)
    lead = f"The next bigger stock network, {model}, {_gains(*known)}{_at_cost(control)}"
    if not others:
        yield f"{lead}."
        return
    best = max(others, key=lambda variant: float(variant.row["delta_map50_95"]))
    its = _difference(float(best.row["delta_map50_95"]), _interval(best))
    yield f"{lead}; the best variant, {best.label}, {its}{_at_cost(best)}."


def _gains(difference: float, known: Interval | None) -> str:
    """A difference with its interval over seeds; without one it is what was measured, and no gain."""
    if known is None:
        return f"measured {points(difference)} points"
    verb = "gains" if difference >= BEST_GAIN else "loses" if difference <= -BEST_GAIN else "differs by"
    return f"{verb} {points(abs(difference), signed=False)} points ({interval(known.low, known.high)})"


def _difference(difference: float, known: Interval | None) -> str:
    return f"{points(difference)} points" + (f" ({interval(known.low, known.high)})" if known else "")


def _interval(variant: Variant) -> Interval | None:
    """The interval over seeds that a row has."""
    estimate, low, high = (variant.row.get(name) for name in ("delta_map50_95", "delta_ci_low", "delta_ci_high"))
    return None if estimate is None or low is None or high is None else Interval(estimate, low, high)


def _at_cost(variant: Variant) -> str:
    """Parameters and latency, as far as they are known."""
    params, ratio = variant.row.get("params_m"), variant.row.get("latency_ratio")
    known = [f"{cell('params_m', params)} M parameters"] if params is not None else []
    known += [f"{cell('latency_ratio', ratio)} times the baseline's latency"] if ratio is not None else []
    return f" ({', '.join(known)})" if known else ""


def _is_fair(variant: Variant) -> bool:
    return variant.row.get("comparable") == "yes" and variant.row.get("delta_map50_95") is not None


def _grafts(variant: Variant) -> str:
    """The grafts of a variant as its label names them, without the optimizer."""
    return str(value(variant.records[0], "variant") or "").rpartition(" ")[0]


def _optimizer(variant: Variant) -> str:
    return str(value(variant.records[0], "factors", "optimizer") or "")
