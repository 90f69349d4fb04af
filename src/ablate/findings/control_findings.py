"""What the controls show, in words: is the comparison sound, and is a gain more than size?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.identical_results import is_identical, is_identity, twins
from ablate.analysis.number_format import points
from ablate.analysis.pairing import differences_of, samples_of
from ablate.analysis.phrases import estimate_text, listed, number_of, points_text, trials_of
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant, configured_imgsz, larger_stock
from ablate.findings.finding import Claim, Finding, Kind, direction, without_claims
from ablate.findings.normality import few_units_doubt
from ablate.records.replicate import Replicate
from ablate.records.sweep_record import Control
from ablate.records.trial_record import TrialRecord
from ablate.settings.metric import MAP50_95
from ablate.statistics.paired import ALPHA, holm
from ablate.statistics.resampled import Samples

Ratio = TypeVar("Ratio")
ALARM = "THE COMPARISON ITSELF IS BROKEN"
EXACT = 1e-9  # two trainings that compute the same agree to the last digit


def broken(comparison: Comparison) -> list[str]:
    """Identity controls that do not reproduce their baseline: said before anything else."""
    sentences = []
    for control, baseline, differences in _identities(comparison):
        if not control.is_comparable:
            sentences.append(
                f"{control.label} cannot verify the comparison: its training differed from that of {baseline.label}; "
                "see the notes."
            )
        elif max(map(abs, differences.values())) > EXACT:
            most = points(max(map(abs, differences.values())), signed=False)
            size = f"{most} points" if float(most) else "less than 0.01 points"
            threads = _other_threads(control.variant, baseline)
            if threads:
                sentences.append(
                    f"{control.label} cannot verify the comparison: it was trained with {threads}, which changes "
                    f"floating-point rounding, and its {MAP50_95.label} differs by up to {size}. Set OMP_NUM_THREADS "
                    "for both to make them comparable."
                )
                continue
            sentences.append(
                f"{ALARM}: {control.label} computes the same function as {baseline.label}, but with the same seed its "
                f"{MAP50_95.label} differs by up to {size}. Either grafting changes the network or training is not "
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


def control_findings(comparison: Comparison) -> list[Finding]:
    """What the controls show of size and scale; and that surgery changes nothing, where that is so."""
    findings = _held_against([test for group in comparison.groups for test in _size_tests(group)])
    findings += _held_against([test for group in comparison.groups for test in _resolution_tests(group)])
    findings += _held_against([test for group in comparison.groups for test in _latency_tests(group)])
    scales = [text for group in comparison.groups for row in group.rows for text in _scale(row, group)]
    findings += without_claims(Kind.CONTROLS, scales)
    exact = [
        (control.label, differences)
        for control, _, differences in _identities(comparison)
        if control.is_comparable and max(map(abs, differences.values())) <= EXACT
    ]
    if exact:
        fewest = number_of(min((differences for _, differences in exact), key=len))
        each = f"each with {fewest}" if len(exact) > 1 else f"with {fewest}"
        text = (
            f"{listed(label for label, _ in exact)} reproduced the baseline exactly, {each}: grafting by itself "
            "changed nothing."
        )
        findings.append(Finding(text, Kind.CONTROLS))
    return findings


def _held_against(tests: Sequence[_SizeTest]) -> list[Finding]:
    """Each graft beside its controls of one kind, corrected over these."""
    p_values = holm([test.beyond.p_value for test in tests])
    return [_size(replace(test, p_holm=p), len(tests)) for test, p in zip(tests, p_values, strict=True)]


def _identities(comparison: Comparison) -> Iterator[tuple[Row, Variant, dict[Replicate, float]]]:
    """Each identity control with its baseline and their differences by seed (and fold), in the finest of metrics."""
    for group in comparison.groups:
        for row in group.rows:
            if row.control == "identity" and group.baseline is not None:
                shared, differences = differences_of(row.variant, group.baseline, lambda trial: trial.metrics.map50_95)
                if shared:
                    yield row, group.baseline, dict(zip(shared, differences, strict=True))


def _threads(variant: Variant) -> dict[Replicate, str]:
    """By replicate the threads of trials on processors, in words: ``2 threads``, ``2, from epoch 4 on 1``."""
    threads: dict[Replicate, str] = {}
    for trial in variant.trials:
        if not isinstance(trial, TrialRecord) or trial.realised.device != "cpu":
            continue
        (_, first), *changes = trial.realised.threads_by_epoch or ((1, trial.realised.threads),)
        later = "".join(f", from epoch {epoch} on {number}" for epoch, number in changes)
        threads[trial.replicate] = f"{first} thread{'s' * (first != 1)}{later}"
    return threads


def _other_threads(control: Variant, baseline: Variant) -> str:
    """Name a replicate's numbers of threads where they differ; empty where none does."""
    threads, of_baseline = _threads(control), _threads(baseline)
    pairs = [(threads[one], of_baseline[one]) for one in sorted(threads.keys() & of_baseline.keys())]
    differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return "" if differing is None else f"{differing[0]} (the baseline with {differing[1]})"


