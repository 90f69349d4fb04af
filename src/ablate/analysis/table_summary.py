"""A comparison as it is handed to MLflow, from process to process; nothing heavy is imported for it."""

from __future__ import annotations

from dataclasses import dataclass, field

TableValue = str | int | float | None
TableRow = dict[str, TableValue]  # column -> value


@dataclass(frozen=True)
class TableSummary:
    """A comparison as other programs take it.

    Attributes:
        rows: Its rows with all columns of the files, unrounded.
        largest_difference: The largest difference to a baseline, controls aside; None where there is none.
        supported: How many differences the trials support; None where none was tested.
        test_rows: The rows of the comparison on the test split; none where that was never opened.
    """

    rows: list[TableRow] = field(default_factory=list)
    largest_difference: float | None = None
    supported: int | None = None
    test_rows: list[TableRow] = field(default_factory=list)
