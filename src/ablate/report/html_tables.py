"""The tables of the page, as plain values for its templates: comparison, classes, cost, latency settings, trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablate.analysis.columns import baselines, components_of, rows_of
from ablate.analysis.number_format import DETAILS, SHOWN, Column, best_rows, cell, display, named_by_marks, short_lines
from ablate.analysis.phrases import minus
from ablate.analysis.table import trial_table
from ablate.records.records import Sweep, mapping, number, sequence, short, value
from ablate.report.figures.classes import class_accuracy, class_differences
from ablate.report.figures.style import foremost, groups_of, is_control, left_out, references, title_of
from ablate.statistics.paired import ALPHA

BROAD = (  # what stands in the table of the page; all else folds out of its row
    "replicates", "map50_95", "delta_map50_95", "p_holm", "map50", "params_m", "gflops", "latency_ms", "latency_ratio",
    "train_minutes",
)  # fmt: skip
BELOW = {  # second and third lines of a cell: column, and how it is worded
    "map50_95": (("map50_95_std", "± {}"),),
    "delta_map50_95": (("delta_ci", "seeds {}"), ("images_ci", "images {}")),
    "p_holm": (("p_value", "raw {}"),),
    "params_m": (("params_added_m", "+{} added"),),
    "latency_ms": (("latency_p95_ms", "p95 {}"),),
}
COST = ("params_m", "params_added_m", "gflops", "gflops_ultralytics", "train_minutes", "seconds_per_epoch",
        "peak_memory_gb", "energy_kwh")  # fmt: skip
CLASS_VARIANTS = 9  # columns of a table of classes
SETTINGS = 24  # settings of a latency measurement that are shown

Cell = dict[str, Any]


def comparison(table: pd.DataFrame) -> dict[str, Any]:
    """What the template needs to draw the table: heads, and rows of cells, each row with what folds out of it."""
    shown, details = display(table), display(table, columns=DETAILS)
    best = best_rows(table)
    columns = [column for column in SHOWN if column.source in shown.columns and column.source in BROAD]
    below = {under for lines in BELOW.values() for under, _ in lines}
    said = {*BROAD, *below, "variant", "comparable", "notes", *components_of(table)}
    folded = [c for c in (*SHOWN, *DETAILS) if c.source not in said and c.source in {*shown.columns, *details.columns}]
    components = components_of(table)
    reference, controls = list(baselines(table)), list(is_control(table))
    texts_of = zip(rows_of(shown), rows_of(details), rows_of(table), strict=True)
    rows = []
    for position, (main, more, values) in enumerate(texts_of):
        texts = {**more, **main}
        start = not position or values["comparison_key"] != table["comparison_key"].iloc[position - 1]
        rows.append(
            {
                "anchor": anchor(position),
                "label": texts["variant"],
                "baseline": reference[position],
                "control": controls[position],
                "marks": [texts[name] for name in components],
                "cells": [_cell(column, texts, values, position in best.get(column.source, ())) for column in columns],
                "comparable": texts["comparable"],
                "notes": minus(texts["notes"]),
                "details": _folded(folded, texts, values),
                "signatures": values["signatures"].split(),
                "runs": values["mlflow_runs"].split(),
                "new_group": bool(position) and start,
                "first_control": controls[position] and not start and not controls[position - 1],
            }
        )
    return {
        "heads": [column.title.partition(" (")[::2] for column in columns],
        "rows": rows,
        "components": [short_lines(name) for name in components],
        "named": not named_by_marks(table),
    }


def anchor(position: int) -> str:
    """The name of a row's place on the page."""
    return f"row-{position + 1}"


