"""Records of trials and sweeps on disk: written whole, read with tolerance.

Only the standard library is imported here, so that a report needs neither torch nor MLflow.

Folders (see `Sweep`):
    multirun/trials/<signature>/result.json    one trial; result.backup.json beside it is its copy
    multirun/trials/<signature>/mlflow.json    its MLflow run, once MLflow has it
    multirun/sweeps/<name>/sweep.json          which trials one command asked for
    multirun/sweeps/<name>/latency.json        latency of its variants
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import AblateError
from ablate.storage.files import atomic_write_json

SCHEMA = 1
RESULT, COPY = "result.json", "result.backup.json"
SHORT = 12  # hex digits of a signature that are shown to people
CONTROLS = ("identity", "params", "scale")
IDENTITY = ("signature", "name", "variant", "variant_key", "comparison_key", "factors", "seed")

Record = dict[str, Any]


class DamagedRecordError(AblateError, ValueError):
    """A file is there but cannot be read as what it should be.

    `salvaged` holds the complete leading fields of a JSON object that was cut off.
    """

    def __init__(self, path: Path, reason: str, salvaged: Record | None = None) -> None:
        """Say which file it is and why it cannot be read."""
        super().__init__(f"{path.parent.name[:SHORT]}/{path.name} {reason}")
        self.reason = reason
        self.salvaged = salvaged or {}


@dataclass(frozen=True)
class Design:
    """Which components the variants of a sweep have.

    Attributes:
        name: Such as "leave_one_out".
        components: Their names, all different.
        marks: Variant key -> for each component whether the variant has it.
        studies: Variant key -> number of its study; within one, variants differ in components only.
    """

    name: str
    components: list[str]
    marks: dict[str, tuple[bool, ...]]
    studies: dict[str, int]


@dataclass(frozen=True)
class Control:
    """What a variant is a control of: it tells an effect of a graft from one of surgery, of size or of scale.

    Attributes:
        kind: "identity" (a graft that does nothing), "params" (a plain block with as many parameters), "scale" (the
            stock network of the next bigger scale).
        comparison_key: Of the variants that it is shown among.
        of: The graft that it is matched with, such as "hmha@c3k2"; empty where there is none.
    """

    kind: str
    comparison_key: str
    of: str = ""


@dataclass(frozen=True)
class Sweep:
    """The trials of one command, as far as they are on disk.

    `records` follow the order of `signatures`. A result that is damaged stands among them with
    `status` "damaged" and whatever identifies it; one that does not exist yet is only in `missing`.
    `ignored` says in words what could not be read.
    """

    name: str
    directory: Path
    records: list[Record]
    latency: dict[str, Any] | None = None
    run_ids: dict[str, str] = field(default_factory=dict)
    signatures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    command: str = ""
    created: str = ""
    mlflow_run_id: str | None = None
    design: Design | None = None
    controls: dict[str, Control] = field(default_factory=dict)  # by variant key

    def trial_dir(self, signature: str) -> Path:
        """Folder of one trial; paths inside its record are relative to it."""
        return self.directory.parent.parent / "trials" / signature


def short(signature: object) -> str:
    """First hex digits of a signature, enough to find it."""
    return str(signature or "")[:SHORT]


def value(record: object, *path: str) -> Any:
    """What stands under nested keys, or None where any step is missing or not a mapping."""
    for key in path:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


def number(record: object, *path: str) -> float | None:
    """A finite number under nested keys, or None (missing, NaN, infinite, text, a truth value)."""
    found = value(record, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        plain = float(found)
    except OverflowError:  # a whole number beyond all floats
        return None
    return plain if math.isfinite(plain) else None


def mapping(record: object, *path: str) -> dict[str, Any]:
    """A mapping under nested keys, empty where there is none."""
    found = value(record, *path)
    return found if isinstance(found, dict) else {}


def sequence(record: object, *path: str) -> list[Any]:
    """A list under nested keys, empty where there is none."""
    found = value(record, *path)
    return found if isinstance(found, list) else []


def load_object(path: Path) -> Record:
    """Read a JSON object from a file; empty where there is none, or nothing that can be read."""
    return _optional(path, [])


def save_record(trial_dir: Path, record: Record) -> None:
    """Write a trial's record, and a copy: the record is what hours of training came to.

    The copy comes second, so that whoever finds the record finds it whole. Raises OSError when the disk refuses.
    """
    atomic_write_json(trial_dir / RESULT, record)
    with contextlib.suppress(OSError):  # on a disk that is full now, one whole record is enough
        atomic_write_json(trial_dir / COPY, record)


def load_record(trial_dir: Path) -> Record:
    """Read a trial's record; where `result.json` is damaged its copy speaks for it.

    Raises FileNotFoundError when there is none, DamagedRecordError when it is cut off, is not a JSON
    object, or belongs to another trial than the folder says, and the copy is no better.
    """
    try:
        return _record(Path(trial_dir) / RESULT)
    except DamagedRecordError:
        with contextlib.suppress(FileNotFoundError, DamagedRecordError):
            return _record(Path(trial_dir) / COPY)
        raise


def mend_record(trial_dir: Path) -> bool:
    """Write a damaged `result.json` anew from its copy; tell whether that was done."""
    try:
        _record(trial_dir / RESULT)
    except DamagedRecordError:
        with contextlib.suppress(FileNotFoundError, DamagedRecordError):
            atomic_write_json(trial_dir / RESULT, _record(trial_dir / COPY))
            return True
    except FileNotFoundError:
        pass
    return False


def drop_record(trial_dir: Path) -> None:
    """Remove a trial's record and its copy."""
    for name in (COPY, RESULT):
        (trial_dir / name).unlink(missing_ok=True)


