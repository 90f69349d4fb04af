"""The tables of the HTML page as their templates read them; what the cells say is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.analysis.class_accuracy import class_accuracy, class_differences, class_metric
from ablate.analysis.columns import (
    BY_NAME,
    Column,
    Value,
    accuracy_text,
    cell,
    columns_in,
    columns_of,
    factor_columns,
)
from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.data_sets import data_set_studies
from ablate.analysis.latency_results import Latency
from ablate.analysis.phrases import minus
from ablate.analysis.table import component_columns, trial_rows
from ablate.analysis.variant_row import Row
from ablate.records.trial_record import short
from ablate.report.data_set_table import data_set_columns
from ablate.report.foremost_rows import foremost, limit_text
from ablate.report.text_table import TableColumn, best_rows, mark_columns, short_lines, text_columns

CLASS_VARIANTS = 9  # columns of a table of classes
SETTINGS = 24  # settings of a latency measurement that are shown


@dataclass(frozen=True)
class Cell:
    """A cell: its text, smaller lines beneath, what it is sorted by, and its style ("best", "up", "down")."""

    text: str
    small: tuple[str, ...]
    sort: Value
    style: str


@dataclass(frozen=True)
class PageRow:
    """A row of the comparison, with what folds out of it (`details`: title and text)."""

    anchor: str
    label: str
    baseline: bool
    control: bool
    marks: tuple[str, ...]
    cells: tuple[Cell, ...]
    comparable: str
    notes: str
    details: tuple[tuple[str, str], ...]
    signatures: tuple[str, ...]
    runs: tuple[str, ...]
    new_group: bool
    first_control: bool


@dataclass(frozen=True)
class PageTable:
    """The comparison: heads in two lines, and rows; `named` is whether names are shown beside check marks."""

    heads: tuple[tuple[str, str], ...]
    rows: tuple[PageRow, ...]
    components: tuple[list[str], ...]
    named: bool


@dataclass(frozen=True)
class PageTrial:
    """A trial, with a link to its row where the table has one."""

    variant: str
    anchor: str
    seed: str
    status: str
    accuracy: str
    evaluated: str
    minutes: str
    signature: str
    short: str
    run: str


@dataclass(frozen=True)
class ClassRow:
    """A class: the baseline's average precision, and the differences of the variants to it."""

    name: str
    baseline: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class ClassTable:
    """The classes of one comparison group."""

    title: str
    baseline: str
    variants: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    limit: str
    accuracy: str


@dataclass(frozen=True)
class LabelledRow:
    """A variant's name with a link to its row, and its cells."""

    anchor: str
    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class CostTable:
    """Parameters, FLOPs, training time, memory and energy of each variant, as far as any is known."""

    heads: tuple[str, ...]
    rows: tuple[LabelledRow, ...]


