"""Trials to variants: which trials make up a row of the comparison, what it is called, and what it is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeGuard

import msgspec

from ablate.analysis.variant_names import display_labels
from ablate.records.factor_levels import ALL_FACTORS, is_stock, levels_of
from ablate.records.graft_report import PlaceReport
from ablate.records.replicate import Replicate
from ablate.records.sweep_record import Control, Design, Sweep
from ablate.records.trial_record import FINISHED, Record, TrialRecord
from ablate.settings.metric import MAP50_95, Metric
from ablate.settings.network_width import WIDTH
from ablate.statistics.resampled import share_of_folds

MATCHED = 0.01  # of a graft's parameters: a control of its size may differ by so much without a note


@dataclass(frozen=True)
class Variant:
    """The trials of one variant.

    Attributes:
        key: What the trials share.
        label: Its name for people, unlike any other's.
        trials: Their records, in the order of the sweep.
        comparison_key: Variants of one comparison group share it; empty where none is recorded.
        marks: Which components of a design it has; None for a variant outside of one.
        control: What it is a control of; None for a variant that was asked for.
        mismatch: How a control differs in size from what it stands for, in words; empty where it does not.
        metric: The accuracy that it is compared by.
    """

    key: str
    label: str
    trials: tuple[Record, ...]
    comparison_key: str = ""
    marks: tuple[bool, ...] | None = None
    control: Control | None = None
    mismatch: str = ""
    metric: Metric = MAP50_95

    @cached_property
    def measured(self) -> tuple[TrialRecord, ...]:
        """The trials that finished with an accuracy."""
        return tuple(trial for trial in self.trials if is_measured(trial, self.metric))

    @cached_property
    def by_replicate(self) -> dict[Replicate, TrialRecord]:
        """Replicate -> measured trial."""
        return {trial.replicate: trial for trial in self.measured}

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that it was measured with, ascending."""
        return tuple(sorted({replicate.seed for replicate in self.by_replicate}))

    @cached_property
    def factors(self) -> dict[str, str]:
        """Factor -> level, empty where it is not recorded."""
        return levels_of(self.trials[0].factors)

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with this one; never a control, although one of scale has no graft either."""
        if self.control is not None:
            return False
        if self.marks is not None:
            return not any(self.marks)
        return is_stock(self.factors)

    def value(self, trial: TrialRecord) -> float:
        """The accuracy of one of its measured trials."""
        return accuracy_by(trial, self.metric)

    @cached_property
    def folds(self) -> int | None:
        """How many folds its images were divided into; None without a cross-validation."""
        measured = [one.fold for one in self.by_replicate if one.fold is not None]
        if not measured:
            return None
        recorded = self.measured[0].setting("fold", "folds")
        return max(recorded if isinstance(recorded, int) else 0, 2, *(fold + 1 for fold in measured))

    @property
    def fold_share(self) -> float | None:
        """Images validated on by images trained on, of each fold; None without folds."""
        return None if self.folds is None else share_of_folds(self.folds)

    def accuracy(self, read: Callable[[TrialRecord], float | None] | None = None) -> dict[Replicate, float]:
        """Replicate -> a recorded accuracy, that of its metric by default; without the trials that lack it."""
        accuracies = {one: fraction((read or self.value)(trial)) for one, trial in self.by_replicate.items()}
        return {one: accuracy for one, accuracy in accuracies.items() if accuracy is not None}


def is_measured(record: Record, metric: Metric) -> TypeGuard[TrialRecord]:
    """Whether a trial finished, has an accuracy that is a number, and was recorded in a form that we know."""
    if not isinstance(record, TrialRecord) or not record.is_ours or record.status != FINISHED:
        return False
    return fraction(record.metrics.value(metric)) is not None


def accuracy_by(trial: TrialRecord, metric: Metric) -> float:
    """The accuracy of a measured trial by its metric."""
    accuracy = trial.metrics.value(metric)
    assert accuracy is not None
    return accuracy


def learned_by(trial: TrialRecord, metric: Metric) -> float:
    """What tells whether a measured trial has learned anything: its accuracy, or its mAP50-95 where that is lower.

    A network that has learned nothing may have any precision.
    """
    usual = fraction(trial.metrics.value(MAP50_95))
    accuracy = accuracy_by(trial, metric)
    return accuracy if usual is None else min(accuracy, usual)


def fraction(accuracy: float | None) -> float | None:
    """A recorded accuracy, from 0 to 1; None where there is none, or a number that cannot be one."""
    return accuracy if accuracy is not None and 0 <= accuracy <= 1 else None


def variant_key(record: Record) -> str:
    """What the trials of one variant share."""
    return record.variant_key or record.variant


def variants_of(sweep: Sweep) -> list[Variant]:
    """Trials by variant key, in order of appearance.

    What belongs to a design of components is called by them and compared with the variant that has none, whatever the
    optimizer and all else that may be a component. A control is shown in the group of what it controls; where the
    sweep compares others with it as well (the next bigger scale may be a level of the sweep), it is there twice.
    """
    by_key: dict[str, list[Record]] = {}
    for record in sweep.trials:
        by_key.setdefault(variant_key(record), []).append(record)
    groups = {key: trials[0].comparison_key for key, trials in by_key.items()}
    controls = {key: control for key, control in sweep.controls.items() if key in by_key}
    others = {groups[key] for key in by_key if key not in controls}
    plain = [key for key in by_key if key not in controls or _stands_for_itself(groups[key], controls[key], others)]
    labels = display_labels({key: by_key[key] for key in plain})
    marks = sweep.design.marks if sweep.design else {}
    variants = [
        Variant(key, labels[key], tuple(by_key[key]), groups[key], marks.get(key), metric=sweep.metric) for key in plain
    ]
    labels = display_labels({key: _as_control(by_key[key], control) for key, control in controls.items()})
    variants += [
        Variant(
            key, labels[key], tuple(by_key[key]), control.comparison_key, control=control,
            mismatch=_ratios(by_key, control) or _mismatch(by_key[key], control), metric=sweep.metric,
        )
        for key, control in controls.items()
    ]  # fmt: skip
    if sweep.design is not None:
        variants = _named_by_components(variants, sweep.design)
    counts = Counter(variant.label for variant in variants)
    return [replace(v, label=f"{v.label} #{v.key[:6]}") if counts[v.label] > 1 else v for v in variants]


def configured_imgsz(records: Sequence[Record]) -> int | None:
    """The image size in pixels that trials of one variant were configured with; None where no record tells it."""
    sizes = (record.setting("train", "imgsz") for record in records if isinstance(record, TrialRecord))
    return next((size for size in sizes if isinstance(size, int)), None)


def larger_stock(records: Sequence[Record]) -> str:
    """What of a larger stock network is not as configured, in words: the name that says its width, or its images."""
    model = records[0].factors.get("model", "")
    return model if WIDTH in model else f"{configured_imgsz(records)} px"


def studies_of(variants: Sequence[Variant], design: Design) -> list[tuple[list[Variant], str]]:
    """The variants of each study, which differ in components alone, and a title that tells it from other studies."""
    studies: dict[int, list[Variant]] = {}
    for variant in variants:
        if variant.marks is not None:
            studies.setdefault(design.studies.get(variant.key, 0), []).append(variant)
    levels = [{name: {v.factors[name] for v in members} for name in ALL_FACTORS} for members in studies.values()]
    differing = [name for name in ALL_FACTORS if len({frozenset(level[name]) for level in levels}) > 1]
    titles = [", ".join(f"{n}={next(iter(level[n]))}" for n in differing if len(level[n]) == 1) for level in levels]
    numbered = enumerate(zip(studies.values(), titles, strict=True), start=1)
    return [(members, title or (f"study {i}" if len(levels) > 1 else "")) for i, (members, title) in numbered]


def _named_by_components(variants: Sequence[Variant], design: Design) -> list[Variant]:
    """The variants of each study under the names of their components, in one comparison group."""
    renamed: dict[str, Variant] = {}
    for members, title in studies_of(variants, design):
        group = next((v.comparison_key for v in members if v.is_baseline), members[0].comparison_key)
        renamed |= {v.key: replace(v, comparison_key=group, label=_label(v, design, title)) for v in members}
    return [variant if variant.marks is None else renamed[variant.key] for variant in variants]


def _label(variant: Variant, design: Design, title: str) -> str:
    components = [name for name, mark in zip(design.components, variant.marks or (), strict=False) if mark]
    return (" + ".join(components) or "baseline") + (f" [{title}]" if title else "")


def _stands_for_itself(group: str, control: Control, others: set[str]) -> bool:
    """Whether a control is also a variant that the others of its own group are compared with."""
    return group != control.comparison_key and group in others


def _as_control(records: Sequence[Record], control: Control) -> list[Record]:
    """A control's trials with its label as a control in place of their own."""
    first = records[0]
    optimizer = first.factors.get("optimizer", "")
    label = {
        "identity": first.variant or "identity",
        "params": f"params of {control.of or first.variant} {optimizer}",
        "reset": f"reset of {control.of or first.variant} {optimizer}",
        "scale": f"scale {first.factors.get('model')} {optimizer}",
        "resolution": f"resolution {configured_imgsz(records)} px {optimizer}",
        "latency": f"latency {larger_stock(records)} {optimizer}",
    }[control.kind]
    return [msgspec.structs.replace(first, variant=f"control: {label}".strip()), *records[1:]]


