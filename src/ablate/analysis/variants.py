"""Trials to variants: which make up a row of the comparison, what it is called, and what it is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.analysis.variant_names import FACTORS, display_labels
from ablate.records.records import SCHEMA, Control, Design, Record, Sweep, number, sequence, value

MATCHED = 0.01  # of a graft's parameters: what a block of the control params may differ by without a word


@dataclass
class Variant:
    """The trials of one variant, and the row that grows out of them.

    Attributes:
        key: What the trials share.
        label: Its name for people, unlike any other's.
        records: The trials.
        group: Variants of one group are compared with each other.
        marks: Which components of a design it has; None for a variant outside of one.
        control: What it is a control of; None for a variant that was asked for.
        notes: What is to be said of it.
        row: Its row of the comparison table.
    """

    key: str
    label: str
    records: list[Record]
    group: str = ""
    marks: tuple[bool, ...] | None = None
    control: Control | None = None
    notes: list[str] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort the trials into those that count and those that do not."""
        self.measured = [r for r in self.records if is_measured(r)]
        self.by_seed: dict[int, Record] = {
            record["seed"]: record for record in self.measured if isinstance(record.get("seed"), int)
        }

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with this one; never a control, although one of scale has no graft either."""
        if self.control is not None:
            return False
        if self.marks is not None:
            return not any(self.marks)
        return bool(value(self.records[0], "factors", "module") == "none")

    def accuracy(self) -> dict[int, float]:
        """Seed -> mAP50-95."""
        return {seed: record["metrics"]["map50_95"] for seed, record in self.by_seed.items()}


def is_measured(record: Record) -> bool:
    """Whether a trial finished, has an accuracy that is a number, and was recorded in a form that we know."""
    if record.get("schema", SCHEMA) != SCHEMA:
        return False
    return value(record, "status") == "finished" and fraction(record, "metrics", "map50_95") is not None


def fraction(record: Record, *path: str) -> float | None:
    """A recorded accuracy, from 0 to 1; None where there is none, or a number that cannot be one."""
    found = number(record, *path)
    return found if found is not None and 0 <= found <= 1 else None


def variant_key(record: Record) -> str:
    """What the trials of one variant share."""
    return str(record.get("variant_key") or record.get("variant") or "")


def variants_of(sweep: Sweep) -> list[Variant]:
    """Trials by variant key, in order of appearance.

    What belongs to a design of components is called by them and compared with the variant that has none, whatever the
    optimizer and all else that may be a component. A control is shown in the group of what it controls; where the
    sweep compares others with it as well (the next bigger scale may be a level of the sweep), it is there twice.
    """
    by_key: dict[str, list[Record]] = {}
    for record in sweep.records:
        by_key.setdefault(variant_key(record), []).append(record)
    own = {key: str(value(found[0], "comparison_key") or "") for key, found in by_key.items()}
    controls = {key: control for key, control in sweep.controls.items() if key in by_key}
    others = {own[key] for key in by_key if key not in controls}
    asked = [key for key in by_key if key not in controls or _stands_for_itself(own[key], controls[key], others)]
    labels = display_labels({key: by_key[key] for key in asked})
    marks = sweep.design.marks if sweep.design else {}
    variants = [Variant(key, labels[key], by_key[key], own[key], marks.get(key)) for key in asked]
    labels = display_labels({key: _named(by_key[key], control) for key, control in controls.items()})
    variants += [
        Variant(k, labels[k], by_key[k], c.comparison_key, control=c, notes=_mismatch(by_key[k], c))
        for k, c in controls.items()
    ]
    if sweep.design is not None:
        for members, title in studies_of(variants, sweep.design):
            group = next((v.group for v in members if v.is_baseline), members[0].group)
            for variant in members:
                variant.group = group
                variant.label = _label(variant, sweep.design, title)
    counts = Counter(variant.label for variant in variants)
    for variant in variants:
        variant.label += f" #{variant.key[:6]}" if counts[variant.label] > 1 else ""
    return variants


def _stands_for_itself(own: str, control: Control, others: set[str]) -> bool:
    """Whether a control is also a variant that the others of its own group are compared with."""
    return own != control.comparison_key and own in others


def _named(records: Sequence[Record], control: Control) -> list[Record]:
    """A control's trials with its label as a control in place of their own."""
    first = records[0]
    optimizer = str(value(first, "factors", "optimizer") or "")
    said = {
        "identity": str(value(first, "variant") or "identity"),
        "params": f"params of {control.of or value(first, 'variant')} {optimizer}",
        "scale": f"scale {value(first, 'factors', 'model')} {optimizer}",
    }[control.kind]
    return [{**first, "variant": f"control: {said}".strip()}, *records[1:]]


def _mismatch(records: Sequence[Record], control: Control) -> list[str]:
    """What is to be said of a block that is not as large as the graft it stands for."""
    if control.kind != "params":
        return []
    places = next((found for record in records if (found := sequence(record, "graft", "places"))), [])
    smallest = [place for place in places if value(place, "smallest")]
    if smallest:
        return [f"the graft is smaller than the smallest block at {len(smallest)} of {len(places)} places"]
    worst = max((abs(error) for place in places if (error := number(place, "params_error")) is not None), default=0.0)
    return [f"parameters differ from the graft's by up to {worst:.1%} at a place"] if worst > MATCHED else []


def studies_of(variants: Sequence[Variant], design: Design) -> list[tuple[list[Variant], str]]:
    """The variants of each study, which differ in components alone, and what tells it from the other studies."""
    studies: dict[int, list[Variant]] = {}
    for variant in variants:
        if variant.marks is not None:
            studies.setdefault(design.studies.get(variant.key, 0), []).append(variant)
    levels = [
        {name: {str(value(v.records[0], "factors", name) or "") for v in members} for name in FACTORS}
        for members in studies.values()
    ]
    telling = [name for name in FACTORS if len({frozenset(found[name]) for found in levels}) > 1]
    titles = [", ".join(f"{n}={next(iter(found[n]))}" for n in telling if len(found[n]) == 1) for found in levels]
    numbered = enumerate(zip(studies.values(), titles, strict=True), start=1)
    return [(members, title or (f"study {i}" if len(levels) > 1 else "")) for i, (members, title) in numbered]


def _label(variant: Variant, design: Design, title: str) -> str:
    having = [name for name, there in zip(design.components, variant.marks or (), strict=False) if there]
    return (" + ".join(having) or "baseline") + (f" [{title}]" if title else "")