@dataclass(frozen=True)
class _SizeTest:
    """A graft held against a control of its size or cost, over the seeds that both and their baseline have.

    `beyond` is what the graft gains less what the control gains, seed by seed; `p_holm` is corrected over all controls
    of that kind. `lead` says what the control is, `noun` names it: a block, a network. `over` names the seeds where a
    row of the table is over others.
    """

    grafted: Row
    block: Row
    gained: Samples
    of_block: Samples
    beyond: Samples
    lead: str = "a plain block of the same size"
    noun: str = "block"
    over: str = ""
    p_holm: float | None = None


def _size_tests(group: Group) -> Iterator[_SizeTest]:
    """Each graft of a group with each plain block that is a control of it."""
    blocks = [row for row in group.rows if row.variant.control is not None and row.variant.control.kind == "params"]
    for row in filter(_has_fair_difference, blocks):
        for other in group.rows:
            control, baseline = row.variant.control, group.baseline
            if other.is_control or not _has_fair_difference(other) or control is None or baseline is None:
                continue
            if _grafts(other) != control.of or other.optimizer != row.optimizer:
                continue
            yield from _test(other, row, baseline)


def _resolution_tests(group: Group) -> Iterator[_SizeTest]:
    """Each graft of a group with the stock network on images so large that it computes about as much."""
    for graft, row, ratio in _matched(group, lambda control: control.gflops_ratios):
        size = configured_imgsz(row.variant.trials)
        lead = f"the stock network at {size} px ({ratio:.2f} times the graft's GFLOPs)"
        yield from _matched_tests(group, graft, row, lead, "larger input")


def _latency_tests(group: Group) -> Iterator[_SizeTest]:
    """Each graft of a group with the stock network that is about as slow."""
    for graft, row, ratio in _matched(group, lambda control: control.latency_ratios):
        latency = f"{ratio.ratio:.2f} times the graft's before the sweep, {ratio.interval_in_words}"
        latency += ", an uncertain match" if ratio.is_uncertain else ""
        if graft.latency.ratio and row.latency.ratio:
            latency += f", and {row.latency.ratio / graft.latency.ratio:.2f} times after it"
        lead = f"the stock network of about the same latency ({larger_stock(row.variant.trials)}; {latency})"
        yield from _matched_tests(group, graft, row, lead, "equally slow stock network")


def _matched(group: Group, ratios: Callable[[Control], Mapping[str, Ratio]]) -> Iterator[tuple[Row, Row, Ratio]]:
    """Each graft of a group with each larger stock network that is matched with it, and how they compare."""
    grafts = {row.key: row for row in group.rows if not row.is_control and _has_fair_difference(row)}
    for row in filter(_has_fair_difference, group.rows):
        if row.variant.control is not None:
            of_grafts = ratios(row.variant.control)
            yield from ((grafts[key], row, ratio) for key, ratio in of_grafts.items() if key in grafts)


