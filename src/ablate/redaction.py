"""Texts without secrets: no password of an address, and no value of a secret variable, is shown or stored.

Errors of libraries repeat the address that they could not reach, and whoever reads a log, a record or MLflow's pages
would get into the store with it. What is shown or stored goes through here where it leaves: messages, logs, records,
the command of a sweep.
"""

from __future__ import annotations

import os
import re
from typing import Any

HIDDEN = "***"
_MANY = 6  # characters of a value that is looked for; a shorter one would be found in any text
_SECRET_NAMES = re.compile(
    r".*(?:PASSWORD|PASSWD|_PWD|PASSPHRASE|TOKEN|SECRET|API_?KEY|ACCESS_?KEY|SECRET_?KEY|CREDENTIALS?)", re.IGNORECASE
)
# The account of an address: no slash before the "@", or a password with any character but blanks and quotes. A port
# with a path behind it is no password.
_ACCOUNT = re.compile(r"(?<=://)(?:[^\s/@'\"<>]*@|[^\s/@:'\"<>]*:(?!\d*(?:[/?#]|$))[^\s'\"<>]*@)+")
_QUERY = re.compile(
    r"(?<=[?&;])((?:[\w.-]*[_.-])?(?:user|username|pwd|password|passwd|sslpassword|token|secret|api_?key|access_?key|"
    r"accesskeyid|key|sig|signature|credential|auth|session))=[^&#;\s'\"<>]*",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """Return a text without user and password of the addresses in it, and without values of secret variables."""
    if "://" in text:
        text = _ACCOUNT.sub("", text)
        text = _QUERY.sub(rf"\1={HIDDEN}", text)
    for value in _secret_values():
        text = text.replace(value, HIDDEN)
    return text


def plain_without_secrets(value: Any) -> Any:
    """Return a plain value, such as a configuration, with `without_secrets` applied to each text in it."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: plain_without_secrets(item) for key, item in value.items()}
    return [plain_without_secrets(item) for item in value] if isinstance(value, list) else value


def _secret_values() -> list[str]:
    """Return the values of this process's environment variables whose names are those of secrets, longest first."""
    values = {value for name, value in os.environ.items() if _SECRET_NAMES.fullmatch(name)}
    # A file's path is none: GOOGLE_APPLICATION_CREDENTIALS.
    return sorted((v for v in values if len(v) >= _MANY and not os.path.exists(v)), key=len, reverse=True)  # noqa: PTH110
