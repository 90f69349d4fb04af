"""What the numbers support and what they do not, in plain words, and the facts they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from ablate.analysis.columns import left_out, rows_of
from ablate.analysis.comparability import REALISED, coverage
from ablate.analysis.component_effects import effect_sentences
from ablate.analysis.pairing import Group, comparison_groups
from ablate.analysis.phrases import count, names
from ablate.analysis.variants import is_measured
from ablate.findings.accuracy import group_findings, image_findings, unfair_findings
from ablate.findings.control_findings import broken, control_findings
from ablate.findings.cost import latency_findings, training_findings
from ablate.findings.factor_findings import factor_findings
from ablate.findings.sizes_and_epochs import epoch_findings, size_findings
from ablate.records.class_names import class_names
from ablate.records.image_counts import in_words
from ablate.records.records import Record, Sweep, mapping, sequence, short, value


def sentences(sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """What is to be said of a comparison, most important first; each is one or two plain sentences.

    Differences are told in points of mAP50-95 (0.01), the table has fractions.
    """
    return [*findings(sweep, table), *remarks(sweep, table)]


def findings(sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """What the numbers support and what they do not, most important first."""
    if table.empty and not left_out(table):
        return ["No trial of this sweep has a result yet, so there is nothing to compare."]
    groups = _filled(comparison_groups(sweep), table)
    said = [*broken(groups), *effect_sentences(sweep)]
    tests = int(table["p_holm"].notna().sum())
    for _, group in table.groupby("comparison_key", sort=False):
        said += group_findings(group, tests)
    said += unfair_findings(table, left_out(table))
    said += control_findings(groups)
    said += factor_findings(sweep, table)
    images = image_findings(table)
    said += images
    if table["p_value"].notna().any() and not images:
        said.append("Intervals (95%) and p-values cover the spread over seeds, not that over validation images.")
    said += latency_findings(sweep, table) if len(table) else []
    said += [*epoch_findings(groups), *size_findings(groups), *training_findings(table)]
    return said


def _filled(groups: Sequence[Group], table: pd.DataFrame) -> list[Group]:
    """The groups with their rows of the table, without the variants that it leaves out."""
    rows = {(row["variant_key"], row["comparison_key"]): row for row in rows_of(table)}
    kept = []
    for group in groups:
        for variant in group.members:
            row = rows.get((variant.key, variant.group), {})
            variant.row = {name: None if found != found else found for name, found in row.items()}  # NaN is no number
        kept.append(replace(group, members=[variant for variant in group.members if variant.row]))
    return kept


def remarks(sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """What is missing from the numbers: failures, damage, trials without a result."""
    said = []
    lost = sum(not is_measured(record) for record in sweep.records)
    if lost:
        said.append(f"{count(lost, 'trial')} of {len(sweep.signatures)} gave no number; the notes say why.")
    if sweep.missing:
        those = names([short(signature) for signature in sweep.missing])
        said.append(f"{count(len(sweep.missing), 'trial')} of {len(sweep.signatures)} without a result yet: {those}.")
    if sweep.ignored:
        said.append(f"Could not be read and was left out: {names(sweep.ignored, 4)}.")
    data = [name for name in table["data"].unique() if name] if len(table) else []
    if len(data) > 1:
        said.append(f"There are {len(data)} data sets ({names(data)}); accuracies compare within one only.")
    return said


def latency_facts(sweep: Sweep) -> dict[str, str]:
    """Protocol of the latency measurement, as recorded; empty when none was made."""
    protocol = mapping(sweep.latency, "protocol")
    return {str(key).replace("_", " "): _plain(found) for key, found in protocol.items()}


def recipe_facts(records: Sequence[Record]) -> dict[str, str]:
    """Realised recipe over trials: each value once, several where trials differ."""
    measured = [record for record in records if is_measured(record)]
    facts = {
        title: _several(_plain(value(record, "realised", key)) for record in measured)
        for key, title in REALISED.items()
    }
    facts["starting weights"] = _several(coverage(record) for record in measured)
    facts["data used"] = _several(in_words(measured, record) for record in measured)
    packages = dict.fromkeys(name for r in measured for name in mapping(r, "realised", "versions"))
    for name in packages:
        facts[str(name)] = _several(_plain(value(r, "realised", "versions", name)) for r in measured)
    facts["accuracy measured on"] = _several(
        f"{value(r, 'metrics', 'split')}, {value(r, 'metrics', 'checkpoint')} checkpoint" for r in measured
    )
    return {title: text for title, text in facts.items() if text and text != "not recorded"}


def data_facts(sweep: Sweep) -> list[dict[str, str]]:
    """Each data set once: name, classes, counts of images and instances, warnings."""
    found: dict[str, dict[str, str]] = {}
    for record in sweep.records:
        data = mapping(record, "data")
        name = str(data.get("name") or "")
        if not name or name in found:
            continue
        classes = [name.label for name in class_names(sequence(data, "classes"))]
        warnings = [str(item) for item in sequence(data, "warnings")]
        found[name] = {
            "name": name,
            "classes": f"{len(classes)}: {', '.join(classes[:20])}{', ...' if len(classes) > 20 else ''}",
            "images": _counts(mapping(data, "images")),
            "instances": _counts(mapping(data, "instances")),
            "warnings": "; ".join(warnings[:5]) + (f"; and {len(warnings) - 5} more" if len(warnings) > 5 else ""),
        }
    return list(found.values())


def head(sweep: Sweep, table: pd.DataFrame) -> str:
    """One line on what was compared."""
    finished = sum(is_measured(record) for record in sweep.records)
    data = names([name for name in table["data"].unique() if name]) if len(table) else ""
    models = names([name for name in table["model"].unique() if name]) if len(table) else ""
    total = len(sweep.signatures)
    done = f"{total}" if finished == total else f"{finished} of {total}"
    controls = int((table["control"] != "").sum())
    what = count(len(table) - controls, "variant") + (f" and {count(controls, 'control')}" if controls else "")
    line = f"{what}, {done} trial{'s' if total != 1 else ''} finished"
    return line + (f", {models} on {data}" if data and models else "")


def _counts(found: dict[str, object]) -> str:
    return ", ".join(f"{split} {count}" for split, count in found.items())


def _plain(found: object) -> str:
    if found is None:
        return "not recorded"
    if isinstance(found, bool):
        return "on" if found else "off"
    if isinstance(found, list):
        return ", ".join(map(str, found))
    return f"{found:g}" if isinstance(found, float) else str(found)


def _several(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(texts))
