"""Where MLflow's store is: a server's address, a database's, or a file of our own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mssql", "oracle")  # MLflow writes to them without a server


def tracking_uri(root: Path, uri: str | None) -> str:
    """Return MLflow's tracking URI: the given one, or SQLite below the root."""
    return uri or f"sqlite:///{root.absolute() / 'mlflow.db'}"


def is_database(uri: str) -> bool:
    """Tell whether a URI is that of a database, not of a server."""
    return uri.split(":")[0].split("+")[0] in DATABASES


def with_driver(uri: str) -> str:
    """Return a URI of PostgreSQL with the driver that is installed; which one is the default depends on SQLAlchemy."""
    scheme, separator, place = uri.partition("://")
    if scheme in ("postgresql", "postgres"):
        driver = "psycopg2" if find_spec("psycopg2") is not None else "psycopg"
        return f"postgresql+{driver}{separator}{place}"
    return uri


def without_account(text: str) -> str:
    """Return a text with a URI in it less user and password, wherever in the URI they stand."""
    # A password may hold any character, "@" too: all up to the last one goes.
    text = re.sub(r"(?<=://)[^\s/@:?#]*(?::.*)?@", "", text)
    return re.sub(r"(?<=[?&])(?:user|username|password|sslpassword|token)=[^&#\s'\"]*&?", "", text).rstrip("?&")


def recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as it is written down: without the account at its tracking server or database."""
    tracking = config.get("tracking") or {}
    uri = tracking.get("uri")
    return {**config, "tracking": {**tracking, "uri": without_account(str(uri))}} if uri else dict(config)
