"""The tables of docs/speed.md, made from results/modules.jsonl, results/training.jsonl and results/musgd.jsonl.

`python benchmarks/modules.py --page` writes them between the page's two marks. Of measurements that were repeated, the
last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import common
from module_forms import FORMS, MODULES, TITLES
from musgd import HEAD, rows

PAGE = common.ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PASSES = ("forward", "forward + backward")
COMPILED = " compiled"
# Lines of before that field was kept: 395 GFLOP/s with two threads, the rate that was measured, need 512-bit products.
BEFORE = {"instructions": "AVX-512"}

Line = dict[str, Any]


def write() -> None:
    """Write the tables into the page."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), common.RESULTS), encoding="utf-8")
    print(f"{PAGE}: written")


def with_tables(page: str, results: Path) -> str:
    """Return the page with what lies between its marks made anew from a folder of results."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = generated(*(_lines(results / f"{name}.jsonl") for name in ("modules", "training", "musgd")))
    return f"{before}{BEGIN}\n\n{tables.strip()}\n\n{END}{after}"


def generated(modules: Sequence[Line], training: Sequence[Line], musgd: Sequence[Line] = ()) -> str:
    """Return all tables, or the word that there is nothing yet."""
    parts = []
    for setting, lines in _settings(modules):
        parts.append(_section(setting, lines))
    parts += [_training(setting, lines) for setting, lines in _settings(training)]
    if musgd:
        parts.append(_musgd(musgd))
    if not parts:
        parts.append("Nothing has been measured with this version yet.\n")
    parts.append(_gpu([*modules, *training]))
    return "\n".join(parts)


def _section(setting: str, lines: Sequence[Line]) -> str:
    """Return what was measured in one setting."""
    tables, sweeps = _part(lines, "table"), _part(lines, "sweep")
    largest = _part(lines, "largest")
    text = [f"## {setting}\n", _said(lines)]
    if tables:
        text += ["### Summary\n", _headline(tables, sweeps, largest)]
        for module in _modules(tables):
            of = [line for line in tables if line["module"] == module]
            text += [f"### {TITLES[module]}\n", _times(of), _memories(of)]
        if any(COMPILED in form for line in tables for form in line["ms"]):
            text += ["### Through torch.compile\n", _compiled(tables)]
    if sweeps:
        text += ["### From 4x4 to 160x160\n", _sweep(sweeps)]
    if largest:
        text += ["### The largest map in 2 GB\n", _largest(largest)]
    return "\n".join(text)


def _said(lines: Sequence[Line]) -> str:
    """Say when, with what and under which load it was measured."""
    days = sorted({line["time"][:10] for line in lines})
    versions = sorted({line["torch"] for line in lines})
    loads = [line["load"] for line in lines]
    of = {line["module"]: line["authors"] for line in lines if line["authors"]}
    commits = ", ".join(f"{TITLES[module]} `{of[module]}`" for module in MODULES if module in of)
    said = f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, torch {', '.join(versions)}"
    said += f"; load of the machine {min(loads):.1f} to {max(loads):.1f}."
    if commits:
        said += f" The authors' code: {commits}."
    return f"{said}\n"


def _headline(tables: Sequence[Line], sweeps: Sequence[Line], largest: Sequence[Line]) -> str:
    base = _against(tables)
    head = ["", *(f"{kind}: times as fast" for kind in PASSES), "peak memory, forward + backward"]
    head += ["slowest at any size", "largest map in 2 GB"]
    rows = []
    for module in _modules(tables):
        of = {kind: [line for line in tables if (line["module"], line["pass"]) == (module, kind)] for kind in PASSES}
        faster = [_median(line["faster"]["fused"]["median"] for line in of[kind]) for kind in PASSES]
        share = _median(line["mb"]["fused"] / line["mb"][line["reference"]] for line in of[PASSES[1]])
        rows.append([
            TITLES[module],
            *("" if ratio is None else f"**{ratio:.1f}x**" for ratio in faster),
            "" if share is None else f"**1/{1 / share:.1f}**",
            _slowest([line for line in sweeps if line["module"] == module]),
            _grown([line for line in largest if line["module"] == module]),
        ])  # fmt: skip
    said = f"The fused form against {base}, for the same computation; medians over the sizes below.\n\n"
    return said + _table(head, rows)


def _slowest(sweeps: Sequence[Line]) -> str:
    found = [(line["faster"]["fused"]["median"], line) for line in sweeps]
    if not found:
        return ""
    ratio, line = min(found, key=lambda pair: pair[0])
    return f"{ratio:.2f}x ({line['side']}x{line['side']}, batch {line['batch']}, {line['pass']})"


def _grown(largest: Sequence[Line]) -> str:
    if not largest:
        return ""
    side, reference = largest[0]["side"], largest[0]["reference"]
    return f"{side['fused']} px, {_name(reference)} {side[reference]} px"


def _times(lines: Sequence[Line]) -> str:
    """Milliseconds of each form, how many times as fast as the reference, and the floor."""
    reference = lines[0]["reference"]
    forms = [form for form in FORMS if any(form in line["ms"] for line in lines)]
    head = ["map", "pass", *(f"{_name(form)}, ms" for form in forms), "floor, ms", "fused / floor"]
    rows = []
    for line in lines:
        cells = [_time(line, form, reference) for form in forms]
        floor = line["floor"]["composed"]
        over = f"{line['ms']['fused'] / floor['ms']:.1f}" if "fused" in line["ms"] else ""
        rows.append([_map(line), line["pass"], *cells, f"{_short(floor['ms'])} ({floor['by']})", over])
    return _table(head, rows)


def _time(line: Line, form: str, reference: str) -> str:
    if form not in line["ms"]:
        return "failed" if form in line.get("failed", {}) else ""
    ms = _short(line["ms"][form])
    if form == reference:
        return ms
    faster = line["faster"][form]
    low, high = faster["quartiles"]
    return f"{ms} ({faster['median']:.2f}x, {low:.2f} to {high:.2f})"


def _memories(lines: Sequence[Line]) -> str:
    """Peak memory of each form, and its share of the reference's."""
    reference = lines[0]["reference"]
    forms = [form for form in FORMS if any(form in line["mb"] for line in lines)]
    rows = []
    for line in lines:
        base = line["mb"][reference]
        cells = [
            _short(line["mb"][form]) + ("" if form == reference else f" ({line['mb'][form] / base:.0%})")
            for form in forms
        ]
        rows.append([_map(line), line["pass"], *cells])
    return _table(["map", "pass", *(f"{_name(form)}, MB" for form in forms)], rows)