def anchors(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Variant key -> the name of its row's place on the page, and its label."""
    labels = zip(table["variant_key"], table["variant"], strict=True)
    return {key: (anchor(position), label) for position, (key, label) in enumerate(labels)}


def trials(sweep: Sweep, table: pd.DataFrame) -> list[Cell]:
    """Trials in the order of the comparison table's rows."""
    found = trial_table(sweep)
    order = {label: position for position, label in enumerate(table["variant"])}
    found = found.assign(position=found["variant"].map(order)).sort_values("position", kind="stable")
    return [
        {
            "variant": row["variant"],
            "anchor": "" if pd.isna(row["position"]) else anchor(int(row["position"])),
            "seed": "" if pd.isna(row["seed"]) else str(row["seed"]),
            "status": row["status"],
            "accuracy": cell("map50_95", row["map50_95"]),
            "evaluated": row["evaluated"],
            "minutes": cell("train_minutes", row["train_minutes"]),
            "signature": row["signature"],
            "short": short(row["signature"]),
            "run": row["mlflow_run"],
        }
        for row in rows_of(found)
    ]


def classes(sweep: Sweep, table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each comparison group the baseline's AP50-95 of each class, and the differences of its variants."""
    found = []
    for rows in groups_of(table):
        base = next(iter(rows.loc[references(rows), "variant"]), None)
        accuracy = class_accuracy(sweep, rows)
        differences = class_differences(accuracy, rows)
        if base is None or differences.empty:
            continue
        having = rows[rows["variant"].isin(differences.columns) | (rows["variant"] == base)]
        kept = foremost(having, CLASS_VARIANTS + 1)
        names = [label for label in kept["variant"] if label != base]
        lines = [
            {
                "name": name.label,
                "baseline": cell("map50_95", float(np.mean(list(accuracy[base][name].values())))),
                "differences": [
                    minus(cell("delta_map50_95", differences.at[name, label], signed=True)) for label in names
                ],
            }
            for name in differences.index
        ]
        found.append(
            {
                "title": title_of(rows),
                "baseline": base,
                "variants": names,
                "rows": lines,
                "limit": left_out(len(names), len(having) - 1, "variants"),
            }
        )
    return found


def cost(table: pd.DataFrame) -> dict[str, Any]:
    """Parameters, FLOPs, training time, memory and energy of each variant, as far as any is known."""
    titles = {column.source: column.title for column in (*SHOWN, *DETAILS)}
    known = [name for name in COST if name in table.columns and table[name].notna().any()]
    rows = [
        {"anchor": anchor(i), "label": row["variant"], "cells": [cell(name, row[name]) for name in known]}
        for i, row in enumerate(rows_of(table))
    ]
    return {"heads": [titles.get(name, name) for name in known], "rows": rows if known else []}


def latency_settings(sweep: Sweep, table: pd.DataFrame) -> dict[str, Any]:
    """The settings that latency was measured in (columns) by variant (rows): median, and ratio to the baseline."""
    protocol = mapping(sweep.latency, "protocol")
    settings = [entry for entry in sequence(sweep.latency, "settings") if isinstance(entry, dict)]
    if not any(_words(entry) == _words(protocol) for entry in settings):
        settings.insert(0, {**protocol, "variants": sequence(sweep.latency, "variants")})
    shown = settings[:SETTINGS]
    by_key: list[dict[str, Any]] = []
    for entry in shown:
        rows = [row for row in sequence(entry, "variants") if isinstance(row, dict)]
        by_key.append({str(row.get("variant_key")): row for row in reversed(rows)})
    lines = []
    for position, row in enumerate(rows_of(table)):
        found = [_timing(measured.get(row["variant_key"])) for measured in by_key]
        if any(one["text"] or one["small"] for one in found):
            lines.append({"anchor": anchor(position), "label": row["variant"], "cells": found})
    return {
        "heads": [_words(entry) for entry in shown],
        "rows": lines if len(settings) > 1 else [],
        "flags": [str(flag) for flag in sequence(sweep.latency, "flags")],
        "limit": left_out(len(shown), len(settings), "settings", "in the order of measuring"),
    }


def _cell(column: Column, texts: dict[str, str], values: dict[str, Any], best: bool) -> Cell:
    """One cell: its text, smaller lines beneath, what it is sorted by, and how it is emphasised."""
    name = column.source
    small = [minus(words.format(texts[under])) for under, words in BELOW.get(name, ()) if texts.get(under)]
    if name == "params_m" and not values.get("params_added_m", 0) > 0:
        small = []
    return {
        "text": minus(texts[name]),
        "small": small,
        "sort": "" if not texts[name] else values[name],
        "style": "best" if best else _sign(values) if name == "delta_map50_95" else "",
    }


def _folded(columns: Sequence[Column], texts: dict[str, str], values: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and text of what folds out of a row."""
    found = [(column.title, minus(texts[column.source])) for column in columns if texts.get(column.source)]
    seeds = values["seeds"].replace(" ", ", ")
    found += [("Seeds measured", seeds)] if seeds else []
    shared = values["shared_seeds"].replace(" ", ", ")
    found += [("Seeds shared with the baseline", shared)] if shared and shared != seeds else []
    found += [("Measured on", values["evaluated"])] if values["evaluated"] else []
    return found


def _sign(values: dict[str, Any]) -> str:
    """'up' or 'down' for a difference that is supported: corrected p below alpha, and comparable."""
    if values["comparable"] == "yes" and values["p_holm"] < ALPHA:
        return "up" if values["delta_map50_95"] > 0 else "down"
    return ""


def _words(entry: dict[str, Any]) -> tuple[str, str]:
    """A latency setting in two lines."""
    scope, backend = value(entry, "scope") or "network", value(entry, "backend") or "eager"
    return f"{scope}, {backend}", f"batch {value(entry, 'batch')}, {value(entry, 'precision')}"


def _timing(row: dict[str, Any] | None) -> Cell:
    """The median of one variant in one setting, and beneath the ratio to the baseline; or why there is none."""
    if row is None:
        return {"text": "", "small": "", "title": ""}
    median, ratio = number(row, "latency_ms"), number(row, "latency_ratio")
    low, high = number(row, "latency_ci_low"), number(row, "latency_ci_high")
    interval = f"95 % interval {low:.2f} to {high:.2f} ms" if low is not None and high is not None else ""
    reason = str(value(row, "reason") or "")
    return {
        "text": "" if median is None else cell("latency_ms", median),
        "small": (reason if median is None else "") if ratio is None else f"{cell('latency_ratio', ratio)} ×",  # noqa: RUF001
        "title": interval,
    }
