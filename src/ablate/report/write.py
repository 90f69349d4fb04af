"""Write the answer of a sweep in every format that people ask for. All give the same numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from ablate.analysis.columns import file_columns
from ablate.analysis.comparison import Comparison
from ablate.analysis.data_sets import data_set_studies
from ablate.analysis.flops_note import flops_differences
from ablate.analysis.image_intervals import compute_intervals
from ablate.analysis.split_comparison import TestSplit, compare_splits, on_test_split
from ablate.analysis.table import component_columns, plain_rows, trial_rows, values_of
from ablate.analysis.table_summary import TableRow
from ablate.evaluation.image_bootstrap import RESAMPLES
from ablate.findings.all_findings import sentences
from ablate.findings.facts import headline
from ablate.findings.late_declarations import beneath_tables
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import short
from ablate.report.captions import accuracy_caption, caption, cost_caption, details_caption, others_legend
from ablate.report.data_set_table import data_set_caption, data_set_columns
from ablate.report.figures import KINDS
from ablate.report.markdown_text import literal
from ablate.report.split_table import columns_beside, openings_text, split_caption, split_columns, values_beside
from ablate.report.text_table import TableColumn, best_rows, markdown_table, text_columns
from ablate.safe_text import one_line
from ablate.storage.files import atomic_write_text
from ablate.storage.layout import TEST_REPORT, report_name

if TYPE_CHECKING:
    from ablate.report.html import Picture

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # as spreadsheets take them, full width too
MOST_FLOPS = 10  # variants whose FLOPs are said as Ultralytics counts them; the page has all
DESCRIPTION_LIMIT = 7500  # MLflow keeps 8000 characters of a tag


class JsonTestSplit(TypedDict):
    """The comparison on the test split: its rows with what the validation images said, and its openings in words."""

    openings: list[str]
    variants: list[TableRow]


DECLARED_LATE = "declared_late"  # column of comparison.csv, where anything was


class JsonReport(TypedDict):
    """The comparison as plain values for other programs.

    "variants" has the rows with all columns, unrounded; null is what is not known. "left_out" says why, by variant.
    "declared_late" says what was declared or chosen after the results, where anything was. "test_split" is there where
    the test split was opened.
    """

    sweep: str
    variants: list[TableRow]
    findings: list[str]
    left_out: dict[str, str]
    declared_late: NotRequired[list[str]]
    test_split: NotRequired[JsonTestSplit]


@dataclass(frozen=True)
class Report:
    """What was written: the comparison, the findings, and the files by name (`comparison.csv`, ...)."""

    comparison: Comparison
    findings: list[str]
    directory: Path
    files: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def write_report(
    sweep: Sweep,
    out_dir: Path | None = None,
    *,
    figures: Collection[str] = KINDS,
    notebook: bool = True,
    strict: bool = False,
    resamples: int = RESAMPLES,
    comparison: Comparison | None = None,
) -> Report:
    """Write comparison.csv, .md, .tex, .html, the figures (.png, .svg, .pdf) and comparison.ipynb.

    Args:
        sweep: what `load_sweep` read.
        out_dir: where to; the sweep's own folder if None. Created when missing.
        figures: kinds of files that figures are written as; none of them draws no figure.
        notebook: whether to execute the notebook, which takes some seconds.
        strict: leave out what may not be compared with its baseline.
        resamples: of the images, for intervals that are not known yet; 0 computes none.
        comparison: of this sweep, as strict, where it is there already.

    A figure for which nothing was recorded is left out, and its file of an earlier report removed. A
    figure or notebook that fails costs only itself and is named in `Report.problems`. Raises OSError
    when the folder cannot be written.
    """
    from ablate.report.figure_list import write_figures

    out = Path(out_dir or sweep.folder.path)
    if comparison is None:
        for one in (sweep, on_test_split(sweep)):
            if one is not None:
                compute_intervals(one, resamples=resamples)
        comparison = compare_splits(sweep, strict=strict)
    report = Report(comparison, sentences(comparison), out)
    with ThreadPoolExecutor(1) as beside:  # the notebook works in a kernel of its own
        executed = beside.submit(_execute, sweep, out, strict) if notebook else None
        _write(report, report_name("csv"), csv_text(comparison))
        if comparison.on_test is not None:
            _write(report, TEST_REPORT, csv_text(comparison.on_test.comparison, columns_beside(comparison.on_test)))
        _write(report, report_name("tex"), _latex(comparison))
        pictures, files, problems = write_figures(comparison, out, figures)
        report.files.update(files)
        report.problems.extend(problems)
        pngs = [name for name in report.files if name.endswith(".png")]
        _write(report, report_name("md"), markdown(comparison, figures=pngs))
        _write(report, report_name("html"), _html(comparison, pictures))
        if executed is not None:
            outcome = executed.result()
            if isinstance(outcome, str):
                report.problems.append(outcome)
            else:
                report.files[report_name("ipynb")] = outcome
    return report


def csv_text(comparison: Comparison, beside: Sequence[TableColumn] = ()) -> str:
    """What `comparison.csv` holds: the rows with all columns, rounded, and behind them those of `beside`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    components, columns = component_columns(comparison), file_columns(comparison.rows, comparison.metric)
    late = [" ".join(texts)] if (texts := beneath_tables(comparison.sweep)) else []
    writer.writerow([*(column.name for column in columns), *(_csv_cell(name) for name in components),
                     *(column.name for column in beside), *(DECLARED_LATE for _ in late)])  # fmt: skip
    for position, row in enumerate(comparison.rows):
        values = values_of(comparison, row)
        texts = [_csv_cell(column.format(values[column.name]), column.is_text) for column in columns]
        more = (column.cells[position] for column in beside)
        writer.writerow([*texts, *(str(values[name]) for name in components), *more, *map(_csv_cell, late)])
    return stream.getvalue()


