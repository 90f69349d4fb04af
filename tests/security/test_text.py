"""Texts of strangers in each output: they are read there, and give no orders to terminal, browser or TeX."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from tests.fixtures.comparisons import grid, make_latency, write_sweep

from ablate.analysis.comparison import Comparison, compare
from ablate.console import Terminal, print_line
from ablate.log import TERMINAL_FORMAT
from ablate.monitor.status import show_status
from ablate.records.loading import load_record, load_sweep
from ablate.records.trial_record import Failure
from ablate.report.html import page_html
from ablate.report.latex import escape, latex
from ablate.report.markdown_text import code_block, literal, table_cell
from ablate.report.notebook import execute, source_notebook
from ablate.report.terminal_table import print_table
from ablate.report.write import csv_text, description, markdown
from ablate.safe_text import one_line, visible
from ablate.tracking import mlflow_payload as payload

TEXT = "Text"
ESCAPES = ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "\x1b[2J\x1b[H", "a\rb", "\x08\x08x", "\x00", "\x7f"]
MARKS_OF_DIRECTION = ["\u202egnp.exe", "\u2066a\u2069", "\u200ezero\u200bwidth\ufeff", "\ud800", "\u2028line\u2029"]
LINES = ["two\nlines", "a\r\nb", "x\x0by\x0cz", "\x85next"]
TEX = [r"\input{/etc/passwd}", r"\write18{id}", "%comment", "$x$", "a_b^c~d&e#f{g}", "^^M\\immediate", "\n\\input{x}"]
HTML = [
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", '" onmouseover="alert(1)', "' autofocus '",
    "<img src=http://evil.example/x.png>", "<svg onload=alert(1)>", "<!--", "]]>", "&lt;b&gt;", "{{ 7 * 7 }}{% raw %}",
]  # fmt: skip
MARKDOWN = [
    "![x](http://evil.example/x.png)", "![x][y]", "[y]: http://evil.example/x.png", "[x](javascript:alert(1))", "a|b|c",
    "`code`", "```", "# heading", "> quote", "- item", "1. item", "---", "    code", "<http://evil.example>", "~~~",
    "**bold** _em_ ~~gone~~", "\\", "!\\[x](http://evil.example)", "&copy;", "| a |", "===",
]  # fmt: skip
FORMULAS = ["=cmd|' /C calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1"]
HOSTILE = [*ESCAPES, *MARKS_OF_DIRECTION, *LINES, *TEX, *HTML, *MARKDOWN, *FORMULAS]
COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in which every text that a stranger may choose is hostile; each of `HOSTILE` stands in several places."""
    made = grid(("none", "hmha"), ("sgd",), (0,)) + [
        {**record, "signature": record["signature"][:60] + f"{index:04x}", "variant_key": f"key{index}"}
        for index, record in enumerate(grid(("hmha",), ("sgd",), (0,)) * len(HOSTILE))
    ]
    for index, record in enumerate(made[2:]):
        text = HOSTILE[index]
        record |= {"variant": text, "name": f"{text} s0"}
        record["factors"] = {**record["factors"], "module": text, "insertion": text}
        record["per_class"] = [{"name": text, "map50_95": 0.1, "map50": 0.2}]
        record["data"] = {**record["data"], "name": text, "classes": [text], "warnings": [text]}
        record["realised"] = {**record["realised"], "device_name": text, "optimizer": text, "versions": {text: text}}
        if index % 3 == 0:
            record |= {"status": "failed", "failure": {"type": text, "message": text, "tail": [text]}, "metrics": {}}
    root = tmp_path_factory.mktemp("multirun")
    directory = write_sweep(root, made, name="hostile", latency=False)
    head = json.loads((directory / "sweep.json").read_text())
    everything = "".join(HOSTILE)
    components = ["\x1b[31m", "<b>", "=cmd", "a|b", "\\input{x}", "![x](http://evil.example)", "\u202egnp"]
    keys = [record["variant_key"] for record in made[-8:]]
    marks = {key: [index == number for index in range(7)] for number, key in enumerate(keys)}  # the last has none
    head["design"] = {"name": "\x1b", "components": components, "marks": marks, "reference": keys[-1]}
    head |= {"name": everything, "command": everything, "names": {r["signature"]: r["name"] for r in made}}
    (directory / "sweep.json").write_text(json.dumps(head))
    latency = make_latency(made[:2])
    latency["protocol"] |= {"device_name": everything, "backend": everything}
    latency["flags"] = HOSTILE
    (directory / "latency.json").write_text(json.dumps(latency))
    for index, trial in enumerate(sorted((root / "trials").iterdir())):
        link = {"run_id": HOSTILE[index % len(HOSTILE)], "uri": "sqlite:///mlflow.db"}
        (trial / "mlflow.json").write_text(json.dumps(link))
    return directory


