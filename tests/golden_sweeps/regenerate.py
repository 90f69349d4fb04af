"""Write anew what the reports of the golden sweeps are expected to say: `python tests/golden_sweeps/regenerate.py`.

Run it after a wording was changed on purpose, and read the difference in git before committing it: a changed number is
a changed result. The records in `root/` are never written anew; README.md tells what they are.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

HERE = Path(__file__).parent
EXPECTED = HERE / "expected"
SWEEPS = ("product", "product_map50", "leave_one_out", "factorial", "faults")
DRAWN = ("product", "factorial")  # the sweeps whose figures are drawn
EXECUTED = "product"  # the one of them whose notebook is executed
PLACE = "ROOT"  # stands for the folder that a report was made in
# Of the images; intervals that were computed before are not kept here, as they hold for one place of the files only.
RESAMPLES = 200


def copy_root(folder: Path) -> Path:
    """Copy the golden records into a folder, since reports are written beside them; return the copy."""
    return Path(shutil.copytree(HERE / "root", folder / "root"))


def report(root: Path, sweep: str) -> dict[str, str]:
    """Return the texts of a sweep's report without figures and notebook, by the name of the file that keeps each."""
    directory = root / "sweeps" / sweep
    quick = ["figures=false", "notebook=false"]
    texts = {"terminal.txt": run(["report", sweep, f"root={root}", f"resamples={RESAMPLES}", *quick], root)}
    for ending in ("csv", "md", "tex"):
        texts[f"comparison.{ending}"] = (directory / f"comparison.{ending}").read_text(encoding="utf-8")
    texts["page.txt"] = visible_text((directory / "comparison.html").read_text(encoding="utf-8"))
    table = json.loads(run(["report", sweep, f"root={root}", f"resamples={RESAMPLES}", "--json"], root))
    texts["report.json"] = json.dumps(table, indent=1, ensure_ascii=False) + "\n"
    return texts


def report_with_figures(root: Path, sweep: str) -> dict[str, str]:
    """Return the texts of a report with figures, of the notebook where it is executed, and the figures' files."""
    directory = root / "sweeps" / sweep
    executed = sweep == EXECUTED
    run(["report", sweep, f"root={root}", f"resamples={RESAMPLES}", f"notebook={str(executed).lower()}"], root)
    figures = sorted(path.name for path in directory.iterdir() if path.suffix in (".png", ".svg", ".pdf"))
    assert all((directory / name).stat().st_size > 1000 for name in figures), "a figure is empty"
    texts = {
        "figures.txt": "".join(f"{name}\n" for name in figures),
        "page_with_figures.txt": visible_text((directory / "comparison.html").read_text(encoding="utf-8")),
    }
    if executed:
        notebook = json.loads((directory / "comparison.ipynb").read_text(encoding="utf-8"))
        texts["notebook.txt"] = "".join(f"{text}\n" for text in _notebook_texts(notebook))
    return texts


def run(words: Sequence[str], root: Path) -> str:
    """Run a command in this process, 120 columns wide; return its standard output."""
    from ablate.__main__ import main

    written = io.StringIO()
    width = {"COLUMNS": "120", "TERM": "dumb"}
    with redirect_stdout(written), mock.patch.dict(os.environ, width), mock.patch.object(sys, "path", [*sys.path]):
        code = main(words)
    assert code == 0, written.getvalue()
    return written.getvalue().replace(str(root), PLACE)


def visible_text(page: str) -> str:
    """Return what a reader of an HTML page sees as text, a line for each piece; no drawings."""
    reader = _TextOf()
    reader.feed(page)
    return "".join(f"{line}\n" for line in reader.lines)


class _TextOf(HTMLParser):
    HIDDEN = ("style", "script", "svg", "head")

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in self.HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self.HIDDEN

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if text and not self._hidden:
            self.lines.append(text)


def _notebook_texts(notebook: dict[str, list[dict[str, object]]]) -> Iterator[str]:
    """Yield the texts among the outputs of a notebook's cells: Markdown, else tables as text, else plain text."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):  # type: ignore[attr-defined]
            forms = output.get("data", {"text/plain": output.get("text", "")})
            if "text/markdown" in forms:
                yield "".join(forms["text/markdown"])
            elif "text/html" in forms:
                yield visible_text("".join(forms["text/html"])).rstrip("\n")
            elif "image/png" not in forms:
                yield "".join(forms["text/plain"])


NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def numbers(text: str) -> list[str]:
    """Return the numbers of a text in their order, as they are written; none that is part of a name or signature."""
    return NUMBER.findall(text)


@contextmanager
def temporary_root() -> Iterator[Path]:
    """Make a copy of the golden records for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        yield copy_root(Path(folder))


def main() -> None:
    """Write all expected texts."""
    for sweep in SWEEPS:
        kinds: list[Callable[[Path, str], dict[str, str]]] = [report]
        if sweep in DRAWN:
            kinds.append(report_with_figures)
        for kind in kinds:
            with temporary_root() as root:
                for name, text in kind(root, sweep).items():
                    path = EXPECTED / sweep / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                    print(path.relative_to(HERE))


if __name__ == "__main__":
    main()