def _compiled(tables: Sequence[Line]) -> str:
    """Milliseconds of each form eager and compiled."""
    forms = [form for form in FORMS if any(form in line["ms"] for line in tables)]
    head = ["module", "map", "pass", *(f"{_name(form)}, ms: eager / compiled" for form in forms)]
    rows = []
    for line in tables:
        cells = []
        for form in forms:
            pair = [_short(line["ms"][name]) if name in line["ms"] else "-" for name in (form, f"{form}{COMPILED}")]
            cells.append(" / ".join(pair))
        rows.append([TITLES[line["module"]], _map(line), line["pass"], *cells])
    return _table(head, rows)


def _sweep(sweeps: Sequence[Line]) -> str:
    """How many times as fast as the reference, by size of the map."""
    sides = sorted({line["side"] for line in sweeps})
    found = {
        (line["module"], form, line["pass"], line["batch"], line["side"]): faster["median"]
        for line in sweeps
        for form, faster in line["faster"].items()
        if form != line["reference"]
    }
    keys = list(dict.fromkeys(key[:4] for key in found))
    rows = []
    for module, form, kind, batch in sorted(keys, key=lambda key: (MODULES.index(key[0]), FORMS.index(key[1]))):
        cells = [found.get((module, form, kind, batch, side)) for side in sides]
        rows.append([TITLES[module], _name(form), kind, str(batch), *("" if c is None else f"{c:.2f}" for c in cells)])
    channels = sweeps[0]["channels"]
    said = f"Times as fast as {_against(sweeps)}, {channels} channels; below 1: slower.\n\n"
    return said + _table(["module", "form", "pass", "batch", *(f"{side}x{side}" for side in sides)], rows)


def _largest(lines: Sequence[Line]) -> str:
    forms = [form for form in FORMS if any(form in line["side"] for line in lines)]
    rows = [[TITLES[line["module"]], *(str(line["side"].get(form, "")) for form in forms)] for line in lines]
    first = lines[0]
    said = (
        f"Side in pixels of a square map, batch {first['batch']}, {first['channels']} channels, forward + backward.\n\n"
    )
    return said + _table(["module", *(_name(form) for form in forms)], rows)


