"""`python -m ablate data audit`: run the audit, write what it found, show it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ablate.audit.audit_page import audit_html
from ablate.audit.audit_sentences import facts
from ablate.audit.run_audit import Report, audit, images_of
from ablate.console import Terminal, is_animated, print_line, short_path
from ablate.data.cache import make_cache
from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.data.groups import AUDIT, ImageGroups, write_groups
from ablate.monitor.render import Row, table
from ablate.records.audit_record import AuditRecord, grouped
from ablate.records.json_struct import to_json
from ablate.storage.confined import refuse_links
from ablate.storage.files import atomic_write_json, atomic_write_text
from ablate.storage.layout import AuditFolder, OutputFolder

MOST_ROWS: Final = 20
TITLES: Final = ("image", "other image", "kind", "common", "correlation", "labels")
NUMBERS: Final = ("common", "correlation")


def run_audit(data: DataSettings, root: Path, *, as_json: bool = False) -> int:
    """Audit a data set, write `audit.json`, `audit.html` and `groups.json`, and print them; return the exit code.

    Args:
        data: Which data set; it is fetched where that is allowed.
        root: The output folder.
        as_json: Print JSON to stdout.

    Raises:
        ConfigError, DataError: The data set cannot be used, or the folder must not be written.
    """
    console = Terminal(stderr=as_json)
    make_cache()
    with _progress(console) as report:
        report("checking files", 0, 1)
        dataset = resolve(data, download=True)
        folder = OutputFolder(root).audit(dataset.fingerprint)
        refuse_links([folder.path, folder.record, folder.page, folder.groups])
        record = audit(dataset, report)
        report("writing pictures", 0, 1)
        page = audit_html(record, {image.name: image.path for image in images_of(dataset)})
    write_groups(folder.groups, ImageGroups(grouped(record), AUDIT, dataset.fingerprint))
    atomic_write_text(folder.page, page)
    atomic_write_json(folder.record, to_json(record))
    if as_json:
        print(json.dumps(to_json(record)))  # noqa: T201
    else:
        _print(record, folder, console)
    return 0


def _print(record: AuditRecord, folder: AuditFolder, console: Terminal) -> None:
    for fact in facts(record):
        print_line(console, fact)
    pairs = record.pairs[:MOST_ROWS]
    if pairs:
        print_line(console, "")
        rows: list[Row] = [
            [
                pair.first.removeprefix("images/"),
                pair.second.removeprefix("images/"),
                pair.kind + (", mirrored" if pair.is_mirrored else ""),
                f"{pair.overlap:.0%}",
                f"{pair.correlation:.2f}",
                "" if pair.labels_differ is None else f"{pair.labels_differ} differ" if pair.labels_differ else "same",
            ]
            for pair in pairs
        ]
        width = console.width if console.is_terminal else None
        for line in table(TITLES, rows, width, right=NUMBERS, drop=("correlation",)):
            print_line(console, line)
        if len(record.pairs) > len(pairs):
            print_line(console, f"and {len(record.pairs) - len(pairs)} more")
    print_line(console, "")
    print_line(console, f"pictures: {short_path(folder.page.absolute())}")
    print_line(console, f"groups: {short_path(folder.groups.absolute())}")


@contextmanager
def _progress(console: Terminal) -> Iterator[Report]:
    """A bar on a terminal, which is gone afterwards; nothing elsewhere."""
    if not is_animated(console):
        yield lambda step, done, total: None
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    task = bar.add_task("")
    with bar:
        yield lambda step, done, total: bar.update(task, completed=done, total=total, description=step)
