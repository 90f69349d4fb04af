"""The table of variants on the test split beside the validation images, and when the test split was opened."""

from __future__ import annotations

from collections.abc import Callable

from ablate.analysis.columns import Column, accuracy_text, by_name
from ablate.analysis.phrases import count, listed
from ablate.analysis.split_comparison import SplitRow, TestSplit
from ablate.analysis.table_summary import TableRow
from ablate.findings.late_declarations import beneath_tables
from ablate.report.captions import others_legend
from ablate.report.text_table import TableColumn
from ablate.settings.metric import Metric


def _beside(metric: Metric) -> list[Column]:
    """The columns of the files that are there of the validation images too."""
    columns = by_name(metric)
    return [columns[metric.name], columns[f"delta_{metric.name}"], columns["verdict"]]


def split_columns(split: TestSplit) -> list[TableColumn]:
    """The columns for people, one cell for each variant, without those in which nothing is known."""

    def column(name: str, title: str, read: Callable[[SplitRow], str], *, text: bool = False) -> TableColumn:
        return TableColumn(name, title, "text" if text else "number", tuple(map(read, split.rows)))

    def on_test(name: str) -> Callable[[SplitRow], str]:
        return lambda one: columns_by_name[name].text(one.test)

    def before(name: str) -> Callable[[SplitRow], str]:
        return lambda one: columns_by_name[name].text(one.validation) if one.validation else ""

    metric = split.comparison.metric.name
    columns_by_name = by_name(split.comparison.metric)
    columns = [
        column("variant", "Variant", lambda one: one.test.label, text=True),
        column("seeds", "Seeds", lambda one: str(one.test.replicates)),
        column("validation", "Validation", before(metric)),
        column("test", "Test", on_test(metric)),
        column("fall", "Fall", _fall),
        column("validation_delta", "Δ validation", before(f"delta_{metric}")),
        column("test_delta", "Δ test", on_test(f"delta_{metric}")),
        column("delta_ci", "CI over seeds", on_test("delta_ci")),
        column("images_ci", f"over {split.comparison.images}", on_test("images_ci")),
        column("both_ci", "over both", on_test("both_ci")),
        column("p_holm", "p (Holm)", on_test("p_holm")),
        column("validation_verdict", "On validation", before("verdict"), text=True),
        column("test_verdict", "On test", on_test("verdict"), text=True),
    ]
    return [each for each in columns if any(each.cells)]


def columns_beside(split: TestSplit) -> list[TableColumn]:
    """What the validation images said and the fall, as columns of the files, rounded."""
    columns = []
    for column in _beside(split.comparison.metric):
        cells = (column.format(column.get(one.validation)) if one.validation else "" for one in split.rows)
        columns.append(TableColumn(f"validation_{column.name}", "", "number", tuple(cells)))
    falls = tuple(accuracy_text(one.fall) for one in split.rows)
    return [*columns, TableColumn("fall", "", "number", falls)]


def values_beside(one: SplitRow) -> TableRow:
    """The same of one row, unrounded; None is what is not known."""
    row: TableRow = {}
    for column in _beside(one.test.variant.metric):
        value = column.get(one.validation) if one.validation else None
        row[f"validation_{column.name}"] = value if isinstance(value, str | int | float) else None
    return {**row, "fall": one.fall}


def split_caption(split: TestSplit) -> str:
    """What the columns mean, and which numbers they are of."""
    corrected = "Holm-corrected over the variants of this table"
    if any(one.test.difference and one.test.difference.looks for one in split.rows):
        corrected = "valid at all looks at a growing number of seeds"
    words = [
        f"The same checkpoints (of the {split.checkpoint} epoch) on the validation images and on the test split, means "
        "over seeds. Fall: validation minus test. A fall that all variants share has causes that are not told apart: "
        "other images, and the choice of the epoch on the validation images. Falls also differ by chance. "
        "Δ: variant minus baseline, paired by seed. CIs (95 %, of Δ test), p and verdict on the test split are those "
        f"of the comparison's tests, {corrected}; the verdicts on the validation images are corrected apart from them."
    ]
    if has_marks(split):
        words.append(others_legend(split.comparison))
    if split.untested:
        words.append(f"{count(split.untested, 'trial')} of the sweep ended after the opening and are not in it.")
    return " ".join([*words, *beneath_tables(split.comparison.sweep)])


def has_marks(split: TestSplit) -> bool:
    """Whether an accuracy of the table is marked, because the difference is over fewer seeds, or folds."""
    return any(one.test.is_over_others or (one.validation and one.validation.is_over_others) for one in split.rows)


def openings_text(split: TestSplit) -> list[str]:
    """When the test split of each data set was opened, by what, and what is wrong with the ledger; a line for each."""
    lines = []
    for one in split.openings:
        images = f"{one.data or 'data'}: test split of {count(one.images, 'image')}"
        if not one.lines:
            lines.append(f"{images}, no opening in the ledger.")
            continue
        times = "once" if len(one.lines) == 1 else f"{len(one.lines)} times"
        openings = [_opening(line.time, line.sweep, line.command, line.version) for line in one.lines]
        lines.append(f"{images}, opened {times}: {listed(openings, 5)}.")
    if split.unfinished:
        lines.append(
            f"{count(split.unfinished, 'checkpoint')} of the sweep {'is' if split.unfinished == 1 else 'are'} not "
            "measured yet: the opening was interrupted, or goes on now. The same command measures the rest."
        )
    if split.damage:
        lines.append(f"The ledger of openings was tampered with: {split.damage}.")
    return lines


def _opening(time: str, sweep: str, command: str, version: str) -> str:
    how = f"by {command}" if command else f"by sweep {sweep}"
    return f"{time[:16].replace('T', ' ')} {how}{f' (ablate {version})' if version else ''}"


def _fall(one: SplitRow) -> str:
    return accuracy_text(one.fall, signed=True)
