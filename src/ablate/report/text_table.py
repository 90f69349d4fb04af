"""The comparison as columns of text, which Markdown, LaTeX, terminal and page lay out, each in its own way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablate.analysis.columns import Column, Place, columns_in, columns_of, factor_columns
from ablate.analysis.comparison import Comparison
from ablate.analysis.table import component_columns
from ablate.report.foremost_rows import alike
from ablate.report.markdown_text import table_cell

CHECK = "✓"

Kind = Literal["number", "text", "mark"]


@dataclass(frozen=True)
class TableColumn:
    """A column as text, one cell for each row of the comparison; `column` is None for a component's check marks."""

    name: str
    title: str
    kind: Kind
    cells: tuple[str, ...]
    column: Column | None = None


def text_columns(
    comparison: Comparison, place: Place, *, components: bool = True, names: bool = True
) -> list[TableColumn]:
    """The columns that a table has, without those in which nothing is known.

    Args:
        comparison: What to show.
        place: Which table.
        components: Whether the components' check marks stand behind the variant's name.
        names: Whether the variants' names are a column.
    """
    marks = mark_columns(comparison) if components else []
    factors = factor_columns(comparison.rows) if place == "details" else ()
    texts = [text_column(comparison, column) for column in (*columns_in(place, comparison.metric), *factors)]
    shown = [text for text in texts if any(text.cells) or (text.column is not None and text.column.always)]
    labels = [text for text in shown if text.name == "variant"]
    return [*(labels if names else []), *marks, *(text for text in shown if text.name != "variant")]


def text_column(comparison: Comparison, column: Column) -> TableColumn:
    """One column as text."""
    column = column.over(comparison.units, comparison.images)
    cells = tuple(column.text(row) for row in comparison.rows)
    return TableColumn(column.name, column.title, "text" if column.is_text else "number", cells, column)


def mark_columns(comparison: Comparison) -> list[TableColumn]:
    """A column of check marks for each component."""
    marks = [row.variant.marks for row in comparison.rows]
    return [
        TableColumn(name, name, "mark", tuple(CHECK if mark and mark[i] else "" for mark in marks))
        for i, name in enumerate(component_columns(comparison))
    ]


def best_rows(comparison: Comparison) -> dict[str, set[int]]:
    """Positions of the best value of each column that has one, in each data set that has a choice of rows.

    Only rows that may be compared take part, and no controls, and of these the ones over the same seeds, or folds, as
    most are; ties (as shown) are all best.
    """
    ranked = [column for column in columns_of(comparison.metric) if column.best]
    best: dict[str, set[int]] = {column.name: set() for column in ranked}
    positions = {id(row): position for position, row in enumerate(comparison.rows)}
    for data in {row.data for row in comparison.rows}:
        rows = alike([row for row in comparison.rows if row.data == data])
        for column in ranked:
            texts = {positions[id(row)]: text for row in rows if (text := column.format(column.get(row)))}
            if len(texts) > 1:
                extreme = (max if column.best == "highest" else min)(map(float, texts.values()))
                best[column.name] |= {i for i, text in texts.items() if float(text) == extreme}
    return best


def short_lines(component: str) -> list[str]:
    """A component's name in lines that make a narrow head: ``hmha``, ``@c3k2``."""
    return re.sub(r"(?<=.)([@=\[])", r"\n\1", component).splitlines()


def markdown_table(
    columns: Sequence[TableColumn], *, bold: Mapping[str, set[int]] | None = None, limit: int | None = None
) -> str:
    """A GitHub-flavoured Markdown table.

    Args:
        columns: What to print.
        bold: Positions of bold cells by column.
        limit: Rows to print; all by default.
    """
    rules = {"mark": ":---:", "number": "---:", "text": "---"}
    lines = [_line([table_cell(column.title) for column in columns]), _line([rules[column.kind] for column in columns])]
    for position, texts in enumerate(list(zip(*(column.cells for column in columns), strict=True))[:limit]):
        cells = [
            f"**{table_cell(text)}**" if text and position in (bold or {}).get(column.name, ()) else table_cell(text)
            for column, text in zip(columns, texts, strict=True)
        ]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
