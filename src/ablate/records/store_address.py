"""Where MLflow's store is: a server's address, a database's, or a file of our own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ablate.redaction import plain_without_secrets
from ablate.storage.layout import OutputFolder
from ablate.storage.plain_values import Plain

DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mssql", "oracle")  # MLflow writes to them without a server


def own_database(root: Path) -> Path:
    """Return the absolute path of the SQLite file of an output folder."""
    return OutputFolder(root.absolute()).database


def tracking_uri(root: Path, uri: str | None) -> str:
    """Return MLflow's tracking URI: the given one, or SQLite below the root."""
    return uri or sqlite_uri(own_database(root))


def sqlite_uri(file: Path) -> str:
    """Return the URI of a SQLite file, whatever characters are in its path.

    SQLAlchemy takes a question mark for the end of the path. From 2.1 on it knows percent-encoding; before, only
    SQLite's own `file:` URIs do. With the driver's name MLflow makes no folder of the encoded name.
    """
    if re.fullmatch(r"[\w/. +~=,@-]*", str(file)):
        return f"sqlite:///{file}"
    path = quote(str(file))
    return f"sqlite+pysqlite:///{path}" if _decodes_paths() else f"sqlite+pysqlite:///file:{path}?uri=true"


def sqlite_file(address: str) -> Path | None:
    """Return the file that a URI of SQLite names; None for another database, and for one in memory."""
    scheme, separator, place = address.partition("://")
    if not separator or scheme.split("+")[0] != "sqlite":
        return None
    path, _, query = place.removeprefix("/").partition("?")
    path = unquote(path) if "%" in path and _decodes_paths() else path
    if path.startswith("file:"):
        path, _, more = path.removeprefix("file:").partition("?")
        if "mode=memory" in f"{query}&{more}":
            return None
        path = unquote(f"/{path.lstrip('/')}" if path.startswith("//") else path)
    return Path(path) if path and path != ":memory:" else None


@cache
def _decodes_paths() -> bool:
    """Tell whether the installed SQLAlchemy takes the path in a URI for percent-encoded."""
    from sqlalchemy.engine import make_url

    return make_url("sqlite:///%41").database == "A"


def artifacts_uri(root: Path) -> str:
    """Return where the files of runs go where no server says otherwise."""
    return OutputFolder(root.absolute()).artifacts.as_uri()


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


def recorded(config: Mapping[str, Any]) -> Plain:
    """Return a configuration as it is written down: without the account at any address, or another secret."""
    tracking = config.get("tracking") or {}
    uri = tracking.get("uri")
    config = {**config, "tracking": {**tracking, "uri": without_account(str(uri))}} if uri else config
    written: Plain = plain_without_secrets(dict(config))
    return written