def _record(path: Path) -> Record:
    record = _read_object(path)
    signature = record.get("signature")
    if signature != path.parent.name:
        reason = f"belongs to signature {short(signature) or 'none'}, not to this folder"
        raise DamagedRecordError(path, reason)
    return record


def load_sweep(sweep_dir: Path) -> Sweep:
    """Read a sweep and all of its trials that are there.

    Damage in any single file costs that file only; `Sweep.ignored` says what was lost. Raises
    FileNotFoundError when the folder is not that of a sweep.
    """
    directory = Path(sweep_dir).resolve()
    path = directory / "sweep.json"
    if not path.is_file():
        raise FileNotFoundError(f"{sweep_dir} is not the folder of a sweep: it has no sweep.json")
    ignored: list[str] = []
    head = _read_head(path, ignored)
    signatures = list(dict.fromkeys(str(item) for item in sequence(head, "signatures")))
    trials = directory.parent.parent / "trials"
    records: list[Record] = []
    missing: list[str] = []
    run_ids: dict[str, str] = {}
    for signature in signatures:
        folder = trials / signature
        try:
            record = load_record(folder)
        except DamagedRecordError as error:
            ignored.append(str(error))
            record = _damaged(signature, error)
        except FileNotFoundError:
            missing.append(signature)
            continue
        records.append(record)
        if run_id := _optional(folder / "mlflow.json", ignored).get("run_id"):
            run_ids[signature] = str(run_id)
        if record.get("schema", SCHEMA) != SCHEMA:
            ignored.append(f"{short(signature)} has schema {record['schema']}; this version knows {SCHEMA}")
    return Sweep(
        name=str(head.get("name") or directory.name),
        directory=directory,
        records=records,
        latency=_optional(directory / "latency.json", ignored) or None,
        run_ids=run_ids,
        signatures=signatures,
        missing=missing,
        ignored=ignored,
        command=_command(head.get("command")),
        created=str(head.get("created") or ""),
        mlflow_run_id=str(head["mlflow_run_id"]) if head.get("mlflow_run_id") else None,
        design=_design(head.get("design"), ignored),
        controls=_controls(head.get("controls"), ignored),
    )


