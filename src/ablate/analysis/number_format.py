"""The one place that turns numbers into the text that all outputs show."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from ablate.analysis.columns import components_of

CHECK = "✓"
DECIMALS = {
    "map50_95": 4, "map50_95_std": 4, "map50": 4, "precision": 4, "recall": 4,
    "delta_map50_95": 4, "delta_ci_low": 4, "delta_ci_high": 4, "p_value": 4, "p_holm": 4,
    "params_m": 3, "gflops": 3, "gflops_ultralytics": 3,
    "latency_ms": 2, "latency_p95_ms": 2, "latency_ratio": 3, "train_minutes": 2, "peak_memory_gb": 2,
    "map75": 4, "map50_95_small": 4, "map50_95_medium": 4, "map50_95_large": 4, "map50_95_last": 4, "delta_last": 4,
    "images_ci_low": 4, "images_ci_high": 4, "effect_size": 2, "smallest_detectable": 4, "seeds_needed": 0,
    "params_added_m": 3, "seconds_per_epoch": 2, "energy_kwh": 4, "latency_ci_low": 2, "latency_ci_high": 2,
}  # fmt: skip
HIGHER_IS_BETTER = ("map50_95", "map50", "precision", "recall")


# What Markdown (and GitHub's: ~~ and $) takes for marks. Underscores within words and brackets before no address are
# none, and stay readable.
_MARKS = re.compile(r"[\\*`$~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\](?=\()")


@dataclass(frozen=True)
class Column:
    """One column of the tables for people: where it comes from and how it is headed."""

    source: str
    title: str
    numeric: bool = True


SHOWN = (
    Column("variant", "Variant", numeric=False),
    Column("replicates", "Seeds"),
    Column("map50_95", "mAP50-95"),
    Column("map50_95_std", "± std"),
    Column("delta_map50_95", "Δ mAP50-95"),
    Column("delta_ci", "95 % CI of Δ"),
    Column("p_value", "p"),
    Column("p_holm", "p (Holm)"),
    Column("map50", "mAP50"),
    Column("precision", "Precision"),
    Column("recall", "Recall"),
    Column("params_m", "Params (M)"),
    Column("gflops", "GFLOPs"),
    Column("latency_ms", "Latency (ms)"),
    Column("latency_p95_ms", "p95 (ms)"),
    Column("latency_ratio", "× baseline"),  # noqa: RUF001
    Column("train_minutes", "Train (min)"),
    Column("peak_memory_gb", "Memory (GB)"),
    Column("comparable", "Comparable", numeric=False),
    Column("notes", "Notes", numeric=False),
)
DETAILS = (
    Column("variant", "Variant", numeric=False),
    Column("images_ci", "95 % CI of Δ over images"),
    Column("effect_size", "Effect size"),
    Column("smallest_detectable", "Detectable Δ"),
    Column("seeds_needed", "Seeds for 0.005"),
    Column("map50_95_last", "mAP50-95, last epoch"),
    Column("delta_last", "Δ, last epoch"),
    Column("map75", "mAP75"),
    Column("map50_95_small", "AP small"),
    Column("map50_95_medium", "AP medium"),
    Column("map50_95_large", "AP large"),
    Column("params_added_m", "Added (M)"),
    Column("gflops_ultralytics", "GFLOPs (Ultralytics)"),
    Column("latency_ci", "95 % CI of latency (ms)"),
    Column("seconds_per_epoch", "s / epoch"),
    Column("energy_kwh", "Energy (kWh)"),
)
INTERVALS = {"delta_ci": True, "images_ci": True, "latency_ci": False}  # shown as one column; whether signs are shown
ALWAYS = ("variant", "replicates", "map50_95", "comparable", "notes")


def cell(name: str, found: object, *, signed: bool = False) -> str:
    """One value of column `name` as text in ASCII; '' where it is not known."""
    if not isinstance(found, int | float):
        return str(found)
    if found != found:  # NaN
        return ""
    if name not in DECIMALS:
        return str(found)
    if name in ("p_value", "p_holm") and 0 < found < 0.0001:
        return f"{found:.1e}"
    text = f"{found:{'+' if signed else ''}.{DECIMALS[name]}f}"
    return text.lstrip("+-") if signed and float(text) == 0 else text


def points(difference: float, *, signed: bool = True) -> str:
    """A difference of accuracies, a fraction, in points of mAP: 0.0180 is +1.80 points."""
    text = f"{100 * difference:{'+' if signed else ''}.2f}"
    return text.lstrip("+-") if float(text) == 0 else text


def published(table: pd.DataFrame) -> pd.DataFrame:
    """The whole table as text, columns unchanged: what `comparison.csv` holds."""
    columns = {name: [cell(name, found) for found in table[name]] for name in table.columns}
    return pd.DataFrame(columns, columns=table.columns, dtype="object")


def display(table: pd.DataFrame, *, drop_empty: bool = True, columns: Sequence[Column] = SHOWN) -> pd.DataFrame:
    """The table for people as text: one column per `Column.source`, differences with their sign.

    Components stand behind the variant as check marks. Columns in which nothing is known are left
    out unless `drop_empty` is False. `DETAILS` has the columns that `SHOWN` has not.
    """
    shown: dict[str, list[str]] = {}
    for column in columns:
        name = column.source
        if shown.keys() == {"variant"}:
            shown |= {part: [CHECK if mark == "true" else "" for mark in table[part]] for part in components_of(table)}
        if name in INTERVALS:
            ends = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
            texts = [_interval(name, low, high, signed=INTERVALS[name]) for low, high in ends]
        else:
            texts = [cell(name, found, signed=name.startswith("delta")) for found in table[name]]
        if name in ALWAYS or any(texts) or not drop_empty:
            shown[name] = texts
    return pd.DataFrame(shown, dtype="object")


def named_by_marks(table: pd.DataFrame) -> bool:
    """Whether check marks tell every row from the others, so that its name need not be shown."""
    marks = table[components_of(table)]
    return len(marks.columns) > 0 and bool((marks != "").all(axis=None)) and not marks.duplicated().any()


def short_lines(component: str) -> list[str]:
    """A component's name in lines that make a narrow head: ``hmha``, ``@c3k2``."""
    return re.sub(r"(?<=.)([@=\[])", r"\n\1", component).splitlines()