@dataclass(frozen=True)
class TextTable:
    """Rows of text under their heads; the first column is of names."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TimingCell:
    """The median of one variant in one setting, beneath it the ratio to the baseline or why there is no number."""

    text: str = ""
    small: str = ""
    title: str = ""


@dataclass(frozen=True)
class TimingRow:
    """A variant in each setting."""

    anchor: str
    label: str
    cells: tuple[TimingCell, ...]


@dataclass(frozen=True)
class SettingsTable:
    """Variants by settings of the latency benchmark; no rows where there is one setting only."""

    heads: tuple[tuple[str, str], ...] = ()
    rows: tuple[TimingRow, ...] = ()
    flags: tuple[str, ...] = ()
    limit: str = ""


def comparison_table(comparison: Comparison) -> PageTable:
    """The comparison: heads, and rows of cells, each row with what folds out of it."""
    columns = text_columns(comparison, "page", components=False)
    smaller: dict[str, list[tuple[Column, str]]] = {column.name: [] for column in columns}
    for column in [column.over(comparison.units, comparison.images) for column in columns_of(comparison.metric)]:
        if column.below is not None and column.below[0] in smaller:
            smaller[column.below[0]].append((column, column.below[1]))
    beneath = {column.name for pairs in smaller.values() for column, _ in pairs}
    shown = {*beneath, *smaller, "variant", "comparable", "notes"}
    folded = [
        c.over(comparison.units, comparison.images)
        for c in (*columns_in("table", comparison.metric), *columns_in("details", comparison.metric))
        if c.name not in shown
    ]
    folded += factor_columns(comparison.rows)
    marks, best = mark_columns(comparison), best_rows(comparison)
    rows: list[PageRow] = []
    for group in comparison.groups:
        for index, row in enumerate(group.rows):
            position = len(rows)
            cells = [
                _cell(column, row, position, smaller[column.name], position in best.get(column.name, ()))
                for column in columns
            ]
            rows.append(
                PageRow(
                    anchor=anchor(position),
                    label=row.label,
                    baseline=row.is_baseline,
                    control=row.is_control,
                    marks=tuple(mark.cells[position] for mark in marks),
                    cells=tuple(cells),
                    comparable=BY_NAME["comparable"].text(row),
                    notes=minus("; ".join(row.notes)),
                    details=tuple(_details(folded, row)),
                    signatures=tuple(short(trial.signature) for trial in row.variant.trials),
                    runs=row.run_ids,
                    new_group=bool(position) and not index,
                    first_control=bool(index) and row.is_control and not group.rows[index - 1].is_control,
                )
            )
    return PageTable(
        tuple((head, rest) for head, _, rest in (column.title.partition(" (") for column in columns)),
        tuple(rows),
        tuple(short_lines(name) for name in component_columns(comparison)),
        not comparison.is_named_by_marks,
    )


def anchor(position: int) -> str:
    """The name of a row's place on the page."""
    return f"row-{position + 1}"