def _ratios(by_key: Mapping[str, Sequence[Record]], control: Control) -> str:
    """How GFLOPs and latency of a larger stock network compare with those of what it is matched with, in words."""
    gflops = {key: f"{ratio:.2f}" for key, ratio in control.gflops_ratios.items()}
    latencies = {key: ratio.in_words for key, ratio in control.latency_ratios.items()}
    parts = []
    for what, that, ratios in (("GFLOPs", "those", gflops), ("latency before the sweep", "that", latencies)):
        texts = [f"{ratio} times {that} of {by_key[key][0].variant}" for key, ratio in ratios.items() if key in by_key]
        parts += [f"{what} {', '.join(texts)}"] if texts else []
    return "; ".join(parts)


def _mismatch(records: Sequence[Record], control: Control) -> str:
    """How a block differs in size from the graft that it stands for, in words."""
    if control.kind != "params":
        return ""
    places = _places(records)
    smallest = [place for place in places if place.content.get("smallest")]
    if smallest:
        return f"the graft is smaller than the smallest block at {len(smallest)} of {len(places)} places"
    worst = max((abs(error) for place in places if (error := place.number("params_error")) is not None), default=0.0)
    return f"parameters differ from the graft's by up to {worst:.1%} at a place" if worst > MATCHED else ""


def _places(records: Sequence[Record]) -> Sequence[PlaceReport]:
    """The places of the first trial that was grafted."""
    grafts = (record.graft for record in records if isinstance(record, TrialRecord))
    return next((graft.places for graft in grafts if graft.places), ())