@pytest.fixture(scope="module")
def comparison(sweep: Path) -> Comparison:
    return compare(load_sweep(sweep))


def is_safe(text: str) -> bool:
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") or c in "\u200c\u200d" for c in text)


@pytest.mark.security(
    TEXT, "Escape codes, control characters and marks of direction of a record do not reach the terminal."
)
@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_no_escape_code_of_a_record(
    sweep: Path, comparison: Comparison, width: int, terminal: bool
) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None, legacy_windows=False)

    print_table(comparison, console=console)
    show_status(sweep, console, every=True)

    assert is_safe(out.getvalue())
    assert "evil.example" in out.getvalue()


@pytest.mark.security(TEXT, "A log line, also with -v, and a message are one line without escape codes.")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_message_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("ablate", logging.INFO, "x", 1, "trial %s", (text,), None)
    assert is_safe(TERMINAL_FORMAT.format(record))
    assert "\n" not in TERMINAL_FORMAT.format(record)
    console = Terminal()
    print_line(console, f"failed: {text}")
    console.print(text, markup=False)
    lines = capsys.readouterr().out
    assert is_safe(lines)
    assert "\n" not in lines.splitlines()[0]


def test_letters_of_every_alphabet_stay() -> None:
    for text in ("naïve", "пробег", "扫描", "हिन्दी", "می‌خواهم", "👩‍🔬", "a  b"):
        assert visible(text) == one_line(text) == text


@given(st.text())
def test_a_visible_text_is_safe_and_what_is_safe_stays(text: str) -> None:
    assert is_safe(visible(text))
    assert is_safe(one_line(text))
    assert "\n" not in one_line(text)
    assert visible(visible(text)) == visible(text)
    if is_safe(text):
        assert visible(text) == text


def tokens(text: str) -> Iterator[Token]:
    for token in COMMONMARK.parse(text):
        yield token
        yield from token.children or ()


def is_text_only(found: list[Token], *more: str) -> bool:
    plain = {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "softbreak", *more}
    return {token.type for token in found} <= plain


@given(st.text() | st.sampled_from(HOSTILE) | st.lists(st.sampled_from(HOSTILE)).map("".join))
def test_markdown_shows_any_text_literally(text: str) -> None:
    found = list(tokens(literal(text)))

    assert is_text_only(found)
    shown = "".join(token.content for token in found if token.type in ("text", "text_special"))
    assert shown.split() == one_line(text).split()
    block = list(tokens(code_block(text)))
    assert [token.type for token in block] == ["fence"]


@pytest.mark.security(
    TEXT, "Markup, links, images and HTML of a record are text in `comparison.md` and in MLflow's descriptions."
)
def test_markdown_has_no_marks_of_a_record(comparison: Comparison) -> None:
    table = {
        f"{part}_{end}"
        for part in ("table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item", "strong", "heading")
        for end in ("open", "close")
    }
    for text in (
        markdown(comparison, figures=["samples.png"]),
        description(comparison),
        description(comparison, 10**7),
    ):
        found = list(tokens(text))
        images = [token.attrs["src"] for token in found if token.type == "image"]
        assert images == (["samples.png"] if "samples.png" in text else [])
        assert is_text_only([token for token in found if token.type != "image"], *table)
        assert is_safe(text)


@pytest.mark.security(TEXT, "The log of a failed trial cannot leave its code block in MLflow's description of the run.")
def test_a_failure_is_text_in_its_description() -> None:
    for text in HOSTILE:
        note = payload._failure_tags(Failure(type=text, message=text, tail=(text, "```", "![x](http://evil)", "~~~")))
        found = list(tokens(note[payload.NOTE]))
        assert is_text_only([token for token in found if token.type != "fence"], "strong_open", "strong_close")
        assert sum(token.type == "fence" for token in found) == 1
        assert all(is_safe(value) for value in note.values())


def test_tags_of_a_trial_cannot_be_replaced_by_its_factors(sweep: Path) -> None:
    trial = next((sweep.parents[1] / "trials").iterdir())
    content = json.loads((trial / "result.json").read_text())
    content["factors"] |= {"signature": "another", "kind": "sweep"}
    (trial / "result.json").write_text(json.dumps(content))

    tags = payload.trial_tags(load_record(trial))

    assert (tags["ablate.signature"], tags["ablate.kind"]) == (trial.name, "trial")


