"""Which code made a result: found from imports, the same when files move, another when anything computes otherwise."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from ablate.records import code_version
from ablate.records.code_version import CHANGES_RESULTS, ENTRY, code_hash, result_code
from ablate.sources.package_walk import PACKAGE, code_digest, imported_files

# Rooms that a trial imports from whose code cannot change its numbers, but for the files that count.
CHANGES_NOTHING = {
    "errors": "messages",
    "execution": "checks before a training, and the order of trials",
    "launching": "where a trial runs",
    "log": "what is said meanwhile",
    "measuring": "what a training costs",
    "losses": "part of the signature of each trial that has one, file by file",
    "modules": "part of each trial's signature, file by file",
    "records": "writes what was measured",
    "safe_text": "messages",
    "settings": "checks what the signature holds",
    "sources": "reads sources for the signature",
    "storage": "writes files",
    "study": "which trials there are",
    "tracking": "sends what was measured",
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("ablate", cache_dir=None)


def counts(name: str) -> bool:
    return f"{name}.".startswith(tuple(f"ablate.{prefix}." for prefix in CHANGES_RESULTS))


def walk(graph: grimp.ImportGraph) -> set[str]:
    waiting, modules = [f"ablate.{ENTRY}"], set[str]()
    while waiting:
        name = waiting.pop()
        modules.add(name)
        imported = {each for each in graph.find_modules_directly_imported_by(name) if counts(each)}
        packages = {each.rpartition(".")[0] for each in imported}
        waiting += [each for each in {*imported, *filter(counts, packages)} if each not in modules]
    return modules


def test_the_files_are_those_that_an_independent_walk_finds(graph: grimp.ImportGraph) -> None:
    files = {path.relative_to(PACKAGE.parent) for path in imported_files(ENTRY, CHANGES_RESULTS)}
    expected = {Path(*name.split(".")) for name in walk(graph)}
    assert {path.parent if path.name == "__init__.py" else path.with_suffix("") for path in files} == expected


def test_what_makes_a_result_is_among_them() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in imported_files(ENTRY, CHANGES_RESULTS)}
    assert names >= {"training/trainer.py", "training/musgd.py", "grafting/surgery.py", "data/datafile.py"}
    assert names >= {"evaluation/average_precision.py", "evaluation/boxes.py", "records/predictions.py"}
    assert not [name for name in names if name.startswith(("report/", "tracking/", "launching/", "modules/"))]


def test_what_they_import_besides_is_known_to_change_no_result(graph: grimp.ImportGraph) -> None:
    imported = {each for name in walk(graph) for each in graph.find_modules_directly_imported_by(name)}
    outside = {name for name in imported if not counts(name)}
    assert {name.split(".")[1] for name in outside if "." in name} <= set(CHANGES_NOTHING)


CODE = "import ast\n\n\ndef double(x):\n    return 2 * x\n"
SAME = {
    "comments": "import ast\n\n\n# of two\ndef double(x):\n    return 2 * x  # twice\n",
    "docstrings": '"""Numbers."""\nimport ast\n\ndef double(x):\n    """Twice."""\n    return 2 * x\n',
    "imports": "from ablate.elsewhere import ast\nimport os\n\n\ndef double(x):\n    return 2 * x\n",
    "layout": "import ast\r\ndef double( x ):\r\n    return (2 *\r\n            x)\r\n",
}
OTHER = {
    "a number": "import ast\n\n\ndef double(x):\n    return 3 * x\n",
    "an order": "import ast\n\n\ndef double(x):\n    return x * 2\n",
    "a default": "import ast\n\n\ndef double(x=1):\n    return 2 * x\n",
    "a type of number": "import ast\n\n\ndef double(x):\n    return 2.0 * x\n",
    "a statement": "import ast\n\n\ndef double(x):\n    x += 1\n    return 2 * x\n",
}


@pytest.mark.parametrize(
    ("text", "same"), [(SAME[name], True) for name in SAME] + [(OTHER[name], False) for name in OTHER]
)
def test_a_file_is_what_it_computes(tmp_path: Path, text: str, same: bool) -> None:
    before, after = tmp_path / "before.py", tmp_path / "moved" / "after.py"
    after.parent.mkdir()
    before.write_text(CODE, encoding="utf-8")
    after.write_text(text, encoding="utf-8", newline="")
    digests = [code_digest(ast.parse(path.read_bytes())) for path in (before, after)]
    assert (digests[0] == digests[1]) is same


def test_the_code_is_one_number_for_every_process() -> None:
    code = "from ablate.records.code_version import code_hash; print(code_hash())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == code_hash()
    assert len(code_hash()) == 64


def test_code_known_to_give_the_same_results_is_one_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_version, "SAME_RESULTS", {"new": "first", "newer": "first"})
    assert [result_code(code) for code in ("first", "new", "newer", "another")] == [
        "first",
        "first",
        "first",
        "another",
    ]