def _csv_cell(text: str, is_text: bool = True) -> str:
    """A cell on one line; an apostrophe before a text that spreadsheets would take for a formula."""
    line = one_line(text) if is_text else text
    return f"'{line}" if is_text and line.lstrip().startswith(_FORMULA) else line


def as_json(comparison: Comparison) -> JsonReport:
    """The comparison as plain values for other programs."""
    answer: JsonReport = {
        "sweep": comparison.sweep.name,
        "variants": plain_rows(comparison),
        "findings": sentences(comparison),
        "left_out": comparison.left_out,
    }
    if late := beneath_tables(comparison.sweep):
        answer["declared_late"] = late
    split = comparison.on_test
    if split is not None:
        rows = zip(plain_rows(split.comparison), split.rows, strict=True)
        variants = [{**row, **values_beside(one)} for row, one in rows]
        answer["test_split"] = {"openings": openings_text(split), "variants": variants}
    return answer


def markdown(comparison: Comparison, *, figures: Sequence[str] = ()) -> str:
    """The comparison as Markdown: findings, table, figures, and the runs behind each number."""
    parts = [f"# {literal(comparison.sweep.name)}\n", f"{literal(headline(comparison))}.\n"]
    parts.append(_bullets(sentences(comparison)))
    if comparison.rows:
        columns = text_columns(comparison, "table", names=not comparison.is_named_by_marks)
        parts += [markdown_table(columns, bold=best_rows(comparison)), f"{literal(caption(comparison))}\n"]
        parts += _data_sets(comparison)
        parts += _test_split(comparison.on_test) if comparison.on_test else []
        details = text_columns(comparison, "details", components=False)
        if len(details) > 1:
            parts += ["## In detail\n", markdown_table(details), f"{details_caption(comparison)}\n"]
        flops = flops_differences(comparison)
        if flops:
            lines = [f"- {literal(label)}: {literal(text)}" for label, text in flops[:MOST_FLOPS]]
            lines += [f"- {len(flops) - MOST_FLOPS} more are in comparison.html."] if len(flops) > MOST_FLOPS else []
            parts += ["By variant:\n", "\n".join(lines) + "\n"]
    parts += [f"![{Path(name).stem}]({name})\n" for name in figures]
    trials = trial_rows(comparison)
    if trials:
        columns = [
            TableColumn(title, title, "text", tuple(cells))
            for title, cells in (
                ("Variant", [trial.variant for trial in trials]),
                ("Seed" if all(t.fold is None for t in trials) else "Seed, fold", [t.replicate for t in trials]),
                ("Status", [trial.status for trial in trials]),
                ("Signature", [short(trial.signature) for trial in trials]),
                ("MLflow run", [trial.mlflow_run for trial in trials]),
            )
        ]
        parts += ["## Trials behind the numbers\n", markdown_table(columns)]
    return "\n".join(parts)


