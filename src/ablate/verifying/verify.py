"""`python -m ablate verify`: golden cases and the conformance suite, one line a case and a module."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ablate.console import Terminal, print_line
from ablate.settings.environment import prepare


def run_verify(golden: Path | None) -> int:
    """Print how each golden case and each module did; return 0 where all passed, else 1.

    Raises:
        FileNotFoundError: There is no folder of golden cases here.
    """
    prepare()
    console = Terminal()
    if golden is not None and not _golden(golden, console):
        return 1
    return 0 if _conformance(console) else 1


def golden_cases(folder: Path) -> list[Path]:
    """Return the files of a folder's golden cases, in the order of their names.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no case.
    """
    cases = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    if not cases:
        raise FileNotFoundError(f"{folder}: no golden case (*.npz) here")
    return cases


def _golden(folder: Path, console: Console) -> bool:
    cases = golden_cases(folder)  # before torch is imported
    from ablate.verifying.golden import TOLERANCE, compare_case

    comparisons = [compare_case(path) for path in cases]
    width = max(len(comparison.case) for comparison in comparisons)
    print_line(console, f"{'case':{width}}        worst relative error")
    for comparison in comparisons:
        result = comparison.problem or f"{comparison.error:.1e} in {comparison.worst}"
        print_line(console, f"{comparison.case:{width}}  {'pass' if comparison.passed else 'FAIL'}  {result}")
    failed = sum(not comparison.passed for comparison in comparisons)
    summary = f"golden: {len(comparisons) - failed} of {len(comparisons)} cases within {TOLERANCE:g} (float32)"
    print_line(console, summary)
    return failed == 0


def _conformance(console: Console) -> bool:
    from ablate.verifying.conformance import CHECKS, registry, run_checks

    passed = True
    for name, build in registry().items():
        problems = [f"{check}: {problem}" for check, problem in run_checks(build) if problem]
        verdict = "FAIL" if problems else "pass"
        print_line(console, f"conformance: {name}: {verdict}, {len(CHECKS) - len(problems)} of {len(CHECKS)} checks")
        for problem in problems:
            print_line(console, f"    {problem}")
        passed = passed and not problems
    return passed
