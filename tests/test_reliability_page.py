"""The page on faults says what the fault tests show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "faults" / "reliability.py"


def test_the_page_is_what_the_tests_say() -> None:
    code = f"import runpy; made = runpy.run_path({str(SCRIPT)!r}); print(made['page'](), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (SCRIPT.parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8") == done.stdout
    assert done.stdout.count("| `test_") >= 20
