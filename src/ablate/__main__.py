"""`python -m ablate`: the first word is a verb, or else Hydra overrides."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    from ablate import verbs
    from ablate.app import run

    if words and words[0] in verbs.VERBS:
        return verbs.VERBS[words[0]](words[1:])
    if words and not words[0].startswith("-") and "=" not in words[0] and words[0].lstrip("+~").isidentifier():
        from ablate.app import fail
        from ablate.validation import nearest

        return fail(f"'{words[0]}': no such command. {nearest(words[0], verbs.VERBS)}valid: {', '.join(verbs.VERBS)}, or overrides such as module=hmha")
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
