"""The comparison and its trials as pandas data frames, for the files and for Python users."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ablate.analysis.columns import OF_FACTORS, Column, Value, file_columns, in_files
from ablate.analysis.comparison import Comparison
from ablate.analysis.measurements import evaluated, status
from ablate.analysis.table_summary import TableRow, TableSummary, TableValue
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import is_measured
from ablate.records.replicate import Replicate
from ablate.records.trial_record import FAILED, Record, TrialRecord
from ablate.settings.metric import Metric


def values_of(comparison: Comparison, row: Row) -> dict[str, Value]:
    """A row as the files hold it: column -> value, with a column for each component behind all others."""
    marks = row.variant.marks or ()
    names = component_columns(comparison)
    return {
        **{column.name: column.get(row) for column in (*in_files(comparison.metric), *OF_FACTORS)},
        **{name: str(marks[i]).lower() if marks else "" for i, name in enumerate(names)},
    }


def component_columns(comparison: Comparison) -> list[str]:
    """The columns that tell of the components, in the order of the design."""
    names = {column.name for column in (*in_files(comparison.metric), *OF_FACTORS)}
    return [f"{name} (component)" if name in names else name for name in comparison.components]


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """The comparison, one row per variant: empty text is '' and empty numbers are NaN."""
    rows = [values_of(comparison, row) for row in comparison.rows]
    components, columns = component_columns(comparison), file_columns(comparison.rows, comparison.metric)
    frame = pd.DataFrame(rows, columns=[*(column.name for column in columns), *components])
    for column in columns:
        frame[column.name] = _typed(frame[column.name], column)
    for name in components:
        frame[name] = frame[name].astype("object")
    return frame


def plain_rows(comparison: Comparison) -> list[TableRow]:
    """The rows with all columns of the files, unrounded."""
    components, columns = component_columns(comparison), file_columns(comparison.rows, comparison.metric)
    rows = []
    for row in comparison.rows:
        values = values_of(comparison, row)
        plain = {column.name: _plain(column, values[column.name]) for column in columns}
        rows.append(plain | {name: str(values[name]) for name in components})
    return rows


def _plain(column: Column, value: Value) -> TableValue:
    """A value without types of our own: numbers with decimals are floats, and text that is not known is empty."""
    if column.is_text:
        return str(value or "")
    if isinstance(value, int | float):
        return value if column.decimals is None else float(value)
    return None


def table_summary(comparison: Comparison) -> TableSummary:
    """The rows of a comparison, and what they come to."""
    differences = [row.difference for row in comparison.rows if row.difference is not None and not row.is_control]
    return TableSummary(
        plain_rows(comparison),
        max((difference.estimate for difference in differences), default=None),
        sum(difference.supported for difference in differences) if comparison.tests else None,
        plain_rows(comparison.on_test.comparison) if comparison.on_test else [],
    )


@dataclass(frozen=True)
class TrialRow:
    """One trial of a comparison: where its numbers come from. Accuracy is a fraction, time in minutes."""

    variant: str
    seed: int | None
    status: str
    accuracy: float | None
    evaluated: str
    train_minutes: float | None
    signature: str
    mlflow_run: str
    fold: int | None = None

    @property
    def replicate(self) -> str:
        """Its seed, with its fold where there are some; empty where it is not known."""
        return "" if self.seed is None else str(Replicate(self.seed, self.fold))


def trial_rows(comparison: Comparison) -> list[TrialRow]:
    """The trials in the order of the sweep, also those of variants that are left out."""
    labels: dict[str, str] = {}
    for variant in comparison.variants:
        for trial in variant.trials:
            labels.setdefault(trial.signature, variant.label)
    sweep = comparison.sweep
    return [_trial_row(record, labels, sweep.run_ids, sweep.metric) for record in sweep.trials]


def trial_frame(comparison: Comparison) -> pd.DataFrame:
    """`trial_rows` as a data frame, the accuracy under the name of its metric; with folds where there are some."""
    rows = trial_rows(comparison)
    frame = pd.DataFrame([vars(row) for row in rows], columns=list(TrialRow.__dataclass_fields__))
    for name in ("seed", "fold"):
        frame[name] = pd.Series([getattr(row, name) for row in rows], dtype="Int64")
    if all(row.fold is None for row in rows):
        frame = frame.drop(columns="fold")
    typed = frame.astype({"accuracy": "float64", "train_minutes": "float64"})
    return typed.rename(columns={"accuracy": comparison.metric.name})


def _trial_row(record: Record, labels: dict[str, str], run_ids: dict[str, str], metric: Metric) -> TrialRow:
    signature = record.signature
    return TrialRow(
        variant=labels[signature],
        seed=record.seed,
        status=_status_with_message(record, metric),
        accuracy=record.metrics.value(metric) if is_measured(record, metric) else None,
        evaluated=evaluated([record]) if is_measured(record, metric) else "",
        train_minutes=record.cost.train_minutes if isinstance(record, TrialRecord) else None,
        signature=signature,
        mlflow_run=run_ids.get(signature, ""),
        fold=record.fold,
    )


def _status_with_message(record: Record, metric: Metric) -> str:
    """How a trial ended, with its message when it failed."""
    message = record.failure.message if record.failure and record.status == FAILED else ""
    ended = status(record, metric)
    return f"{ended} ({message})" if message else ended


def _typed(values: pd.Series, column: Column) -> pd.Series:
    if column.is_text:
        return values.astype("object").where(values.notna(), "").astype(str)
    if column.decimals is None:
        return values.astype("int64")
    return pd.to_numeric(values, errors="coerce").astype("float64")
