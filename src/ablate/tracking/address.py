"""Where MLflow's store is: a server's address, a database's, or a file of our own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

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
