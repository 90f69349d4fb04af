"""The section of the HTML page on the test split, as its template reads it."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import minus
from ablate.analysis.split_comparison import SplitRow
from ablate.report.html_tables import Cell, anchors, direction
from ablate.report.split_table import openings_text, split_caption, split_columns

# Columns that stand as a smaller line in the cells of another one, and the words around them.
BELOW = {
    "validation_verdict": ("validation_delta", "{}"),
    "delta_ci": ("test_delta", "seeds {}"),
    "images_ci": ("test_delta", "images {}"),
    "both_ci": ("test_delta", "both {}"),
    "test_verdict": ("p_holm", "{}"),
}


@dataclass(frozen=True)
class TestedVariant:
    """A variant on the test split, with a link to its row of the comparison."""

    __test__ = False

    anchor: str
    label: str
    baseline: bool
    control: bool
    cells: tuple[Cell, ...]
    notes: str


@dataclass(frozen=True)
class TestSection:
    """The test split on the page: heads and rows of its table, what that shows, and when the split was opened."""

    __test__ = False

    heads: tuple[str, ...]
    rows: tuple[TestedVariant, ...]
    caption: str
    openings: tuple[str, ...]


def test_section(comparison: Comparison) -> TestSection | None:
    """The variants on the test split beside the validation images; None where that was never opened."""
    split = comparison.on_test
    if split is None or not split.rows:
        return None
    _, *columns = split_columns(split)  # the first has the names
    shown = [column for column in columns if column.name not in BELOW]
    links = anchors(comparison)
    has_p = any(column.name == "p_holm" for column in columns)
    below_of = BELOW if has_p else {**BELOW, "test_verdict": ("test_delta", "{}")}

    def cells(position: int, one: SplitRow) -> tuple[Cell, ...]:
        made = []
        for column in shown:
            small = [
                below_of[below.name][1].format(minus(below.cells[position]))
                for below in columns
                if below.name in BELOW and below_of[below.name][0] == column.name and below.cells[position]
            ]
            row = {"test_delta": one.test, "validation_delta": one.validation}.get(column.name)
            style = "" if row is None else direction(row)
            made.append(Cell(minus(column.cells[position]), tuple(small), "", style))
        return tuple(made)

    rows = [
        TestedVariant(
            anchor=links.get(one.test.key, ("", ""))[0],
            label=one.test.label,
            baseline=one.test.is_baseline,
            control=one.test.is_control,
            cells=cells(position, one),
            notes=minus("; ".join(one.test.notes)),
        )
        for position, one in enumerate(split.rows)
    ]
    heads = tuple(column.title for column in shown)
    return TestSection(heads, tuple(rows), split_caption(split), tuple(openings_text(split)))


test_section.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's