def _matched_tests(group: Group, grafted: Row, row: Row, lead: str, noun: str) -> Iterator[_SizeTest]:
    """A graft beside a larger stock network that is matched with it."""
    if group.baseline is not None:
        yield from (replace(test, lead=lead, noun=noun) for test in _test(grafted, row, group.baseline))


def _test(grafted: Row, control: Row, baseline: Variant) -> Iterator[_SizeTest]:
    """A graft beside a control, where they and their baseline have a seed in common."""
    of_graft, of_control, base = (v.accuracy() for v in (grafted.variant, control.variant, baseline))
    shared = sorted(of_graft.keys() & of_control.keys() & base.keys())
    gained, of_block = ([v[one] - base[one] for one in shared] for v in (of_graft, of_control))
    beyond = [a - b for a, b in zip(gained, of_block, strict=True)]
    if shared:
        share = grafted.variant.fold_share
        tested, of_this, of_that = (samples_of(shared, values, share) for values in (beyond, gained, of_block))
        rows = [set(row.difference.replicates) for row in (grafted, control) if row.difference is not None]
        alike = all(of_row == set(shared) for of_row in rows)
        over = "" if alike else f" over the {trials_of(shared)} that all three have"
        yield _SizeTest(grafted, control, of_this, of_that, tested, over=over)


def _size(test: _SizeTest, tests: int) -> Finding:
    """What a graft gains beyond a control of its size or cost."""
    graft = test.grafted.label
    beyond, difference = test.beyond.mean, test.grafted.difference
    gained, of_block = _of(test.gained), _of(test.of_block)
    if difference is not None and difference.looks is not None:  # whose interval is that of its last look
        gained, of_block = points_text(test.gained.mean), points_text(test.of_block.mean)
    lead = f"{graft} measured {gained} relative to the baseline{test.over}, {test.lead} {of_block}."
    if test.p_holm is None:
        text = f"The difference between the two, {points_text(beyond)}, cannot be tested."
        return Finding(f"{lead} {text}", Kind.CONTROLS)
    if difference is None or not difference.supported:
        text = (
            f"The difference between the two is {_of(test.beyond)}; it is not tested, because {graft} does not differ "
            "significantly from the baseline."
        )
        return Finding(f"{lead} {text}", Kind.CONTROLS)
    corrected = f"Holm-corrected for {tests} {test.noun}s: p" if tests > 1 else "p"
    numbers = _of(test.beyond, f"{corrected} {cell('p_holm', test.p_holm)}")
    if test.p_holm >= ALPHA:
        return Finding(f"{lead} The graft cannot be distinguished from the {test.noun}: {numbers}.", Kind.CONTROLS)
    what = "outperforms" if beyond > 0 else "underperforms"
    claim = Claim(graft, direction(beyond), test.block.label)
    doubt = "" if test.beyond.is_of_folds else few_units_doubt([len(test.beyond.values)], tests)
    return Finding(f"{lead} The graft {what} the {test.noun}: {numbers}.{doubt}", Kind.CONTROLS, (claim,))


def _of(differences: Samples, *more: str) -> str:
    """The mean of differences with its interval."""
    return estimate_text(differences.mean, differences.interval(), *more)


def _scale(row: Row, group: Group) -> Iterator[str]:
    """What the next bigger stock network gains, beside the best variant."""
    difference = row.difference
    if row.control != "scale" or not row.is_comparable or difference is None:
        return
    change = estimate_text(difference.estimate, difference.over_seeds)
    lead = (
        f"The next larger stock network, {row.model or None}, measured {change} relative to the baseline{_at_cost(row)}"
    )
    others = [(other.difference, other) for other in group.rows if other.difference is not None and other.takes_part]
    if not others:
        yield f"{lead}."
        return
    best, variant = max(others, key=lambda one: one[0].estimate)
    text = estimate_text(best.estimate, best.over_seeds)
    yield f"{lead}, the best variant, {variant.label}, {text}{_at_cost(variant)}."


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
