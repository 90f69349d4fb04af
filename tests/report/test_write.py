"""The report: five formats that say the same numbers, and never a stack trace."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from ablate.analysis.columns import in_files
from ablate.analysis.comparison import compare
from ablate.analysis.table import comparison_frame
from ablate.cli.report_command import make_report, report_options
from ablate.findings.all_findings import sentences
from ablate.records.loading import Sweep, load_sweep
from ablate.report.latex import escape
from ablate.report.notebook import NotebookError, execute, source_notebook
from ablate.report.write import DESCRIPTION_LIMIT, Report, description, write_report
from ablate.settings.metric import MAP50_95
from ablate.statistics.interval import Interval

Make = Callable[..., dict[str, Any]]
Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]


NAMES = [column.name for column in in_files(MAP50_95)]


class Page(HTMLParser):
    """Texts, links and nesting of a page."""

    void = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [found or "" for name, found in attrs if name in ("src", "href")]
        self.places |= {found for name, found in attrs if name == "id" and found}
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])\d+\.\d{2,4}(?![\w.])", text))


def test_all_formats_say_the_numbers_of_the_table(records: Grid, write: Write) -> None:
    report = write_report(load_sweep(write(records())), figures=(), notebook=False)
    csv = pd.read_csv(report.files["comparison.csv"], dtype=str, keep_default_na=False)
    assert list(csv.columns) == NAMES
    expected = {cell.lstrip("-") for name in NAMES[7:24] for cell in csv[name] if cell}
    texts = {kind: report.files[f"comparison.{kind}"].read_text() for kind in ("md", "tex", "html")}
    texts["html"] = " ".join(Page(texts["html"]).words)
    for kind, text in texts.items():
        assert expected <= numbers(text), kind


def test_the_csv_reads_back_as_the_table_rounded(records: Grid, write: Write) -> None:
    report = write_report(load_sweep(write(records())), figures=(), notebook=False)
    back = pd.read_csv(report.files["comparison.csv"])
    for name in ("map50_95", "delta_map50_95", "p_value"):
        assert back[name].tolist() == pytest.approx(
            comparison_frame(report.comparison)[name].tolist(), abs=5.1e-5, nan_ok=True
        )


def test_the_page_is_one_well_formed_file_without_outside_resources(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    report = write_report(load_sweep(write(made, samples=True)), figures=("png",), notebook=False)
    page = Page(report.files["comparison.html"].read_text())
    assert page.open == []
    embedded = [link for link in page.links if link.startswith("data:image/")]
    beside = {link for link in page.links if link in report.files}
    within = [link[1:] for link in page.links if link.startswith("#")]
    assert len(embedded) + len(within) + sum(link in beside for link in page.links) == len(page.links)
    assert len(embedded) == len({Path(name).stem for name in beside})
    assert set(within) <= page.places
    assert report.problems == []


def test_every_row_leads_to_signatures_and_runs_in_every_format(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    sweep = load_sweep(write(made))
    report = write_report(sweep, figures=(), notebook=False)
    for kind in ("csv", "md", "tex", "html"):
        text = report.files[f"comparison.{kind}"].read_text()
        assert all(found["signature"][:12] in text for found in made), kind
        assert all(run in text for run in sweep.run_ids.values()), kind


def test_the_page_and_markdown_say_why_ultralytics_counts_other_flops(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    for found in made:
        found["cost"] |= {"gflops": 5.48, "gflops_ultralytics": 6.24, "params": 2_408_932, "params_train": 2_572_280}
    report = write_report(load_sweep(write(made)), figures=(), notebook=False)
    for kind in ("md", "html"):
        text = report.files[f"comparison.{kind}"].read_text().replace("&#39;", "'")
        assert text.count("5.48 GFLOPs as deployed, 6.24 by Ultralytics' own counter: it counts the network as it") == 2
        assert "leaves out" not in text


def test_every_format_explains_the_interval_over_images_once(records: Grid, write: Write) -> None:
    sweep = load_sweep(write(records(("none", "hmha"), ("sgd",))))
    (group,) = compare(sweep).groups
    row = group.rows[1]
    assert row.difference is not None
    for known in (True, False):
        difference = replace(row.difference, over_images=Interval(0.02, 0.001, 0.05) if known else None)
        rows = (group.rows[0], replace(row, difference=difference))
        comparison = replace(compare(sweep), groups=(replace(group, rows=rows),))
        report = write_report(sweep, figures=(), notebook=False, comparison=comparison)
        for kind in ("md", "tex", "html"):
            text = report.files[f"comparison.{kind}"].read_text()
            assert text.count("the CI over images") == known, kind
            assert "the CI over both" not in text, "which is not there"


def test_a_figure_of_an_earlier_report_does_not_outlive_its_data(records: Grid, write: Write) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)))
    assert "accuracy_latency.png" in write_report(load_sweep(directory), figures=("png",), notebook=False).files
    (directory / "latency.json").unlink()
    report = write_report(load_sweep(directory), figures=("png",), notebook=False)
    assert "accuracy_latency.png" not in report.files
    assert not (directory / "accuracy_latency.png").exists()


def test_a_report_can_be_written_elsewhere(records: Grid, write: Write, tmp_path: Path) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)))
    before = sorted(path.name for path in directory.iterdir())
    report = write_report(load_sweep(directory), tmp_path / "a" / "b", figures=("svg",), notebook=False)
    assert all(path.parent == tmp_path / "a" / "b" and path.is_file() for path in report.files.values())
    assert sorted(path.name for path in directory.iterdir()) == before


def test_hostile_names_do_no_harm(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for found in made[2:]:
        found["variant"] = "<script>alert(1)</script> 50% a_b & $x$ | \\ ~ ^ # {y}"
    report = write_report(load_sweep(write(made)), figures=("svg",), notebook=False)
    assert "<script>alert" not in report.files["comparison.html"].read_text()
    assert Page(report.files["comparison.html"].read_text()).open == []
    row = next(
        line for line in report.files["comparison.md"].read_text().splitlines() if "alert" in line and "|" in line
    )
    assert row.replace("\\|", "").count("|") == row.replace("\\|", "").strip().count("|")
    assert r"50\% a\_b \& \$x\$ \textbar{} \textbackslash{}" in report.files["comparison.tex"].read_text()


def test_latex_has_as_many_cells_as_columns(records: Grid, write: Write) -> None:
    text = write_report(load_sweep(write(records())), figures=(), notebook=False).files["comparison.tex"].read_text()
    for tabular in re.findall(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in tabular[1].splitlines() if line.rstrip().endswith(r"\\")]
        assert len(rows) == 11
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(tabular[0])}
    assert text.count(r"\textbf{") == 4
    assert "$-0." in text
    assert text.count("{") == text.count("}")


def test_latex_specials_are_escaped() -> None:
    assert escape("a_b%") == r"a\_b\%"
    assert escape("\\{") == r"\textbackslash{}\{"


def compiled(folder: Path) -> subprocess.CompletedProcess[str]:
    """A paper with the comparison, made by whatever LaTeX is installed; skips where there is none."""
    packages = "amsmath,amssymb,booktabs"
    document = (
        rf"\documentclass{{article}}\usepackage{{{packages}}}\begin{{document}}\input{{comparison}}\end{{document}}"
    )
    (folder / "main.tex").write_text(document)
    if shutil.which("pdflatex"):
        if subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode:
            pytest.skip("LaTeX's booktabs is not installed")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    elif shutil.which("tectonic"):
        command = ["tectonic", "--only-cached", "main.tex"]
    else:
        pytest.skip("neither pdflatex nor tectonic is installed")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_latex_compiles_whatever_variants_are_called(records: Grid, write: Write, tmp_path: Path) -> None:
    made = records()
    for found in made[3:6]:
        found["variant"] = "50% a_b & $x$ | \\ ~ ^ # {y} [z] <é> 中文 \u2212\u2265 😀"
    write_report(load_sweep(write(made)), tmp_path, figures=(), notebook=False)
    done = compiled(tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]


def test_latex_of_a_study_of_components_compiles(study: Make, write: Write, tmp_path: Path) -> None:
    made, design = study("factorial")
    write_report(load_sweep(write(made, design=design)), tmp_path, figures=(), notebook=False)
    done = compiled(tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]


def test_latex_stars_what_is_supported_and_sets_controls_apart(
    records: Grid, write: Write, multirun: Path, tmp_path: Path
) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    directory = write(made)
    head = json.loads((directory / "sweep.json").read_text())
    control = {"kind": "params", "comparison_key": made[0]["comparison_key"], "of": "hmha@c3k2"}
    head["controls"] = {made[-1]["variant_key"]: control}
    (directory / "sweep.json").write_text(json.dumps(head))
    report = write_report(load_sweep(directory), tmp_path, figures=(), notebook=False)
    first = report.files["comparison.tex"].read_text().partition(r"\end{table}")[0]
    (row,) = [row for row in report.comparison.rows if row.module == "hmha"]
    assert row.difference is not None
    assert row.supported
    assert f"$+{row.difference.estimate:.4f}^{{*}}$" in first
    assert first.index(r"\cmidrule") < first.index(r"\textit{")
    assert first.count("^{*}$ &") == 1


def test_one_seed_is_said_in_words(records: Grid, write: Write) -> None:
    sweep = load_sweep(write(records(("none", "hmha"), ("sgd",), (0,))))
    text = " ".join(sentences(compare(sweep)))
    assert "There is one seed, so there is no CI over seeds" in text
    assert "supported" not in text


def test_words_claim_only_what_the_corrected_test_supports(records: Grid, write: Write) -> None:
    sweep = load_sweep(write(records()))
    comparison = compare(sweep)
    text = " ".join(sentences(comparison))
    claimed = re.findall(r"mAP50-95 is significantly higher for (\S+ \S+) \(", text)
    assert claimed == [row.label for row in comparison.rows if row.supported and (row.estimate or 0) > 0]
    assert claimed


def test_words_claim_nothing_for_rows_that_may_not_be_compared(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",))
    for found in made[3:]:
        found["realised"]["epochs"] = 80
    sweep = load_sweep(write(made))
    text = " ".join(sentences(compare(sweep)))
    assert "supported" not in text
    assert "Training differed from that of the baseline for hmha@c3k2 sgd" in text


def test_the_description_for_mlflow_is_short_enough(records: Grid, write: Write) -> None:
    made = records()
    for index, found in enumerate(made):
        found["variant_key"] = f"{index:016d}"
    sweep = load_sweep(write(made))
    text = description(compare(sweep))
    assert "| Variant |" in text
    assert len(text) <= DESCRIPTION_LIMIT
    assert len(description(compare(sweep), 3000)) <= 3000


def damage(kind: str, directory: Path, made: list[dict[str, Any]], multirun: Path) -> None:
    results = [multirun / "trials" / found["signature"] / "result.json" for found in made]
    if kind == "no latency":
        (directory / "latency.json").unlink()
    elif kind == "strange latency":
        (directory / "latency.json").write_text('{"variants": [null, {"variant_key": 3}], "protocol": "none"}')
    elif kind == "truncated":
        results[0].write_text(results[0].read_text()[:1500])
    elif kind == "all truncated":
        for path in results:
            path.write_text("{")
    elif kind == "no results":
        for path in results:
            path.unlink()
    elif kind == "wrong types":
        for path in results:
            found = json.loads(path.read_text())
            found |= dict.fromkeys(("metrics", "cost", "realised", "history", "samples", "data", "config"), "x")
            path.write_text(json.dumps(found))
    elif kind == "odd histories":
        for path in results:
            found = json.loads(path.read_text())
            found["history"] = [None, {"epoch": "x"}, {"epoch": 0, "map50_95": 1}, {"epoch": 2, "map50_95": math.nan}]
            found["samples"] = [None, {"image": 3}, {"image": "../nothing.jpg", "truth": [[1]]}]
            path.write_text(json.dumps(found))
    elif kind == "no seeds":
        for path in results:
            path.write_text(json.dumps({**json.loads(path.read_text()), "seed": None}))


@pytest.mark.parametrize(
    "kind",
    [
        "no latency", "strange latency", "truncated", "all truncated", "no results", "wrong types", "odd histories",
        "no seeds",
    ],
)  # fmt: skip
def test_damage_costs_numbers_but_never_the_report(records: Grid, write: Write, multirun: Path, kind: str) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    directory = write(made)
    damage(kind, directory, made, multirun)
    report = write_report(load_sweep(directory), figures=("svg",), notebook=False)
    assert report.problems == []
    assert report.findings
    for kind_of_file in ("csv", "md", "tex", "html"):
        text = report.files[f"comparison.{kind_of_file}"].read_text()
        assert text
        assert not re.search(r"\bnan\b|\bNaN\b|\bNone\b|\binf\b", text), kind_of_file


@pytest.mark.parametrize("modules", [("hmha", "acmix"), ("none",)])
def test_half_a_comparison_is_still_reported(records: Grid, write: Write, modules: tuple[str, ...]) -> None:
    report = write_report(load_sweep(write(records(modules, ("sgd",), (0, 1)))), figures=("svg",), notebook=False)
    assert all(row.difference is None for row in report.comparison.rows)
    assert report.problems == []


@pytest.mark.parametrize(("words", "strict"), [([], True), (["strict=false"], False)])
def test_a_report_is_as_strict_as_its_sweep_and_is_not_taken_for_the_sweep_s_own(
    records: Grid, write: Write, monkeypatch: pytest.MonkeyPatch, words: list[str], strict: bool
) -> None:
    directory = write(records(("none", "hmha"), ("sgd",)))
    head = json.loads((directory / "sweep.json").read_text())
    (directory / "sweep.json").write_text(json.dumps({**head, "strict": True}))
    (directory / ".reported").write_text("what the sweep's own report was made from")
    asked = []

    def written(sweep: Sweep, **how: Any) -> Report:
        asked.append(how["strict"])
        return Report(how["comparison"], [], directory)

    monkeypatch.setattr("ablate.report.write.write_report", written)
    make_report(directory, report_options([*words, "resamples=0"]), Console(stderr=True))

    assert asked == [strict]
    assert not (directory / ".reported").exists()


def test_a_sweep_of_failures_is_reported(records: Grid, as_failed: Make, write: Write) -> None:
    made = [as_failed(found, "killed") for found in records(("none", "hmha"), ("sgd",), (0,))]
    report = write_report(load_sweep(write(made)), figures=("svg",), notebook=False)
    assert "failed: killed" in report.files["comparison.html"].read_text()
    assert report.problems == []


def test_figures_are_files_of_each_kind_and_the_notebook_runs_in_this_interpreter_whatever_kernels_there_are(
    records: Grid, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = tmp_path / "jupyter" / "kernels" / "python3"
    stray.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "stray", "language": "python"}
    (stray / "kernel.json").write_text(json.dumps(spec))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    sweep = load_sweep(write(records(("none", "hmha"), ("sgd",), (0, 1)), samples=True))
    report = write_report(sweep)
    assert report.problems == []
    for name in ("accuracy_latency", "training_curves", "samples"):
        assert report.files[f"{name}.pdf"].read_bytes().startswith(b"%PDF")
        assert report.files[f"{name}.png"].read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in report.files[f"{name}.svg"].read_bytes()[:1000]
    notebook = json.loads(report.files["comparison.ipynb"].read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] in ("error", "stream")]
    text = json.dumps(outputs)
    assert f"+{report.comparison.rows[1].estimate:.4f}" in text
    assert all(trial.signature[:12] in text for trial in sweep.trials)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == len(list(report.directory.glob("*.pdf")))
    assert notebook["metadata"]["papermill"]["parameters"] == {"sweep_dir": "."}
    assert str(tmp_path) not in report.files["comparison.ipynb"].read_text()
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_notebook_that_fails_is_a_problem_in_one_line(records: Grid, write: Write, tmp_path: Path) -> None:
    notebook = json.loads(source_notebook().read_text())
    notebook["cells"].append(
        {"cell_type": "code", "id": "x", "metadata": {}, "source": "1 / 0", "outputs": [], "execution_count": None}
    )
    broken = tmp_path / "broken.ipynb"
    broken.write_text(json.dumps(notebook))
    directory = write(records(("none",), ("sgd",), (0,)))
    with pytest.raises(NotebookError, match="ZeroDivisionError: division by zero") as raised:
        execute(directory, tmp_path / "out.ipynb", source=broken)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_kernel_that_cannot_be_started_costs_the_notebook_alone(
    records: Grid, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("ablate.report.notebook.execute", no_process)
    report = write_report(load_sweep(write(records())), figures=())
    assert report.problems == ["the notebook: its kernel: Cannot allocate memory"]
    assert "comparison.md" in report.files


def test_the_source_notebook_has_parameters_and_no_outputs() -> None:
    notebook = json.loads(source_notebook().read_text())
    tagged = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_a_report_imports_neither_torch_nor_mlflow(records: Grid, write: Write) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)))
    code = (
        "import sys; from pathlib import Path; from ablate.report.write import write_report; "
        "from ablate.report.terminal_table import print_table; "
        "from ablate.records.loading import load_sweep; s = load_sweep(Path(sys.argv[1])); "
        "r = write_report(s, figures=('svg',), notebook=False); print_table(r.comparison); "
        "sys.exit(str([m for m in ('torch', 'ultralytics', 'mlflow', 'ablate.study.trial') if m in sys.modules] or ''))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(directory)], env=environment, capture_output=True, text=True)
    assert done.stderr.strip() == ""
