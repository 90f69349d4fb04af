"""Write the answer of a sweep in every format that people ask for. All say the same numbers."""

from __future__ import annotations

import io
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablate.analysis.columns import components_of, left_out, rows_of
from ablate.analysis.flops_note import flops_differences
from ablate.analysis.image_intervals import compute_intervals
from ablate.analysis.number_format import (
    DETAILS,
    best_rows,
    display,
    literal,
    markdown_table,
    named_by_marks,
    published,
)
from ablate.analysis.table import comparison_table, trial_table
from ablate.evaluation.image_bootstrap import RESAMPLES
from ablate.findings.all_findings import head, latency_facts, sentences
from ablate.records.records import Sweep, short
from ablate.report.figures import KINDS
from ablate.report.terminal_table import print_table
from ablate.storage.files import atomic_write_bytes, atomic_write_text

if TYPE_CHECKING:
    from ablate.report.html import Picture

__all__ = ["Report", "as_json", "comparison_table", "description", "print_table", "write_report"]

MOST_FLOPS = 10  # variants whose FLOPs are told as Ultralytics counts them; the page has all
TOLD = ("device name", "scope", "batch", "precision", "backend", "imgsz", "threads", "rounds", "processes")
DESCRIPTION_LIMIT = 7500  # MLflow keeps 8000 characters of a tag


@dataclass(frozen=True)
class Report:
    """What was written: the table, the findings, and the files by name (`comparison.csv`, ...)."""

    table: pd.DataFrame
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
    table: pd.DataFrame | None = None,
) -> Report:
    """Write comparison.csv, .md, .tex, .html, the figures (.png, .svg, .pdf) and comparison.ipynb.

    Args:
        sweep: what `load_sweep` read.
        out_dir: where to; the sweep's own folder if None. Created when missing.
        figures: kinds of files that figures are written as; none of them draws no figure.
        notebook: whether to execute the notebook, which takes some seconds.
        strict: leave out what may not be compared with its baseline.
        resamples: of the images, for intervals that are not known yet; 0 computes none.
        table: the comparison of this sweep, as strict, where it is there already.

    A figure for which nothing was recorded is left out, and its file of an earlier report removed. A
    figure or notebook that fails costs only itself and is named in `Report.problems`. Raises OSError
    when the folder cannot be written.
    """
    from ablate.report.figure_list import hang

    out = Path(out_dir or sweep.directory)
    if table is None:
        compute_intervals(sweep, resamples=resamples)
        table = comparison_table(sweep, strict=strict)
    report = Report(table, sentences(sweep, table), out)
    with ThreadPoolExecutor(1) as beside:  # the notebook works in a kernel of its own
        executed = beside.submit(_execute, sweep, out, strict) if notebook else None
        _write(report, "comparison.csv", _csv(table))
        _write(report, "comparison.tex", _latex(sweep, table))
        pictures, files, problems = hang(sweep, table, out, figures)
        report.files.update(files)
        report.problems.extend(problems)
        _write(
            report,
            "comparison.md",
            markdown(sweep, table, figures=[n for n in report.files if n.endswith(".png")]),
        )
        _write(report, "comparison.html", _html(sweep, table, pictures))
        if executed is not None:
            found = executed.result()
            if isinstance(found, str):
                report.problems.append(found)
            else:
                report.files["comparison.ipynb"] = found
    return report


def as_json(sweep: Sweep, table: pd.DataFrame) -> dict[str, Any]:
    """The comparison as plain values for other programs: {"sweep", "variants", "findings", "left_out"}.

    "variants" has the rows with all columns, unrounded; null is what is not known. "left_out" says why, by variant.
    """
    rows = [{name: None if found != found else found for name, found in row.items()} for row in rows_of(table)]
    return {"sweep": sweep.name, "variants": rows, "findings": sentences(sweep, table), "left_out": left_out(table)}


def caption(sweep: Sweep, table: pd.DataFrame) -> str:
    """What the columns mean, and under which protocol they were measured, in one paragraph."""
    return f"{accuracy_caption(table)} {cost_caption(sweep, table)}"


def accuracy_caption(table: pd.DataFrame) -> str:
    """What the columns on accuracy mean."""
    measured = " | ".join(dict.fromkeys(text for text in table["evaluated"] if text))
    words = ["Accuracies are fractions from 0 to 1, means over seeds" + (f" ({measured})." if measured else ".")]
    if table["map50_95_std"].notna().any():
        words.append("std is the sample standard deviation over seeds.")
    if components_of(table):
        words.append("A check mark is a component that the variant has; the baseline has none.")
    words.append("Δ is the mean over shared seeds of variant minus baseline.")
    if table["p_value"].notna().any():
        words.append(
            "Intervals are Student's t over seeds; p is the paired t-test, corrected by Holm over all variants."
        )
    if table["images_ci_low"].notna().any():
        words.append(
            "The interval over seeds tells what another training would change, the one over images (paired bootstrap) "
            "what other validation images of the same kind would, for the same trained networks; neither contains the "
            "other."
        )
    words.append("Bold is the best of the comparable rows on the same data.")
    return " ".join(words)


