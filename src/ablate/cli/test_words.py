"""The words of `python -m ablate test`."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.cli.checkpoint_words import NAMES, checkpoint_words
from ablate.errors import ConfigError, nearest
from ablate.execution.open_test_split import TestOptions

AGAIN = "again"
VALID = ("root", AGAIN, *NAMES)


def test_options(words: Sequence[str]) -> TestOptions:
    """Read words such as again=true.

    Raises:
        ConfigError: There is no such word, or not this value of it.
    """
    read, again = checkpoint_words(words), False
    for word in read.others:
        key, sign, text = word.partition("=")
        if not sign or key != AGAIN:
            raise ConfigError(f"{word}: test has no such option. {nearest(key, VALID)}valid: {', '.join(VALID)}")
        if text not in ("true", "false"):
            raise ConfigError(f"{word}: {key} is true or false")
        again = text == "true"
    return TestOptions(again=again, device=None if read.device == "auto" else read.device, trust=read.trust)
