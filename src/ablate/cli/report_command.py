"""`python -m ablate report`: its options, and its steps from records to pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.analysis.image_groups import check_groups
from ablate.errors import ConfigError, nearest
from ablate.records.judged import sweep_as_chosen
from ablate.records.loading import load_sweep
from ablate.settings.judge import check_judge
from ablate.settings.metric import metric_named
from ablate.storage.layout import REPORT_FORMS

if TYPE_CHECKING:
    from rich.console import Console

VALID = ("root", "strict", "resamples", "figures", "notebook", "judge", "delta", "groups", "metric")
TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class ReportOptions:
    """The options of a report.

    Attributes:
        strict: Leave out what may not be compared with its baseline; None: where the sweep's own command did.
        resamples: Of the images, for intervals that are not known yet; 0 computes none.
        figures: Draw the figures.
        notebook: Execute the notebook.
        judge: Which epochs the accuracy is taken from; None: what the sweep's command declared.
        delta: Margin of equivalence in place of the one that the sweep's command declared, if any.
        groups: Which groups of images intervals draw whole: auto (those that an audit found), none, or a file.
        metric: The accuracy by which variants are compared; None: what the sweep's command declared.
    """

    strict: bool | None = None
    resamples: int = 1000
    figures: bool = True
    notebook: bool = True
    judge: str | None = None
    delta: float | None = None
    groups: str = "auto"
    metric: str | None = None


def report_options(words: Sequence[str]) -> ReportOptions:
    """Read words such as strict=true.

    Raises:
        ConfigError: There is no such option, or not this value of it.
    """
    options: dict[str, bool | int | float | str] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"{word}: a report is of one sweep; beside its name there may be {', '.join(VALID)}")
        if name not in VALID:
            raise ConfigError(f"{word}: a report has no such option. {nearest(name, VALID)}valid: {', '.join(VALID)}")
        if name == "resamples":
            if not text.isdecimal() or int(text) > 1_000_000:
                raise ConfigError(f"{word}: resamples is a whole number from 0 (none) to 1000000")
            options[name] = int(text)
        elif name == "judge":
            check_judge(text)
            options[name] = text
        elif name == "groups":
            check_groups(text)
            options[name] = text
        elif name == "metric":
            options[name] = metric_named(text).name
        elif name == "delta":
            options[name] = _margin(word, text)
        elif text.lower() not in TRUTH:
            raise ConfigError(f"{word}: {name} is true or false")
        else:
            options[name] = TRUTH[text.lower()]
    return ReportOptions(**options)  # type: ignore[arg-type]


def _margin(word: str, text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = 0.0
    if not 0 < margin <= 1:
        raise ConfigError(f"{word}: delta is a fraction of the metric above 0, up to 1, such as 0.005")
    return margin


def make_report(directory: Path, options: ReportOptions, console: Console, *, as_json: bool = False) -> int:
    """Show a sweep's table as soon as it is known, then write its files; or print the table as JSON, and that is all.

    Args:
        directory: The sweep's folder.
        options: What was asked.
        console: Where to say what is done; with `as_json` not standard output, which then gets JSON and nothing else.
        as_json: Print the table as JSON; no figure is drawn, and of files only intervals over images are written.

    Returns:
        The exit code.
    """
    from ablate.console import print_line
    from ablate.report.figures import KINDS
    from ablate.report.terminal_table import compare_with_progress, print_table
    from ablate.report.write import as_json as table_as_json
    from ablate.report.write import write_report

    sweep = sweep_as_chosen(load_sweep(directory), judge=options.judge, delta=options.delta, metric=options.metric)
    sweep = replace(sweep, groups=options.groups)
    strict = sweep.manifest.strict if options.strict is None else options.strict
    comparison = compare_with_progress(sweep, console, strict=strict, resamples=options.resamples)
    if as_json:
        print(json.dumps(table_as_json(comparison), allow_nan=False), flush=True)  # noqa: T201
        return 0
    print_table(comparison, console=console)
    with console.status("figures and pages") if console.is_terminal else nullcontext():
        try:
            sweep.folder.stamp.unlink(missing_ok=True)  # the sweep, repeated, is to write its own
            kinds = KINDS if options.figures else ()
            written = write_report(
                sweep, comparison=comparison, strict=strict, figures=kinds, notebook=options.notebook
            )
        except OSError as error:
            raise ConfigError(f"the report cannot be written to {directory}: {error.strerror or error}") from error
    for problem in written.problems:
        print_line(console, f"report: {problem}", "yellow")
    forms = [form for form in REPORT_FORMS if sweep.folder.report(form).name in written.files]
    message = f"report: {directory}/{sweep.folder.report('html').name} (also .{' .'.join(forms)})"
    print_line(console, message)
    return 0
