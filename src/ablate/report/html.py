"""The comparison as HTML: a fragment for notebooks, and one self-contained page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jinja2
import pandas as pd

from ablate.analysis.columns import left_out, rows_of
from ablate.analysis.flops_note import flops_differences
from ablate.analysis.phrases import minus
from ablate.analysis.variants import variant_key
from ablate.findings import all_findings as summary
from ablate.records.records import Sweep
from ablate.report import html_tables as tables
from ablate.report.figures.style import groups_of, title_of

MEDIA = {"png": "image/png", "jpg": "image/jpeg", "svg": "image/svg+xml"}
MANY = 60  # rows from which on a long table is folded, and the comparison can be searched
FEW = 6  # links to rows that stand beneath a figure unfolded


@dataclass(frozen=True)
class Picture:
    """A figure on the page: what it is called, what it shows, and its file's content.

    Attributes:
        title: Its heading.
        caption: What it shows.
        content: The bytes of the image on the page.
        kind: "png", "jpg" or "svg": what `content` is.
        name: Its name in links.
        files: Names of the files beside the page that hold the same figure.
        rows: Keys of the variants that it draws.
        counts: A small table beneath it, if any.
        narrow: Whether it is one column of a paper wide.
    """

    title: str
    caption: str
    content: bytes
    kind: str
    name: str = ""
    files: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    counts: pd.DataFrame | None = field(default=None, compare=False)
    narrow: bool = False

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{MEDIA[self.kind]};base64,{b64encode(self.content).decode()}"


def table_html(table: pd.DataFrame) -> str:
    """The comparison table as an HTML fragment with its own style."""
    return _templates().get_template("fragment.html").render(table=tables.comparison(table))


def trials_html(sweep: Sweep, table: pd.DataFrame) -> str:
    """Which trials and MLflow runs each row of the comparison comes from, as an HTML fragment."""
    return _templates().get_template("fragment.html").render(trials=tables.trials(sweep, table))


def page_html(sweep: Sweep, table: pd.DataFrame, pictures: list[Picture], caption: str) -> str:
    """The whole report as one HTML file that needs nothing from elsewhere."""
    return (
        _templates()
        .get_template("comparison.html")
        .render(
            sweep=sweep,
            head=summary.head(sweep, table),
            findings=[minus(sentence) for sentence in summary.sentences(sweep, table)],
            table=tables.comparison(table) if len(table) else None,
            caption=caption,
            pictures=[_hung(picture, table) for picture in pictures],
            classes=tables.classes(sweep, table),
            cost=tables.cost(table),
            flops=flops_differences(sweep, table),
            settings=tables.latency_settings(sweep, table),
            trials=tables.trials(sweep, table),
            latency=summary.latency_facts(sweep),
            recipes=_recipes(sweep, table),
            unfair=_unfair(table),
            data=summary.data_facts(sweep),
            many=MANY,
            few=FEW,
        )
    )


def _hung(picture: Picture, table: pd.DataFrame) -> dict[str, Any]:
    """A figure as its template needs it, with links to the rows that it draws."""
    places = tables.anchors(table)
    counts = picture.counts
    return {
        "picture": picture,
        "rows": [places[key] for key in dict.fromkeys(picture.rows) if key in places],
        "files": [(name, name.rpartition(".")[2].upper()) for name in picture.files],
        "counts": None if counts is None else (list(counts.columns), counts.to_numpy().tolist()),
    }


def _recipes(sweep: Sweep, table: pd.DataFrame) -> list[tuple[str, dict[str, str]]]:
    """The realised recipe of each comparison group; of equal ones the first stands for all."""
    found: list[tuple[str, dict[str, str]]] = []
    for rows in groups_of(table):
        keys = set(rows["variant_key"])
        facts = summary.recipe_facts([record for record in sweep.records if variant_key(record) in keys])
        if facts:
            found.append((title_of(rows), facts))
    return found


def _unfair(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows that may not be compared with their baseline, or were left out for that, and why."""
    rows = [
        {"anchor": tables.anchor(i), "label": row["variant"], "why": row["notes"]}
        for i, row in enumerate(rows_of(table))
        if row["comparable"] != "yes"
    ]
    return rows + [{"anchor": "", "label": label, "why": f"left out: {why}"} for label, why in left_out(table).items()]


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ablate.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