def leading_fields(text: str) -> Record:
    """The complete fields at the start of a JSON object, however it goes on or breaks off."""
    decoder, fields = json.JSONDecoder(), {}
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        return {}
    position = _skip(text, position + 1)
    with contextlib.suppress(ValueError):
        while True:
            key, position = decoder.raw_decode(text, position)
            position = _skip(text, position)
            if not isinstance(key, str) or text[position : position + 1] != ":":
                break
            found, position = decoder.raw_decode(text, _skip(text, position + 1))
            position = _skip(text, position)
            if text[position : position + 1] not in (",", "}"):  # a number may be cut in its middle
                break
            fields[key] = found
            position = _skip(text, position + 1)
    return fields


def _read_object(path: Path) -> Record:
    """A JSON object from a file; FileNotFoundError or DamagedRecordError otherwise."""
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no such file: {path}") from None
    except OSError as error:
        raise DamagedRecordError(path, f"cannot be read ({error.strerror})") from error
    text = raw.decode("utf-8", errors="replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        reason = f"is not complete JSON ({len(raw)} bytes)" if raw.strip() else "is empty"
        raise DamagedRecordError(path, reason, leading_fields(text)) from None
    if not isinstance(content, dict):
        raise DamagedRecordError(path, "is not a JSON object")
    return content


def _read_head(path: Path, ignored: list[str]) -> Record:
    """`sweep.json`; where it is damaged, the signatures that can still be recognised in it."""
    try:
        return _read_object(path)
    except DamagedRecordError as error:
        ignored.append(str(error))
        text = path.read_text(encoding="utf-8", errors="replace")
        return {**error.salvaged, "signatures": re.findall(r'"([0-9a-f]{64})"', text)}


def _design(found: object, ignored: list[str]) -> Design | None:
    """The design that `sweep.json` tells of, as far as it can be understood; None where there is none."""
    if found is None:
        return None
    components = [name for name in sequence(found, "components") if isinstance(name, str) and name]
    marks = {
        key: tuple(row)
        for key, row in mapping(found, "marks").items()
        if isinstance(row, list) and len(row) == len(components) and all(isinstance(mark, bool) for mark in row)
    }
    if not components or len(set(components)) < len(sequence(found, "components")) or not marks:
        ignored.append("sweep.json: the design of components cannot be read")
        return None
    studies = {key: mapping(found, "studies").get(key) for key in marks}
    numbers = {key: study if isinstance(study, int) else 0 for key, study in studies.items()}
    return Design(str(value(found, "name") or ""), components, marks, numbers)


def _controls(found: object, ignored: list[str]) -> dict[str, Control]:
    """The controls that `sweep.json` tells of, as far as they can be understood."""
    controls: dict[str, Control] = {}
    unreadable = 0 if found is None or isinstance(found, dict) else 1
    for key, entry in mapping(found).items():
        kind, group, of = (value(entry, name) for name in ("kind", "comparison_key", "of"))
        if kind in CONTROLS and isinstance(group, str) and group:
            controls[key] = Control(kind, group, of if isinstance(of, str) else "")
        else:
            unreadable += 1
    if unreadable:
        ignored.append(f"sweep.json: {unreadable} of its controls cannot be read; they are shown as variants")
    return controls


def _optional(path: Path, ignored: list[str]) -> Record:
    """A JSON object that may be absent; damage is noted."""
    try:
        return _read_object(path)
    except FileNotFoundError:
        return {}
    except DamagedRecordError as error:
        ignored.append(str(error))
        return {}


def _damaged(signature: str, error: DamagedRecordError) -> Record:
    """A stand-in for a result that cannot be read: who it was, never what it measured."""
    record = {key: found for key, found in error.salvaged.items() if key in IDENTITY}
    record.setdefault("variant", f"unreadable {short(signature)}")
    record.setdefault("variant_key", signature)
    failure = {"type": "damaged", "message": f"result.json {error.reason}"}
    return {**record, "signature": signature, "status": "damaged", "failure": failure}


def _command(found: object) -> str:
    """The command as one line, whether it was recorded as text or as a list of words."""
    return " ".join(map(str, found)) if isinstance(found, list) else str(found or "")


def _skip(text: str, position: int) -> int:
    """Position of the next character that is not white space."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
