"""What the numbers support and what they do not, in plain words, and the facts they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ablate.comparing.comparability import REALISED, coverage
from ablate.comparing.effects import effect_sentences
from ablate.comparing.formatting import cell
from ablate.comparing.statistics import ALPHA
from ablate.comparing.table import baselines, components_of, rows_of
from ablate.comparing.variants import is_measured
from ablate.tracking.records import Record, Sweep, mapping, sequence, short, value


def sentences(sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """The findings of a comparison, most important first; each is one or two plain sentences."""
    if table.empty:
        return ["No trial of this sweep has a result yet, so there is nothing to compare."]
    said = effect_sentences(sweep)
    for _, group in table.groupby("comparison_key", sort=False):
        said += _group(group)
    if table["p_value"].notna().any():
        said.append("Intervals (95%) and p-values cover the spread over seeds, not that over validation images.")
    said += _cost(table)
    unfair = table[(table["comparable"] == "no") & table["delta_map50_95"].notna()]
    if len(unfair):
        measured = _names(f"{row['variant']} ({_signed(row, 'delta_map50_95')})" for row in rows_of(unfair))
        said.append(
            f"Not trained as the baseline was: {measured}. These differences may have other causes than the "
            "variant; the notes name them."
        )
    said += remarks(sweep, table)
    return said


def remarks(sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """What is missing from the numbers: failures, damage, trials without a result."""
    said = []
    lost = sum(not is_measured(record) for record in sweep.records)
    if lost:
        said.append(f"{_count(lost, 'trial')} of {len(sweep.signatures)} gave no number; the notes say why.")
    if sweep.missing:
        names = _names([short(signature) for signature in sweep.missing])
        said.append(f"{_count(len(sweep.missing), 'trial')} of {len(sweep.signatures)} without a result yet: {names}.")
    said += [f"Could not be read and was left out: {reason}." for reason in sweep.ignored]
    data = [name for name in table["data"].unique() if name] if len(table) else []
    if len(data) > 1:
        said.append(f"There are {len(data)} data sets ({_names(data)}); accuracies compare within one only.")
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
        classes = [str(item) for item in sequence(data, "classes")]
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
    data = _names([name for name in table["data"].unique() if name]) if len(table) else ""
    models = _names([name for name in table["model"].unique() if name]) if len(table) else ""
    total = len(sweep.signatures)
    done = f"{total}" if finished == total else f"{finished} of {total}"
    line = f"{_count(len(table), 'variant')}, {done} trial{'s' if total != 1 else ''} finished"
    return line + (f", {models} on {data}" if data and models else "")


def _group(group: pd.DataFrame) -> list[str]:
    """Findings within one comparison group."""
    compared = group[group["delta_map50_95"].notna()]
    if compared.empty:
        trained = group[group["map50_95"].notna()]
        if group["map50_95"].isna().all():
            return [f"No number at all for {_names(group['variant'])}."]
        if len(trained) and not baselines(group).any():
            what = "none of the components" if components_of(group) else "module=none"
            return [f"No baseline ({what}) for {_names(trained['variant'])}: no difference can be given."]
        return []
    label = compared["baseline"].iloc[0]
    base = group[group["variant"] == label].iloc[0]
    fair = compared[compared["comparable"] == "yes"]
    tested, untested = fair[fair["p_holm"].notna()], fair[fair["p_holm"].isna()]
    said = [*(_tested(tested) if len(tested) else []), *([_untested(untested)] if len(untested) else [])]
    known = f"(mAP50-95 {cell('map50_95', base['map50_95'])}, {_seeds(base['replicates'])}) "
    return [f"Against {label} {'' if index else known}{text}" for index, text in enumerate(said)]


def _tested(rows: pd.DataFrame) -> list[str]:
    """Words for differences with an interval; each continues 'Against <baseline> ...'."""
    real = rows["p_holm"] < ALPHA
    apart = (rows["delta_ci_low"] > 0) | (rows["delta_ci_high"] < 0)
    better, worse = rows[real & (rows["delta_map50_95"] > 0)], rows[real & (rows["delta_map50_95"] < 0)]
    hinted, unclear = rows[~real & apart], rows[~real & ~apart]
    said = []
    if len(better):
        said.append(f"a higher accuracy is supported for {_with_interval(better)}.")
    if len(worse):
        said.append(f"a lower accuracy is supported for {_with_interval(worse)}.")
    if len(hinted):
        said.append(
            f"a difference is suggested, but not supported once corrected for all rows: {_with_interval(hinted)}."
        )
    if len(unclear):
        reach = (unclear["delta_ci_high"] - unclear["delta_ci_low"]) / 2
        low, high = cell("delta_ci_low", float(reach.min())), cell("delta_ci_high", float(reach.max()))
        width = low if low == high else f"{low} to {high}"
        said.append(
            f"no difference was detected for {_names(unclear['variant'])}. The intervals reach {width} "
            "to either side, so a difference of that size may be there unseen."
        )
    return said


def _untested(rows: pd.DataFrame) -> str:
    """Words for differences without an interval."""
    ordered = rows_of(rows.sort_values("delta_map50_95", ascending=False))
    seen = [
        f"{row['variant']} {_signed(row, 'delta_map50_95')}"
        for row in (ordered if len(ordered) < 3 else [ordered[0], ordered[-1]])
    ]
    these = "These differences rest" if len(rows) > 1 else "This difference rests"
    if any(len(row["shared_seeds"].split()) > 1 for row in ordered):
        ground = f"{these} on too few seeds, or on seeds that do not differ at all"
    else:
        ground = f"{these} on one seed"
    return (
        f"we measured {' down to '.join(seen)}. {ground}: no interval can be given, and an effect cannot "
        "be told from chance. Replicates (seed=range(0,3)) would tell."
    )


def _cost(table: pd.DataFrame) -> list[str]:
    """Words for latency."""
    ratios = table[~baselines(table) & table["latency_ratio"].notna()]
    if table["latency_ms"].isna().all():
        return ["Latency was not measured, so nothing is said about speed."]
    if ratios.empty:
        return []
    by_ratio = rows_of(ratios.sort_values("latency_ratio"))
    quick, slow = by_ratio[0], by_ratio[-1]
    line = f"Latency is {_ratio(quick)} times the baseline's for {quick['variant']}"
    if len(ratios) > 1:
        line += f" (least) and {_ratio(slow)} times for {slow['variant']} (most)"
    return [line + "."]


def _with_interval(rows: pd.DataFrame) -> str:
    """Names with difference, interval and corrected p-value."""
    return _names(
        f"{row['variant']} ({_signed(row, 'delta_map50_95')}, 95% interval "
        f"{_signed(row, 'delta_ci_low')} to "
        f"{_signed(row, 'delta_ci_high')}, corrected p {cell('p_holm', row['p_holm'])})"
        for row in rows_of(rows)
    )


def _signed(row: dict[str, Any], name: str) -> str:
    return cell(name, row[name], signed=True)


def _ratio(row: dict[str, Any]) -> str:
    return cell("latency_ratio", row["latency_ratio"])


def _names(names: Iterable[object], most: int = 12) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _seeds(count: int) -> str:
    return _count(int(count), "seed")


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
