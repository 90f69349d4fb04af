"""`python -m ablate verify`: golden cases and the conformance suite, one line a case and a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ablate.console import Terminal, print_line
from ablate.launching.jobs import Observer, Outcome
from ablate.launching.local import run_in_worker
from ablate.settings.environment import prepare
from ablate.settings.graft import ModuleSpec
from ablate.verifying.examination import Examination, Finding
from ablate.verifying.registry import registry


def run_verify(golden: Path | None, names: Sequence[str] = ()) -> int:
    """Print how each golden case and each module did; return 0 where all passed, else 1.

    Args:
        golden: Folder of golden cases, or None.
        names: Modules to check; none: all of `conf/module/`. Of the others no file is imported.

    Raises:
        ConfigError: There is no module of a name, or its file is not what a module needs.
        FileNotFoundError: There is no folder of golden cases here.
    """
    subjects = registry(names)
    prepare()
    console = Terminal()
    if golden is not None and not _golden(golden, console):
        return 1
    return 0 if _conformance(console, subjects) else 1


def golden_cases(folder: Path) -> list[Path]:
    """Return the files of the golden cases in a folder and its subfolders, in the order of their paths.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no case.
    """
    cases = sorted(folder.rglob("*.npz")) if folder.is_dir() else []
    if not cases:
        raise FileNotFoundError(f"{folder}: no golden case (*.npz) here")
    return cases


def _golden(folder: Path, console: Console) -> bool:
    cases = golden_cases(folder)  # before torch is imported
    from ablate.verifying.golden import TOLERANCE
    from ablate.verifying.golden_catalogue import compare_any_case

    comparisons = [compare_any_case(path) for path in cases]
    width = max(len(comparison.case) for comparison in comparisons)
    print_line(console, f"{'case':{width}}        worst relative error")
    for comparison in comparisons:
        result = comparison.problem or f"{comparison.error:.1e} in {comparison.worst}"
        print_line(console, f"{comparison.case:{width}}  {'pass' if comparison.passed else 'FAIL'}  {result}")
    failed = sum(not comparison.passed for comparison in comparisons)
    summary = f"golden: {len(comparisons) - failed} of {len(comparisons)} cases within {TOLERANCE:g} (float32)"
    print_line(console, summary)
    return failed == 0


def _conformance(console: Terminal, subjects: Mapping[str, ModuleSpec]) -> bool:
    """Check modules in a worker process, where their code may do anything; print a line each, and what was found."""
    titles = list(subjects)
    passed = True

    def end(index: int, outcome: Outcome) -> None:
        nonlocal passed
        result = outcome.result if isinstance(outcome.result, Examination) else None
        if result is None:
            result = Examination(0, (Finding("process", "error", outcome.message),))
        failed = len({finding.check for finding in result.errors})
        notes = f", {len(result.notes)} note{'s' * (len(result.notes) > 1)}" if result.notes else ""
        counted = (
            f"{result.checks - failed} of {result.checks} checks{notes}" if result.checks else "it cannot be checked"
        )
        print_line(console, f"conformance: {titles[index]}: {'FAIL' if failed else 'pass'}, {counted}")
        for finding in (*result.errors, *result.notes):
            print_line(console, f"    {finding.grade}: {finding.check}: {finding.text}")
        passed = passed and not failed

    run_in_worker("ablate.verifying.conformance:examine", list(subjects.values()), Observer(end=end))
    return passed