def anchors(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Variant key -> the name of its row's place on the page, and its label."""
    return {row.key: (anchor(position), row.label) for position, row in enumerate(comparison.rows)}


def trials(comparison: Comparison) -> list[PageTrial]:
    """Trials in the order of the comparison's rows; those of variants that are left out come last."""
    order = {row.label: position for position, row in enumerate(comparison.rows)}
    ranked = sorted(trial_rows(comparison), key=lambda trial: order.get(trial.variant, len(order)))
    return [
        PageTrial(
            variant=trial.variant,
            anchor=anchor(order[trial.variant]) if trial.variant in order else "",
            seed=trial.replicate,
            status=trial.status,
            accuracy=accuracy_text(trial.accuracy),
            evaluated=trial.evaluated,
            minutes=cell("train_minutes", trial.train_minutes),
            signature=trial.signature,
            short=short(trial.signature),
            run=trial.mlflow_run,
        )
        for trial in ranked
    ]


def classes(comparison: Comparison) -> list[ClassTable]:
    """For each comparison group the baseline's average precision of each class, and the differences of its variants."""
    tables = [_class_table(group) for group in comparison.groups]
    return [table for table in tables if table is not None]


def cost(comparison: Comparison) -> CostTable:
    """Parameters, FLOPs, training time, memory and energy of each variant, as far as any is known."""
    columns = [
        c for c in columns_in("page_cost", comparison.metric) if any(c.get(row) is not None for row in comparison.rows)
    ]
    rows = [
        LabelledRow(anchor(position), row.label, tuple(column.text(row) for column in columns))
        for position, row in enumerate(comparison.rows)
    ]
    return CostTable(tuple(column.title for column in columns), tuple(rows) if columns else ())


def data_sets(comparison: Comparison) -> list[TextTable]:
    """Variants over data sets, a table for each study that there is."""
    tables = []
    for study in data_set_studies(comparison):
        columns = data_set_columns(study)
        rows = zip(*(map(minus, column.cells) for column in columns), strict=True)
        tables.append(TextTable(study.title, tuple(column.title for column in columns), tuple(rows)))
    return tables


def latency_settings(comparison: Comparison) -> SettingsTable:
    """The settings that latency was measured in (columns) by variant (rows): median, and ratio to the baseline."""
    latency = comparison.latency
    if latency is None:
        return SettingsTable()
    shown = latency.settings[:SETTINGS]
    rows = []
    for position, row in enumerate(comparison.rows):
        cells = tuple(_timing(setting.variants.get(row.key)) for setting in shown)
        if any(one.text or one.small for one in cells):
            rows.append(TimingRow(anchor(position), row.label, cells))
    return SettingsTable(
        tuple(setting.title for setting in shown),
        tuple(rows) if len(latency.settings) > 1 else (),
        latency.flags,
        limit_text(len(shown), len(latency.settings), "settings", "in the order of measuring"),
    )


def _class_table(group: Group) -> ClassTable | None:
    baseline = next((row for row in group.rows if row.is_baseline), None)
    accuracy = class_accuracy(group.rows)
    differences = class_differences(accuracy, group.rows)
    if baseline is None or differences.empty:
        return None
    compared = [row for row in group.rows if row.label in differences.columns or row is baseline]
    names = tuple(row.label for row in foremost(compared, CLASS_VARIANTS + 1) if row is not baseline)
    rows = [
        ClassRow(
            name.label,
            accuracy_text(float(np.mean(list(accuracy[baseline.label][name].values())))),
            tuple(
                minus(accuracy_text(float(differences.at[name, label]), signed=True))
                if differences.at[name, label] == differences.at[name, label]
                else ""
                for label in names
            ),
        )
        for name in differences.index
    ]
    limit = limit_text(len(names), len(compared) - 1, "variants")
    of = class_metric(group.rows).of_class
    return ClassTable(group.title, baseline.label, names, tuple(rows), limit, of)


def _cell(column: TableColumn, row: Row, position: int, smaller: Sequence[tuple[Column, str]], best: bool) -> Cell:
    """One cell, with smaller lines for the columns that stand below this one."""
    text = column.cells[position]
    small = [minus(words.format(below.text(row))) for below, words in smaller if below.text(row)]
    if column.name == "params_m" and not (row.cost.params_added_m or 0) > 0:
        small = []
    sort = "" if not text or column.column is None else column.column.get(row)
    style = "best" if best else direction(row) if column.column and column.column.role == "difference" else ""
    return Cell(minus(text), tuple(small), sort, style)


def _details(columns: Sequence[Column], row: Row) -> list[tuple[str, str]]:
    """Title and text of what folds out of a row."""
    details = [(column.title, minus(text)) for column in columns if (text := column.text(row))]
    seeds = ", ".join(map(str, row.seeds))
    details += [("Seeds measured", seeds)] if seeds else []
    details += [("Folds measured", f"{row.folds} of {row.variant.folds}")] if row.folds else []
    shared = ", ".join(map(str, row.difference.seeds)) if row.difference else ""
    details += [("Seeds shared with the baseline", shared)] if shared and shared != seeds else []
    details += [("Measured on", row.accuracy.evaluated)] if row.accuracy.evaluated else []
    return details


def direction(row: Row) -> str:
    """'up' or 'down' for a difference that is supported."""
    if row.difference is None or not row.supported:
        return ""
    return "up" if row.difference.estimate > 0 else "down"


def _timing(latency: Latency | None) -> TimingCell:
    if latency is None:
        return TimingCell()
    interval = latency.interval
    over = "processes" if latency.over_processes else "rounds of one process"
    title = f"95 % CI over {over}: {interval.low:.2f} to {interval.high:.2f} ms" if interval else ""
    if latency.ratio is not None:
        small = f"{cell('latency_ratio', latency.ratio)} ×"  # noqa: RUF001
    else:
        small = latency.reason if latency.median_ms is None else ""
    return TimingCell(cell("latency_ms", latency.median_ms), small, title)