def details_caption(table: pd.DataFrame) -> str:
    """What the columns of `DETAILS` mean, as far as they hold anything."""
    told = {
        "effect_size": "The effect size is Hedges' g of the paired differences.",
        "smallest_detectable": "Detectable is the smallest difference that as many seeds find in 80 % of studies at "
        "the spread seen; seeds for 0.005 is how many would find half a point; both of a single test, before "
        "correction.",
        "map50_95_last": "The last epoch is evaluated as the best one is.",
        "map50_95_small": "AP small, medium and large are COCO's, by area: under 32², to 96², above.",
        "params_added_m": "Added parameters are those beyond the stock network.",
        "gflops_ultralytics": "Ultralytics' own number of GFLOPs counts the network as it is trained, with heads that "
        "are not deployed, at a small image and from there by its area, and no products that are no layer.",
    }
    return " ".join(words for name, words in told.items() if table[name].notna().any())


def cost_caption(sweep: Sweep, table: pd.DataFrame) -> str:
    """What the columns on cost mean."""
    words = ["Training time is the mean, memory the highest peak over seeds."]
    protocol = latency_facts(sweep)
    if protocol and table["latency_ms"].notna().any():
        facts = ", ".join(f"{key} {protocol[key]}" for key in TOLD if key in protocol)
        words.append(f"Latency is the median ({facts}).")
    return " ".join(words)


def markdown(sweep: Sweep, table: pd.DataFrame, *, figures: list[str] | None = None) -> str:
    """The comparison as Markdown: findings, table, figures, and the runs behind each number."""
    parts = [f"# {literal(sweep.name)}\n", f"{literal(head(sweep, table))}.\n"]
    parts.append("\n".join(f"- {literal(sentence)}" for sentence in sentences(sweep, table)) + "\n")
    if len(table):
        shown = display(table).drop(columns=["variant"] if named_by_marks(table) else [])
        text = markdown_table(shown, bold=best_rows(table), centred=components_of(table))
        parts += [text, f"{literal(caption(sweep, table))}\n"]
        details = display(table, columns=DETAILS).drop(columns=components_of(table))
        if len(details.columns) > 1:
            parts += ["## In detail\n", markdown_table(details), f"{details_caption(table)}\n"]
        told = flops_differences(sweep, table)
        if told:
            lines = [f"- {literal(label)}: {literal(text)}" for label, text in told[:MOST_FLOPS]]
            lines += [f"- {len(told) - MOST_FLOPS} more are in comparison.html."] if len(told) > MOST_FLOPS else []
            parts += ["By variant:\n", "\n".join(lines) + "\n"]
    parts += [f"![{Path(name).stem}]({name})\n" for name in figures or []]
    trials = trial_table(sweep)
    if len(trials):
        rows = pd.DataFrame(
            {
                "Variant": trials["variant"],
                "Seed": ["" if pd.isna(seed) else str(seed) for seed in trials["seed"]],
                "Status": trials["status"],
                "Signature": [short(signature) for signature in trials["signature"]],
                "MLflow run": trials["mlflow_run"],
            }
        )
        parts += ["## Where the numbers come from\n", markdown_table(rows)]
    return "\n".join(parts)


def description(sweep: Sweep, table: pd.DataFrame, limit: int = DESCRIPTION_LIMIT) -> str:
    """Findings and table as Markdown, short enough for the description of an MLflow run.

    It has the columns that fit beside MLflow's own; rows, then findings are left out until the length fits.
    """
    findings = "\n".join(f"- {literal(sentence)}" for sentence in sentences(sweep, table)) + "\n"
    if table.empty:
        return findings[:limit]
    shown, bold = display(table), best_rows(table)
    components = components_of(table)
    few = [
        *([] if named_by_marks(table) else ["variant"]),
        *components,
        "replicates",
        "map50_95",
        "delta_map50_95",
        "delta_ci",
        "p_holm",
        "latency_ms",
        "comparable",
    ]
    few = [name for name in few if name in shown.columns]
    for rows in (len(shown), 40, 20, 10, 5):
        part = markdown_table(shown[few].head(rows), bold=bold, centred=components)
        rest = f"\n{len(shown) - rows} more rows are in comparison.html.\n" if rows < len(shown) else ""
        text = f"{part}{rest}\n{findings}"
        if len(text) <= limit:
            return text
    return text[: limit - 4] + "\n..."


def _execute(sweep: Sweep, out: Path, strict: bool) -> Path | str:
    """The notebook, or why there is none."""
    from ablate.report.notebook import NotebookError, execute

    try:
        return execute(sweep.directory, out / "comparison.ipynb", strict=strict)
    except NotebookError as error:
        return str(error)


def _csv(table: pd.DataFrame) -> str:
    stream = io.StringIO()
    published(table).to_csv(stream, index=False, lineterminator="\n")
    return stream.getvalue()


def _latex(sweep: Sweep, table: pd.DataFrame) -> str:
    from ablate.report.latex import latex

    return latex(sweep, table, accuracy_caption(table), cost_caption(sweep, table))


def _html(sweep: Sweep, table: pd.DataFrame, pictures: list[Picture]) -> str:
    from ablate.report.html import page_html

    return page_html(sweep, table, pictures, caption(sweep, table))


def _write(report: Report, name: str, content: str | bytes) -> None:
    path = report.directory / name
    if isinstance(content, str):
        atomic_write_text(path, content)
    else:
        atomic_write_bytes(path, content)
    report.files[name] = path