def _training(setting: str, lines: Sequence[Line]) -> str:
    """Steps a second of YOLO26n with each graft, beside the plain form and the network without."""
    last = {(line["module"], line["form"]): line for line in lines}
    stock = last.get(("none", "stock"))
    rows = []
    for module in ("none", *MODULES):
        for form in ("stock", "plain", "fused"):
            line = last.get((module, form))
            if line is None:
                continue
            plain = last.get((module, "plain")) if form == "fused" else None
            rows.append([
                TITLES.get(module, "YOLO26n alone"),
                "" if form == "stock" else _name(form),
                f"{line['steps_per_second']:.2f}",
                _ratio(line, stock if form != "stock" else None),
                _ratio(line, plain),
                f"{line['peak_gb']:.2f}",
                "" if plain is None else f"{line['peak_gb'] / plain['peak_gb']:.0%}",
            ])  # fmt: skip
    first = lines[0]
    steps = " or ".join(str(count) for count in sorted({line["steps"] for line in last.values()}))
    head = ["graft", "form", "steps a second", "times the network alone", "times the plain form", "peak memory, GB"]
    said = (
        f"YOLO26n with each module at its default insertion point, {steps} steps at {first['imgsz']} px, batch "
        f"{first['batch']}, each in its own process; median over all steps but the first "
        f"{first['warmup']}. Peak memory of the whole process, including libraries.\n\n"
    )
    return f"## Training: {setting}\n\n{said}" + _table([*head, "of the plain form's"], rows)


def _musgd(lines: Sequence[Line]) -> str:
    """Milliseconds of a step of the optimizer."""
    head = ["processor", "model", "threads", *HEAD.values(), "auto takes", "times as fast as Ultralytics'"]
    said = (
        "A step over all parameters, on given gradients: Ultralytics' MuSGD, and ours in each arithmetic; "
        "medians over rounds in which each makes one step.\n\n"
    )
    return f"## A step of MuSGD\n\n{said}{_table(head, rows(lines))}"


def _ratio(line: Line, base: Line | None) -> str:
    return "" if base is None else f"{line['steps_per_second'] / base['steps_per_second']:.2f}x"


def _gpu(lines: Sequence[Line]) -> str:
    """Say what has not been measured on a GPU."""
    kinds = {"table": "times and memory", "sweep": "the sweep over sizes", "largest": "the largest map"}
    kinds["training"] = "training"
    parts = {
        kind: {line["module"] for line in lines if _kind(line) == kind and line["device"] == "cuda"} for kind in kinds
    }
    missing = [
        f"{what} of {', '.join(TITLES[module] for module in MODULES if module not in parts[kind])}"
        for kind, what in kinds.items()
        if not parts[kind].issuperset(MODULES)
    ]
    if not any(parts.values()):
        said = "Nothing on this page has been measured on a GPU yet."
    elif missing:
        said = f"Not yet measured on a GPU: {'; '.join(missing)}."
    else:
        said = "All of it has also been measured on a GPU."
    return f"## On a GPU\n\n{said}\n"


def _kind(line: Line) -> str:
    return str(line.get("part", "training"))


def _settings(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Group lines by machine and precision; of repeated measurements keep the last."""
    last: dict[tuple[Any, ...], Line] = {}
    for line in lines:
        size = line.get("side") if line.get("part") != "largest" else None
        of = [line.get(name) for name in ("part", "module", "form", "batch", "channels", "pass")]
        key = (_setting(line), *of, size)
        last.pop(key, None)
        last[key] = line
    ordered = sorted(last.values(), key=lambda line: (line["device"] != "cpu", _setting(line)))
    return [(setting, list(group)) for setting, group in groupby(ordered, key=_setting)]


def _setting(line: Line) -> str:
    if line["device"] == "cpu":
        count = line["threads"]
        clock = ", processor time" if line.get("clock") == "processor" else ""
        instructions = line.get("instructions", BEFORE["instructions"])
        return f"{line['cpu']} with {instructions}, {count} thread{'s' * (count != 1)}, {line['precision']}{clock}"
    return f"{line['device_name']}, {line['precision']}"


def _part(lines: Sequence[Line], part: str) -> list[Line]:
    found = [line for line in lines if line["part"] == part]
    return sorted(
        found,
        key=lambda line: (
            MODULES.index(line["module"]),
            line["channels"],
            line["batch"],
            line["side"] if part == "sweep" else 0,
            PASSES.index(line["pass"]),
        ),
    )


def _modules(lines: Sequence[Line]) -> list[str]:
    return [module for module in MODULES if any(line["module"] == module for line in lines)]


def _against(lines: Sequence[Line]) -> str:
    references = {line["reference"] for line in lines}
    return (
        "the authors' code" if references == {"authors"} else "the plain form" if references == {"plain"} else "either"
    )


def _name(form: str) -> str:
    return "authors'" if form == "authors" else form


def _map(line: Line) -> str:
    return f"{line['batch']} x {line['channels']} x {line['side']} x {line['side']}"


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in lines)


def _lines(path: Path) -> list[Line]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
