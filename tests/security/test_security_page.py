"""The page on security says what the security tests show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "security_page.py"


def test_the_page_is_what_the_tests_say() -> None:
    code = f"import runpy; made = runpy.run_path({str(SCRIPT)!r}); print(made['page'](), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (SCRIPT.parents[2] / "docs" / "security.md").read_text(encoding="utf-8") == done.stdout
