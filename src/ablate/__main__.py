"""`python -m ablate`: the first word is a verb, or else Hydra overrides."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a user's own modules, with the console script as with python -m
    from ablate.help import asks_for_help, help_text

    if asks_for_help(words):
        print(help_text())  # noqa: T201
        return 0
    from ablate.app import fail, run
    from ablate.guessing import nearest
    from ablate.verbs import VERBS

    first = words[0] if words else ""
    if first in VERBS:
        return VERBS[first](words[1:])
    if first.isidentifier():
        guess = nearest(first, VERBS)
        return fail(f"'{first}': no such command. {guess}valid: {', '.join(VERBS)}, or overrides such as module=hmha")
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
