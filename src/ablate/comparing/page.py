"""The comparison as HTML: a fragment for notebooks, and one self-contained page."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
import pandas as pd

from ablate.comparing import summary
from ablate.comparing.formatting import SHOWN, best_rows, cell, display, group_title, named_by_marks, short_lines
from ablate.comparing.statistics import ALPHA
from ablate.comparing.table import baselines, components_of, rows_of, trial_table
from ablate.comparing.variants import variant_key
from ablate.tracking.records import Sweep, short

SMALL = {"map50_95_std", "delta_ci", "latency_p95_ms", "p_value", "comparable", "notes", "variant"}
MEDIA = {"png": "image/png", "jpg": "image/jpeg", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A figure on the page: what it is called, what it shows, and its file's content."""

    title: str
    caption: str
    content: bytes
    kind: str  # png, jpg or svg

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{MEDIA[self.kind]};base64,{b64encode(self.content).decode()}"


def table_html(table: pd.DataFrame) -> str:
    """The comparison table as an HTML fragment with its own style."""
    return _templates().get_template("fragment.html").render(table=_table(table))


def trials_html(sweep: Sweep, table: pd.DataFrame) -> str:
    """Which trials and MLflow runs each row of the comparison comes from, as an HTML fragment."""
    return _templates().get_template("fragment.html").render(trials=_trials(sweep, table))


def page_html(sweep: Sweep, table: pd.DataFrame, pictures: list[Picture], caption: str) -> str:
    """The whole report as one HTML file that needs nothing from elsewhere."""
    recipes = []
    for _, rows in table.groupby("comparison_key", sort=False):
        keys = set(rows["variant_key"])
        facts = summary.recipe_facts([record for record in sweep.records if variant_key(record) in keys])
        if facts:
            recipes.append((group_title(rows), facts))
    return (
        _templates()
        .get_template("comparison.html")
        .render(
            sweep=sweep,
            head=summary.head(sweep, table),
            findings=[_minus(sentence) for sentence in summary.sentences(sweep, table)],
            table=_table(table) if len(table) else None,
            caption=caption,
            pictures=pictures,
            trials=_trials(sweep, table),
            latency=summary.latency_facts(sweep),
            recipes=recipes,
            data=summary.data_facts(sweep),
        )
    )


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """What the template needs to draw the table: heads, and rows of cells with a small second line."""
    shown = display(table)
    best = best_rows(table)
    below = {
        "map50_95": "map50_95_std",
        "delta_map50_95": "delta_ci",
        "latency_ms": "latency_p95_ms",
        "p_holm": "p_value",
    }
    under = {"map50_95_std": "± {}", "delta_ci": "{}", "latency_p95_ms": "p95 {}", "p_value": "raw {}"}
    columns = [column for column in SHOWN if column.source in shown.columns and column.source not in SMALL]
    components = components_of(table)
    reference = list(baselines(table))
    rows = []
    for position, (texts, values) in enumerate(zip(rows_of(shown), rows_of(table), strict=True)):
        cells = []
        for column in columns:
            name = column.source
            small = texts.get(below.get(name, ""), "")
            sign = _sign(values) if name == "delta_map50_95" else ""
            cells.append(
                {
                    "text": _minus(texts[name]),
                    "small": _minus(under[below[name]].format(small)) if small else "",
                    "sort": "" if not texts[name] else values[name],
                    "style": "best" if position in best.get(name, ()) else sign,
                }
            )
        rows.append(
            {
                "label": texts["variant"],
                "baseline": reference[position],
                "marks": [texts[name] for name in components],
                "cells": cells,
                "comparable": texts["comparable"],
                "notes": texts["notes"],
                "signatures": values["signatures"].split(),
                "new_group": bool(position) and values["comparison_key"] != table["comparison_key"].iloc[position - 1],
            }
        )
    heads = [column.title.partition(" (")[::2] for column in columns]
    parts = [short_lines(name) for name in components]
    return {"heads": heads, "rows": rows, "components": parts, "named": not named_by_marks(table)}


def _trials(sweep: Sweep, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Trials in the order of the comparison table's rows."""
    trials = trial_table(sweep)
    order = {label: position for position, label in enumerate(table["variant"])}
    trials = trials.assign(position=trials["variant"].map(order)).sort_values("position", kind="stable")
    return [
        {
            "variant": row["variant"],
            "seed": "" if pd.isna(row["seed"]) else str(row["seed"]),
            "status": row["status"],
            "accuracy": cell("map50_95", row["map50_95"]),
            "evaluated": row["evaluated"],
            "minutes": cell("train_minutes", row["train_minutes"]),
            "signature": row["signature"],
            "short": short(row["signature"]),
            "run": row["mlflow_run"],
        }
        for row in rows_of(trials)
    ]


def _sign(values: dict[str, Any]) -> str:
    """'up' or 'down' for a difference that is supported: corrected p below alpha, and comparable."""
    if values["comparable"] == "yes" and values["p_holm"] < ALPHA:
        return "up" if values["delta_map50_95"] > 0 else "down"
    return ""


def _minus(text: str) -> str:
    """Typographic minus signs before numbers, but not in exponents or inside words."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\u2212", text)


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ablate.comparing", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