OURS = re.compile(
    r"\\(usepackage|begin|end|centering|footnotesize|setlength|tabcolsep|caption|label|par|smallskip|toprule|midrule|"
    r"bottomrule|cmidrule|textbf|textit|textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|pm|"
    r"times|Delta|geq|leq|to|ldots|checkmark|mathrm|dagger|scriptsize|raggedright|noindent|ref|text|[&%$#_{}\\,])"
)


@pytest.mark.security(TEXT, r"A record cannot bring a command such as `\input` or `\write18` into `comparison.tex`.")
def test_tex_has_no_command_of_a_record(comparison: Comparison) -> None:
    source = latex(comparison, "caption", "cost")

    for line in source.split("\n"):
        if line.startswith("%"):
            continue
        assert "\\" not in OURS.sub("", line), line
    assert is_safe(source)
    assert all("\\input" not in line or line.startswith("%") for line in source.splitlines())


@given(st.text() | st.lists(st.sampled_from(HOSTILE)).map("".join))
def test_tex_prints_any_text_literally(text: str) -> None:
    source = escape(text)

    assert is_safe(source)
    assert "\n" not in source
    assert "\\" not in OURS.sub("", source)
    rest = re.sub(r"\\.|\$\\?[A-Za-z-]+\$", "", source)
    assert not set("%&#_^~$") & set(rest)
    assert rest.count("{") == rest.count("}")


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.security(TEXT, "Nothing that a record says becomes a tag, an attribute or a script of the HTML report.")
def test_html_has_no_tag_of_a_record(comparison: Comparison) -> None:
    text = page_html(comparison, [], "caption")
    page = Page(text)

    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("autofocus", "srcset", "style")]
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "embed", "link", "base", "svg")]
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    links = [
        value or "" for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")
    ]
    assert all(link.startswith("#") for link in links)
    assert is_safe(text)
    assert "49" not in text.partition("{{ 7 * 7 }}")[0][-200:] or "{{ 7 * 7 }}" in text


@pytest.mark.security(TEXT, "A text that begins as a formula is no formula in `comparison.csv`, and has no line ends.")
def test_csv_has_no_formula_of_a_record(comparison: Comparison) -> None:
    text = csv_text(comparison)
    head, *rows = csv.reader(io.StringIO(text))

    assert len(rows) == len(comparison.rows) == text.count("\n") - 1
    for row in rows:
        for name, cell in zip(head, row, strict=True):
            assert not cell.startswith(("=", "@", "\t", "\r", "\uff1d")), name
            assert not cell.startswith(("+", "-")) or re.fullmatch(r"[+-][\d.e-]+", cell), name
    assert is_safe(text)


@pytest.mark.security(TEXT, "`report --json` and `status --json` are ASCII: a terminal that shows them obeys nothing.")
def test_json_is_ascii(sweep: Path, ablate_here: Callable[..., Any]) -> None:
    for verb in ("report", "status"):
        done = ablate_here(verb, str(sweep), "--json", *(["resamples=0"] if verb == "report" else []))
        assert done.returncode in (0, 1), done.stderr
        assert done.stdout.isascii()
        assert is_safe(done.stdout)
        assert json.loads(done.stdout)


def test_a_cell_of_a_table_is_one_cell() -> None:
    for text in HOSTILE:
        found = COMMONMARK.parse(f"| a | b |\n|---|---|\n| {table_cell(text)} | x |\n")
        assert sum(token.type == "td_open" for token in found) == 2


@pytest.mark.security(
    "Report", "Nothing that a record says becomes code, a link, an image or HTML in the executed notebook."
)
def test_the_notebook_shows_what_a_record_says(sweep: Path, tmp_path: Path) -> None:
    notebook = json.loads(execute(sweep, tmp_path / "comparison.ipynb").read_text(encoding="utf-8"))
    source = json.loads(source_notebook().read_text(encoding="utf-8"))

    code = [
        cell["source"] for cell in notebook["cells"] if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    assert ["".join(lines) for lines in code] == ["".join(cell["source"]) for cell in source["cells"]]
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    shown = [(kind, "".join(text)) for output in outputs for kind, text in output.get("data", {}).items()]
    assert {"text/markdown", "text/html"} <= {kind for kind, _ in shown}
    for kind, text in shown:
        assert kind == "image/png" or is_safe(text)
        if kind == "text/markdown":
            assert not {token.type for token in tokens(text)} & {
                "image",
                "html_inline",
                "html_block",
                "link_open",
                "fence",
            }
        if kind == "text/html":
            page = Page(text)
            assert not [tag for tag, _ in page.tags if tag in ("script", "img", "iframe", "svg", "object", "b")]
            assert not [name for _, found in page.tags for name in found if name.startswith("on")]
