"""The comparison as HTML: a fragment for notebooks, and one self-contained page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import jinja2

from ablate.analysis.comparability import compared_titles
from ablate.analysis.comparison import Comparison
from ablate.analysis.flops_note import flops_differences
from ablate.analysis.phrases import joined, minus
from ablate.analysis.variants import variant_key
from ablate.findings.all_findings import sentences
from ablate.findings.facts import Facts, data_facts, headline, latency_facts, recipe_facts
from ablate.report import html_tables as tables
from ablate.report.data_set_table import data_set_caption
from ablate.report.html_split import test_section
from ablate.safe_text import visible

if TYPE_CHECKING:
    from ablate.report.figures.style import CountTable

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
        alt: What it shows, for who does not see it; empty: its title.
    """

    title: str
    caption: str
    content: bytes
    kind: str
    name: str = ""
    files: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    counts: CountTable | None = None
    alt: str = ""

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{MEDIA[self.kind]};base64,{b64encode(self.content).decode()}"


@dataclass(frozen=True)
class PlacedPicture:
    """A figure as its template needs it, with links to the rows that it draws and to its files (name and kind)."""

    picture: Picture
    rows: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class UnfairRow:
    """A row that may not be compared with its baseline, or was left out for that, and why."""

    anchor: str
    label: str
    why: str


def table_html(comparison: Comparison) -> str:
    """The comparison table, and that of several data sets, as an HTML fragment with its own style."""
    fragment = _templates().get_template("fragment.html")
    return fragment.render(table=tables.comparison_table(comparison), data_sets=tables.data_sets(comparison))


def test_html(comparison: Comparison) -> str:
    """The test split beside the validation images as an HTML fragment; empty where it was never opened."""
    section = test_section(comparison)
    return "" if section is None else _templates().get_template("fragment.html").render(test_split=section)


def trials_html(comparison: Comparison) -> str:
    """Which trials and MLflow runs each row of the comparison comes from, as an HTML fragment."""
    fragment = _templates().get_template("fragment.html")
    return fragment.render(trials=tables.trials(comparison), accuracy=comparison.metric.label)


def page_html(comparison: Comparison, pictures: list[Picture], caption: str) -> str:
    """The whole report as one HTML file that needs nothing from elsewhere."""
    return (
        _templates()
        .get_template("comparison.html")
        .render(
            sweep=comparison.sweep,
            head=headline(comparison),
            findings=[minus(sentence) for sentence in sentences(comparison)],
            table=tables.comparison_table(comparison) if comparison.rows else None,
            caption=caption,
            data_sets=tables.data_sets(comparison),
            data_sets_caption=minus(data_set_caption(comparison)),
            averaged_over=comparison.averaged_over,
            test_split=test_section(comparison),
            pictures=[_placed(picture, comparison) for picture in pictures],
            classes=tables.classes(comparison),
            cost=tables.cost(comparison),
            flops=flops_differences(comparison),
            settings=tables.latency_settings(comparison),
            trials=tables.trials(comparison),
            accuracy=comparison.metric.label,
            latency=latency_facts(comparison),
            recipes=_recipes(comparison),
            unfair=_unfair(comparison),
            alike=_alike(comparison),
            data=data_facts(comparison),
            many=MANY,
            few=FEW,
        )
    )


def _placed(picture: Picture, comparison: Comparison) -> PlacedPicture:
    anchors = tables.anchors(comparison)
    return PlacedPicture(
        picture,
        tuple(anchors[key] for key in dict.fromkeys(picture.rows) if key in anchors),
        tuple((name, name.rpartition(".")[2].upper()) for name in picture.files),
    )


def _recipes(comparison: Comparison) -> list[tuple[str, Facts]]:
    """The realised recipe of each comparison group."""
    recipes = []
    for group in comparison.groups:
        keys = {row.key for row in group.rows}
        facts = recipe_facts(
            [record for record in comparison.sweep.trials if variant_key(record) in keys], comparison.metric
        )
        if facts:
            recipes.append((group.title, facts))
    return recipes


def _unfair(comparison: Comparison) -> list[UnfairRow]:
    """The rows that may not be compared with their baseline, or were left out for that, and why."""
    rows = [
        UnfairRow(tables.anchor(position), row.label, "; ".join(row.notes))
        for position, row in enumerate(comparison.rows)
        if not row.is_comparable
    ]
    return rows + [UnfairRow("", label, f"left out: {why}") for label, why in comparison.left_out.items()]


def _alike(comparison: Comparison) -> str:
    """In what the rows were held against their baselines, where none differs; empty where there is none to hold."""
    if not any(group.compared for group in comparison.groups):
        return ""
    titles = compared_titles([trial for row in comparison.rows for trial in row.variant.measured])
    return f"Each row was trained as its baseline was, as far as the records tell. Compared: {joined(titles)}."


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ablate.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )


def _visible(value: object) -> object:
    """What a template shows, without marks of direction and control characters; markup of our own stays as it is."""
    return visible(value) if type(value) is str else value
