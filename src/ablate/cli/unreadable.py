"""Words that Hydra's grammar does not take: what is wrong, and how they are written."""

from __future__ import annotations

import re
import shlex

from ablate.safe_text import escaped
from ablate.settings.option_files import GROUPS

FORMS = "key=value, key=a,b -m, key=range(0,3) -m, key=[a,b]"
VERBS = ("plan", "status", "report", "latency", "test", "verify", "catalogue", "import", "ui")
_SHOWN = 300  # characters of a word that a message repeats
_KEY = r"(?:\+{0,2}|~)[A-Za-z_$][\w.$/@:-]*"


def explain_unreadable(word: str, error: Exception) -> str:
    """Return one line about a word that cannot be read, from Hydra's error about it."""
    key, sign, value = word.partition("=")
    if word in VERBS:
        return f"'{word}': a command stands first: python -m ablate {word} ..."
    if not sign:
        return f"'{word}' is no override; the forms are {FORMS}; no space may stand beside ="
    if not key.strip():
        return f"'{word}': no key stands before =; the forms are {FORMS}"
    if not re.fullmatch(_KEY, key, re.ASCII):
        return f"{word}: it cannot be read: '{key}' is no key; the forms are {FORMS}"
    word = escaped(word, _SHOWN)
    reason = _reason(value, str(error))
    called = "while evaluating" in str(error) and "Unknown function" not in str(error)
    form = "" if key in GROUPS or value.startswith("=") or called else quoted(key, value)
    return (
        f"{word}: it cannot be read: {reason}{f'; one text with special characters is written {form}' if form else ''}"
    )


def quoted(key: str, value: str) -> str:
    """Return a word whose value is one text, as it is typed in a shell; empty where even that cannot be read."""
    inner = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
    word = f"{key}='{inner.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"
    if not value or len(value) > _SHOWN or not is_read(word):
        return ""
    return f'"{word}"' if not re.search(r"[\"$`\\!]", word) and word.isprintable() else shlex.quote(word)


def is_read(word: str) -> bool:
    """Tell whether Hydra's grammar takes a word."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError):
        return False
    return True


def _reason(value: str, error: str) -> str:
    function = re.search(r"while evaluating '(.+?)': (.*)", error)
    hints = [
        (value.startswith("="), "one = is enough"),
        (value.endswith(",") or value.startswith(",") or ",," in value, "a value is missing beside a comma"),
        ("[" * 50 in value or "{" * 50 in value or "(" * 50 in value, "its brackets are nested too deeply"),
        (any(value.count(a) != value.count(b) for a, b in ("()", "[]", "{}")), "a bracket is not closed"),
        (value.count("'") % 2 == 1 or value.count('"') % 2 == 1, "a quote is not closed"),
    ]
    if function:
        return f"{function[1]}: {_of_function(function[2])}"
    return next((reason for applies, reason in hints if applies), "it has special characters outside quotes")


def _of_function(reason: str) -> str:
    """Return why a function of the grammar cannot be evaluated."""
    if unknown := re.match(r"Unknown function '(.*)'", reason):
        return f"there is no function {unknown[1]}; valid: choice, range, glob, sort, shuffle, int, float, str, bool"
    if "'<' not supported" in reason:
        return "only values of one kind can be sorted"
    if "empty choice" in reason:
        return "a choice needs at least one value"
    if mismatch := re.match(r"mismatch type argument \S+ (\w+) is incompatible with (.*)", reason):
        return f"it takes no {mismatch[1].lower()} here"
    if no_number := re.search(
        r"invalid literal for int\(\)[^:]*: (.*)|could not convert string to float: (.*)", reason
    ):
        return f"{no_number[1] or no_number[2]} is no {'whole ' * bool(no_number[1])}number"
    return reason
