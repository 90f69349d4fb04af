"""The words of `python -m ablate test`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ablate.errors import ConfigError, nearest
from ablate.execution.open_test_split import TestOptions
from ablate.settings.validation import check_device

VALID = ("root", "again", "device", "trust_weights")


def test_options(words: Sequence[str]) -> TestOptions:
    """Read words such as again=true.

    Raises:
        ConfigError: There is no such word, or not this value of it.
    """
    options = TestOptions()
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or key not in VALID:
            raise ConfigError(f"{word}: test has no such option. {nearest(key, VALID)}valid: {', '.join(VALID)}")
        if key == "device":
            check_device(text)
            options = replace(options, device=None if text == "auto" else text)
        elif text not in ("true", "false"):
            raise ConfigError(f"{word}: {key} is true or false")
        elif key == "again":
            options = replace(options, again=text == "true")
        else:
            options = replace(options, trust=text == "true")
    return options
