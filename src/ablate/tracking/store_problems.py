"""What is wrong with the store, and what follows from it: who sends later what could not be sent now."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from ablate.redaction import without_secrets

MAX_REASON = 200  # characters of an error's message that are shown
UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "CANCELLED")
# Messages of MLflow, requests and SQLAlchemy about a server or a database that is absent or busy.
UNREACHED = re.compile(
    r"API request to .* failed|Connection|connect to server|database is locked|readonly database|disk I/O|disk is full|"
    r"unable to open database|timed out|HTTPSConnectionPool|HTTPConnectionPool",
    re.IGNORECASE,
)
DAMAGED = re.compile(
    r"^(?:\(sqlite3\.\w+\) )?(?:database disk image is malformed|file is not a database)", re.MULTILINE
)
HTTP = re.compile(r"failed with error code (\d{3})")  # MLflow, of an answer that is not MLflow's own
BUSY = (408, 429)  # a server's answers that mean: try again later
DATABASE = re.compile(
    r"^(?:\([^)\n]*\) ?)?\([\w.]+(?:Error|Exception)\) (.+)", re.MULTILINE
)  # SQLAlchemy, of a driver's error
SCHEMA = re.compile(r"out-of-date database schema \(found version (\w+)")


class ProblemKind(StrEnum):
    """What kind of problem a store has."""

    UNREACHABLE = "unreachable"  # nobody answers: another time it may
    OLD_SCHEMA = "old schema"  # made by an older MLflow
    NEW_SCHEMA = "new schema"  # made by a newer MLflow
    DAMAGED = "damaged"  # its file is no database any more
    REFUSED = "refused"  # it answers, and refuses


@dataclass(frozen=True)
class StoreProblem:
    """Why a store does not take records.

    Attributes:
        kind: What kind of problem it is.
        message: The error of the store, or of the attempt to reach it; one line.
        uri: The store, without account.
    """

    kind: ProblemKind
    message: str
    uri: str = ""

    @property
    def advice(self) -> str:
        """What becomes of the records, and what there is to do."""
        if self.kind is ProblemKind.UNREACHABLE:
            return f"MLflow does not answer ({self.message}); the results are on disk, and the next command sends them"
        if self.kind is ProblemKind.DAMAGED:
            return (
                f"MLflow's database {self.uri} is damaged ({self.message}); the results are on disk. Move it away: "
                "the next command creates a new one and sends them all"
            )
        if self.kind is ProblemKind.OLD_SCHEMA:
            upgrade = f"python -m mlflow db upgrade {shlex.quote(self.uri)}"
            return (
                "MLflow's database was made by an older MLflow; the results are on disk. Back it up and run "
                f"{upgrade}; after that the next command sends them"
            )
        if self.kind is ProblemKind.NEW_SCHEMA:
            return (
                "MLflow's database was made by a newer MLflow than the one that is installed; the results are on disk. "
                "After pip install --upgrade mlflow the next command sends them"
            )
        return f"MLflow refuses ({self.message}); the results are on disk, but not in MLflow as long as that is so"


@dataclass(frozen=True)
class Refusal:
    """Something of a record that the store does not have.

    Attributes:
        record: The trial's or the sweep's name.
        what: Such as "metric final/map50" or "the data set".
        reason: The store's error; one line.
        again: Whether the next command tries again, because another time it may be taken.
    """

    record: str
    what: str
    reason: str
    again: bool = False

    def __str__(self) -> str:
        """Name record, part and reason in one line."""
        return f"{self.record}: {self.what}: {self.reason}"


def problem_of(error: BaseException, uri: str = "") -> StoreProblem:
    """Return the problem of the store that an exception of MLflow, of a library below it, or of our own reports."""
    message = reason_of(error)
    schema = SCHEMA.search(str(error))
    if schema:
        kind = ProblemKind.OLD_SCHEMA if _is_known_schema(schema[1]) else ProblemKind.NEW_SCHEMA
        return StoreProblem(kind, message, uri)
    if DAMAGED.search(str(error)):
        return StoreProblem(ProblemKind.DAMAGED, message, uri)
    return StoreProblem(ProblemKind.UNREACHABLE if _is_unreached(error) else ProblemKind.REFUSED, message, uri)


def is_unreachable(error: BaseException) -> bool:
    """Tell whether an exception means that the store does not answer, rather than that it refuses something."""
    return problem_of(error).kind is not ProblemKind.REFUSED


def reason_of(error: BaseException) -> str:
    """Return an exception in one line; of a database's error what the database says."""
    text = without_secrets(str(error))  # before it is cut off, which would hide from it where an address ends
    database = DATABASE.search(text)
    line = database[1] if database else next((line for line in text.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:MAX_REASON]}".removesuffix(": ")


def is_local(error: BaseException) -> bool:
    """Tell whether an exception is about a file, such as one on a full disk, rather than about a server."""
    distant = isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith("requests")
    return isinstance(error, OSError) and not distant


def _is_unreached(error: BaseException) -> bool:
    if getattr(error, "error_code", None) in UNAVAILABLE or isinstance(error, OSError):  # requests' are OSErrors too
        return True
    status = HTTP.search(str(error))
    if status:
        return int(status[1]) >= 500 or int(status[1]) in BUSY
    return UNREACHED.search(str(error)) is not None and not _is_reply(error)


def _is_reply(error: BaseException) -> bool:
    """Tell whether MLflow reports a wrong argument, whatever text the argument contains."""
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST")


def _is_known_schema(revision: str) -> bool:
    """Tell whether the installed MLflow has had this revision of its tables."""
    spec = find_spec("mlflow")
    places = (spec.submodule_search_locations or []) if spec else []
    return any(next(Path(place).glob(f"store/db_migrations/versions/{revision}_*.py"), None) for place in places)
