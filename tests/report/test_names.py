"""Names of classes and variants are shown literally, whatever they are, and never merge what is different."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablate.analysis.class_accuracy import class_accuracy, class_differences
from ablate.analysis.comparison import Comparison, compare
from ablate.findings.facts import data_facts
from ablate.records.loading import load_sweep
from ablate.report.figure_list import write_figures
from ablate.report.figures.classes import class_heat_map
from ablate.report.figures.lettering import in_legend, written
from ablate.report.figures.samples import sample_detections
from ablate.report.figures.style import encode, texts_of
from ablate.report.html import page_html
from ablate.report.html_tables import classes as class_tables
from ablate.report.latex import escape
from ablate.report.markdown_text import literal
from ablate.report.terminal_table import print_table
from ablate.report.text_table import TableColumn, markdown_table

Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]

ODD = [
    ".", "", "same", "same", "$1 {front", "$5_{$", "100 %_& # <b>x</b> [red]", "_hidden", "x" * 10_000, "a\nb", "人",
    "🦄", "\u202eright to left", ":100:",
]  # fmt: skip


def odd_records(records: Grid) -> list[dict[str, Any]]:
    """A baseline and a variant whose classes have odd names, and differ by (index + 1) points."""
    made = records(("none", "hmha"), ("sgd",), (0,))
    for record, gain in zip(made, (0.0, 0.01), strict=True):
        record["data"]["classes"] = ODD
        record["per_class"] = [
            {"name": name, "map50_95": 0.3 + gain * (index + 1), "instances": index + 1}
            for index, name in enumerate(ODD)
        ]
    return made


def read(path: Path) -> Comparison:
    return compare(load_sweep(path))


@pytest.fixture
def odd(records: Grid, write: Write) -> Comparison:
    return read(write(odd_records(records), samples=True))


def test_classes_of_one_name_stay_apart(odd: Comparison) -> None:
    rows = odd.groups[0].rows
    (differences,) = class_differences(class_accuracy(rows), rows).to_dict().values()
    assert {name.index: round(gain, 6) for name, gain in differences.items()} == {
        index: round(0.01 * (index + 1), 6) for index in range(len(ODD))
    }
    (group,) = class_tables(odd)
    assert len({row.name for row in group.rows}) == len(ODD)


def test_a_class_that_moved_in_the_data_file_is_not_compared(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    for record, names in zip(made, (["a", "b"], ["b", "a"]), strict=True):
        record["per_class"] = [{"name": name, "map50_95": 0.5} for name in names]
    (group,) = read(write(made)).groups
    assert class_differences(class_accuracy(group.rows), group.rows).empty


def test_every_figure_is_drawn_without_a_warning(odd: Comparison, tmp_path: Path) -> None:
    """Warnings are errors here: of mathematics, of glyphs, of entries of a legend."""
    pictures, _, problems = write_figures(odd, tmp_path, ("svg",))
    assert problems == []
    assert {"per_class", "samples", "differences"} <= {picture.name for picture in pictures}


def test_a_heat_map_writes_a_name_literally_and_briefly(odd: Comparison) -> None:
    drawing = class_heat_map(odd.groups[0])
    assert drawing is not None
    texts = {text.get_text() for text in texts_of(drawing.figure)}
    assert {". (1)", "class 1 (2)", "same #2 (3)", "same #3 (4)", "$1 {front (5)", "$5_{$ (6)", "10: □ (11)"} <= texts
    assert max(len(line) for text in texts for line in text.splitlines()) < 60


def test_a_legend_has_the_classes_that_begin_with_an_underscore(records: Grid, write: Write) -> None:
    made = records(("none",), ("sgd",), (0,))
    made[0]["data"]["classes"] = ["_a", "$_b$", "人", "d" * 99]
    comparison = read(write(made, samples=True))
    drawing = sample_detections(comparison.sweep, comparison.groups[0])
    assert drawing is not None
    entries = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert [entry.strip() for entry in entries[3:]] == ["_a", "$_b$", "2: □", "d" * 19 + "…"]


def test_a_variant_may_be_called_anything(records: Grid, write: Write, tmp_path: Path) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd", "musgd"), (0, 1))
    odd = {"none": "none", "hmha": "_$h_{", "acmix": "[red]人|`*_~\\"}
    for record in made:
        record["factors"] = {**record["factors"], "module": odd[record["factors"]["module"]], "data": "$人_{"}
        record["variant"] = f"{record['factors']['module']}@:100: {record['factors']['optimizer']}"
    directory = write(made, latency=False)
    entries = [{"variant_key": record["variant_key"], "latency_ms": 1.0 + n} for n, record in enumerate(made)]
    (directory / "latency.json").write_text(json.dumps({"protocol": {}, "variants": entries}))
    comparison = read(directory)
    _, files, problems = write_figures(comparison, tmp_path, ("svg",))
    assert "accuracy_latency.svg" in files
    assert problems == []
    stream = io.StringIO()
    print_table(comparison, console=Console(file=stream, width=200, emoji=False))
    assert "[red]人|`*_~\\@:100: sgd" in stream.getvalue()


def test_a_page_holds_names_as_text(odd: Comparison) -> None:
    page = page_html(odd, [], "")
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt; [red]" in page
    assert "x" * 100 not in page
    assert "\u202e" not in page
    assert data_facts(odd)[0]["classes"].startswith(f"{len(ODD)}: ., class 1, same #2, same #3, $1 {{front")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("neck_p3", "neck_p3"),
        ("_a_ b_c", "\\_a\\_ b_c"),
        ("a|b `c` *d* ~~e~~", "a\\|b \\`c\\` \\*d\\* \\~\\~e\\~\\~"),
        ("$x$ <b> &lt; \\", "\\$x\\$ &lt;b> \\&lt; \\\\"),
        ("[red](http://x)", "[red\\](http://x)"),
        ("[0.1, 0.2]", "[0.1, 0.2]"),
        ("a\r\nb", "a b"),
    ],
)
def test_markdown_shows_a_name_literally(name: str, expected: str) -> None:
    row = markdown_table([TableColumn("variant", "Variant", "text", (name,))]).splitlines()[-1]
    assert row == f"| {expected} |"
    assert literal(name) == expected.replace("\\|", "|")


def test_latex_takes_no_name_for_an_argument() -> None:
    assert escape("[red] a*b--c") == "{[}red{]} a{*}b-{}-c"
    assert escape("a\rb\u2028c") == "a{[}U+000D{]}b{[}U+2028{]}c"
    assert escape("–") == "--"  # noqa: RUF001


def test_only_letters_without_a_glyph_are_replaced() -> None:
    assert written("größe Ж ✓ א") == "größe Ж ✓ א"
    assert written("人🦄a\u0900\nb") == "□□a\nb"
    assert in_legend("_a") == " _a"
    assert re.fullmatch("a", in_legend("a"))


def test_an_svg_has_no_letters_that_xml_forbids(odd: Comparison) -> None:
    from xml.etree import ElementTree

    drawing = class_heat_map(odd.groups[0])
    assert drawing is not None
    ElementTree.fromstring(encode(drawing.figure, "svg").decode())