def group_title(rows: pd.DataFrame) -> str:
    """What all rows of a comparison group share: optimizer, model and data, less those that differ."""
    shared = [list(rows[name].unique()) for name in ("optimizer", "model", "data")]
    return ", ".join(levels[0] for levels in shared if len(levels) == 1 and levels[0])


def best_rows(table: pd.DataFrame) -> dict[str, set[int]]:
    """Positions of the best value per accuracy column, in each data set that has a choice of rows.

    Only rows that may be compared take part, and no controls; ties (as shown) are all best.
    """
    best: dict[str, set[int]] = {name: set() for name in HIGHER_IS_BETTER}
    for _, group in table.reset_index(drop=True).groupby("data", sort=False):
        fair = group[(group["comparable"] == "yes") & (group["control"] == "")]
        for name in HIGHER_IS_BETTER:
            values = fair[name].dropna().round(DECIMALS[name])
            if len(values) > 1:
                best[name] |= {int(position) for position in values.index[values == values.max()]}
    return best


def literal(text: str) -> str:
    """Text as Markdown shows it literally, on one line: names may hold what is emphasis, code, HTML or mathematics."""
    line = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return _MARKS.sub(r"\\\g<0>", line).replace("<", "&lt;")


def markdown_table(
    shown: pd.DataFrame, *, bold: dict[str, set[int]] | None = None, centred: Collection[str] = ()
) -> str:
    """A GitHub-flavoured Markdown table of `display`'s output (or any frame of text).

    Args:
        shown: What to print.
        bold: Positions of bold cells by column.
        centred: Columns that are neither numbers nor text, such as check marks.
    """
    titles = {column.source: column for column in (*SHOWN, *DETAILS)}
    names = list(shown.columns)
    head = [titles[name].title if name in titles else name for name in names]
    rule = [
        ":---:" if name in centred else "---:" if name in titles and titles[name].numeric else "---" for name in names
    ]
    lines = [_row([_escape(title) for title in head]), _row(rule)]
    for position, row in enumerate(shown.to_numpy()):
        marked = [
            f"**{_escape(text)}**" if text and position in (bold or {}).get(name, ()) else _escape(text)
            for name, text in zip(names, row, strict=True)
        ]
        lines.append(_row(marked))
    return "\n".join(lines) + "\n"


def _interval(name: str, low: float, high: float, *, signed: bool) -> str:
    if low != low or high != high:
        return ""
    return f"[{cell(f'{name}_low', low, signed=signed)}, {cell(f'{name}_high', high, signed=signed)}]"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: object) -> str:
    return literal(str(text)).replace("|", "\\|")