def _data_sets(comparison: Comparison) -> list[str]:
    """The tables of variants over data sets, if there are several."""
    studies = data_set_studies(comparison)
    parts = ["## Several data sets\n"] if studies else []
    for study in studies:
        parts += [f"{literal(study.title)}:\n"] if study.title else []
        parts.append(markdown_table(data_set_columns(study)))
    caption = literal(data_set_caption(comparison))
    return [*parts, f"{caption}\n"] if studies else []


def _test_split(split: TestSplit) -> list[str]:
    """The variants on the test split beside the validation images."""
    notes = [f"{row.label}: {'; '.join(row.notes)}" for row in split.comparison.rows if row.notes]
    table = markdown_table(split_columns(split))
    return ["## Test split\n", table, f"{literal(split_caption(split))}\n", _bullets([*openings_text(split), *notes])]


def description(comparison: Comparison, limit: int = DESCRIPTION_LIMIT) -> str:
    """Findings and table as Markdown, short enough for the description of an MLflow run.

    It has the columns that fit beside MLflow's own; rows, then findings are left out until the length fits.
    """
    findings = _bullets(sentences(comparison))
    if not comparison.rows:
        return findings[:limit]
    columns = text_columns(comparison, "description", names=not comparison.is_named_by_marks)
    best, total = best_rows(comparison), len(comparison.rows)
    for rows in (total, 40, 20, 10, 5):
        part = markdown_table(columns, bold=best, limit=rows)
        rest = f"\n{total - rows} more rows are in comparison.html.\n" if rows < total else ""
        rest += f"\n{others_legend(comparison)}\n" if any(row.is_over_others for row in comparison.rows[:rows]) else ""
        text = f"{part}{rest}\n{findings}"
        if len(text) <= limit:
            return text
    return text[: limit - 4] + "\n..."


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {literal(text)}" for text in texts) + "\n"


def _execute(sweep: Sweep, out: Path, strict: bool) -> Path | str:
    """The notebook, or why there is none."""
    from ablate.report.notebook import NotebookError, execute

    try:
        return execute(
            sweep.folder.path,
            out / report_name("ipynb"),
            strict=strict,
            judge=sweep.judge_chosen_after,
            delta=sweep.margin_chosen_after,
            groups=sweep.groups,
            metric=sweep.metric_chosen_after,
        )
    except NotebookError as error:
        return str(error)
    except OSError as error:  # no process for its kernel, say; where the folder cannot be written, the report says so
        return f"the notebook: {error.filename or 'its kernel'}: {error.strerror or error}"


def _latex(comparison: Comparison) -> str:
    from ablate.report.latex import latex

    return latex(comparison, accuracy_caption(comparison), cost_caption(comparison))


def _html(comparison: Comparison, pictures: list[Picture]) -> str:
    from ablate.report.html import page_html

    return page_html(comparison, pictures, caption(comparison))


def _write(report: Report, name: str, content: str) -> None:
    path = report.directory / name
    atomic_write_text(path, content)
    report.files[name] = path
