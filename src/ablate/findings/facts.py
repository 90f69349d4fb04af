"""The facts that a comparison rests on, as title and text: the realised recipe, the data, the latency protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ablate.analysis.comparability import REALISED, coverage
from ablate.analysis.comparison import Comparison
from ablate.analysis.number_format import plain_text
from ablate.analysis.phrases import count, listed
from ablate.analysis.variants import is_measured
from ablate.records.class_names import class_names
from ablate.records.image_counts import in_words
from ablate.records.trial_record import Record, TrialRecord
from ablate.settings.metric import Metric

Facts = dict[str, str]  # title -> text


def headline(comparison: Comparison) -> str:
    """One line on what was compared."""
    rows, total = comparison.rows, len(comparison.sweep.signatures)
    finished = sum(is_measured(record, comparison.metric) for record in comparison.sweep.trials)
    data, models = listed(levels(row.data for row in rows)), listed(levels(row.model for row in rows))
    done = f"{total}" if finished == total else f"{finished} of {total}"
    controls = sum(row.is_control for row in rows)
    what = count(len(rows) - controls, "variant") + (f" and {count(controls, 'control')}" if controls else "")
    line = f"{what}, {done} trial{'s' if total != 1 else ''} finished"
    return line + (f", {models} on {data}" if data and models else "")


def levels(texts: Iterable[str]) -> list[str]:
    """Different levels in order of appearance; not the empty one."""
    return [text for text in dict.fromkeys(texts) if text]


def latency_facts(comparison: Comparison) -> Facts:
    """Protocol of the latency measurement, as recorded; empty when none was made."""
    return {} if comparison.latency is None else comparison.latency.protocol


def recipe_facts(records: Sequence[Record], metric: Metric) -> Facts:
    """Realised recipe over trials that have an accuracy by this metric: each value once, several where they differ."""
    measured = [record for record in records if is_measured(record, metric)]
    facts = {
        title: _several(plain_text(read(record.realised)) for record in measured) for title, read in REALISED.items()
    }
    facts["starting weights"] = _several(coverage(record) for record in measured)
    facts["data used"] = _several(in_words(measured, record) for record in measured)
    packages = dict.fromkeys(name for r in measured for name in r.realised.versions)
    for name in packages:
        facts[name] = _several(r.realised.versions.get(name, "not recorded") for r in measured)
    facts["accuracy measured on"] = _several(map(_measured_on, measured))
    return {title: text for title, text in facts.items() if text and text != "not recorded"}


def _measured_on(record: TrialRecord) -> str:
    of_checkpoint = record.metrics.checkpoint in record.artifacts.predictions or record.metrics.checkpoint == "best"
    return f"{record.metrics.split}, {record.metrics.checkpoint}{' checkpoint' if of_checkpoint else ''}"


def data_facts(comparison: Comparison) -> list[Facts]:
    """Each data set once: name, classes, counts of images and instances, warnings."""
    facts: dict[str, Facts] = {}
    for record in comparison.sweep.trials:
        data = record.data if isinstance(record, TrialRecord) else None
        if data is None or data.name in ("", *facts):
            continue
        classes = [name.label for name in class_names(data.classes)]
        warnings = data.warnings
        facts[data.name] = {
            "name": data.name,
            "classes": f"{len(classes)}: {', '.join(classes[:20])}{', ...' if len(classes) > 20 else ''}",
            "images": _counts(data.images),
            "instances": _counts(data.instances),
            "warnings": "; ".join(warnings[:5]) + (f"; and {len(warnings) - 5} more" if len(warnings) > 5 else ""),
        }
    return list(facts.values())


def _counts(by_split: dict[str, int]) -> str:
    return ", ".join(f"{split} {number}" for split, number in by_split.items())


def _several(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(texts))
