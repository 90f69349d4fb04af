"""Records on disk: written whole, read with tolerance. Damage in one file costs that file only.

Neither torch nor MLflow is imported here, so that a report needs neither.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import msgspec

from ablate.errors import AblateError
from ablate.records.json_struct import JsonObject, JsonValue, from_json, to_json
from ablate.records.latency_record import LatencyReport
from ablate.records.run_link import RunLink
from ablate.records.sweep_record import AnalysisPlan, Control, Design, Sweep, SweepManifest
from ablate.records.test_split import load_test_results
from ablate.records.trial_record import (
    SHORT,
    Record,
    TrialRecord,
    damaged_trial,
    decode_record,
    encode_record,
    short,
)
from ablate.safe_text import one_line
from ablate.storage.confined import read_plain
from ablate.storage.files import atomic_write_bytes, atomic_write_json
from ablate.storage.json_text import parse_json
from ablate.storage.layout import SweepFolder, TrialFolder, located

_SIGNATURE = re.compile(r"[0-9A-Za-z]{1,64}")


SALVAGED, SEARCHED = 1000, 4 * 2**20  # fields, and characters, that are looked at in a damaged file


class DamagedRecordError(AblateError, ValueError):
    """A file is there but cannot be read as what it should be.

    Attributes:
        reason: Why not, such as ``is empty``.
        salvaged: What can be read of the JSON object that it should hold.
    """

    def __init__(self, path: Path, reason: str, salvaged: JsonObject | None = None) -> None:
        """Say which file it is and why it cannot be read."""
        super().__init__(f"{path.parent.name[:SHORT]}/{path.name} {reason}")
        self.reason = reason
        self.salvaged = salvaged or {}


# -- trials -------------------------------------------------------------------------------------------------------


def save_record(folder: Path, record: TrialRecord) -> None:
    """Write a trial's record, and a copy: the record is what hours of training came to.

    The copy comes second, so that whoever finds the record finds it whole. Raises OSError when the disk refuses.
    """
    files, content = TrialFolder(folder), encode_record(record)
    atomic_write_json(files.result, content)
    with contextlib.suppress(OSError):  # on a disk that is full now, one whole record is enough
        atomic_write_json(files.result_copy, content)


def load_record(folder: Path) -> TrialRecord:
    """Read a trial's record; where `result.json` is damaged or missing, its copy is read instead.

    Raises FileNotFoundError when there is none, DamagedRecordError when it is cut off, is not what a record is, or
    belongs to another trial than the folder says, and the copy is damaged too.
    """
    files = TrialFolder(folder)
    try:
        return _record(files.result)
    except (FileNotFoundError, DamagedRecordError):
        with contextlib.suppress(FileNotFoundError, DamagedRecordError):
            return _record(files.result_copy)
        raise


def mend_record(folder: Path) -> bool:
    """Write a damaged or missing `result.json` anew from its copy, byte for byte; tell whether that was done."""
    files = TrialFolder(folder)
    try:
        _record(files.result)
    except (FileNotFoundError, DamagedRecordError):
        with contextlib.suppress(OSError, DamagedRecordError):  # where it cannot be replaced, its copy speaks for it
            _record(files.result_copy)
            atomic_write_bytes(files.result, read_plain(files.result_copy))
            return True
    return False


def drop_record(folder: Path) -> None:
    """Remove a trial's record and its copy."""
    files = TrialFolder(folder)
    for path in (files.result_copy, files.result):
        path.unlink(missing_ok=True)


def _record(path: Path) -> TrialRecord:
    content = read_object(path)
    signature = content.get("signature")
    if signature != path.parent.name:
        reason = f"belongs to signature {short(signature) or 'none'}, not to this folder"
        raise DamagedRecordError(path, reason)
    try:
        return decode_record(content)
    except ValueError as error:
        raise DamagedRecordError(path, f"is no record: {error}", content) from None


# -- sweeps -------------------------------------------------------------------------------------------------------


def load_sweep(path: Path) -> Sweep:
    """Read a sweep and all of its trials that are there.

    Damage in any single file costs that file only; `Sweep.ignored` lists what was lost. Raises
    FileNotFoundError when the folder is not that of a sweep.
    """
    folder = SweepFolder(located(path))
    ignored: list[str] = []
    manifest = load_manifest(folder, ignored)
    sweep = Sweep(folder, manifest, [], load_latency(folder, ignored), ignored=ignored)
    for signature in manifest.signatures:
        trial = folder.trial(signature)
        try:
            sweep.trials.append(_checked(load_record(trial.path), ignored))
        except DamagedRecordError as error:
            ignored.append(str(error))
            sweep.trials.append(damaged_trial(signature, error.reason, error.salvaged))
        except FileNotFoundError:
            sweep.missing.append(signature)
            continue
        if run_id := load_run_link(trial, ignored).run_id:
            sweep.run_ids[signature] = run_id
    return replace(sweep, on_test=load_test_results(folder.root, sweep.trials))


def _checked(record: TrialRecord, ignored: list[str]) -> Record:
    if not record.is_ours:
        ignored.append(f"{short(record.signature)} {record.form}")
    return record


def save_manifest(folder: SweepFolder, manifest: SweepManifest) -> None:
    """Write what a sweep consists of; keys of its file that this version does not know stay there.

    Raises OSError when the disk refuses.
    """
    fields = SweepManifest.__struct_encode_fields__
    unknown = {name: value for name, value in load_object(folder.manifest).items() if name not in fields}
    atomic_write_json(folder.manifest, {**to_json(manifest), **unknown})


def manifest_so_far(folder: SweepFolder, ignored: list[str] | None = None) -> SweepManifest:
    """Read what earlier commands wrote of a sweep (see `load_manifest`); it has no trials where there were none."""
    return load_manifest(folder, ignored) if folder.manifest.is_file() else SweepManifest(signatures=())


def load_manifest(folder: SweepFolder, ignored: list[str] | None = None) -> SweepManifest:
    """Read what a sweep consists of; of a damaged file, what can still be recognised in it.

    Args:
        folder: The sweep's folder.
        ignored: Takes in words what could not be read.

    Raises:
        FileNotFoundError: The folder is not that of a sweep.
    """
    notes = [] if ignored is None else ignored
    if not folder.manifest.is_file():
        raise FileNotFoundError(f"{folder.path} is not the folder of a sweep: it has no {folder.manifest.name}")
    try:
        content = read_object(folder.manifest)
    except DamagedRecordError as error:
        notes.append(str(error))
        return _recognised(folder, error.salvaged, notes)
    controls, design = content.pop("controls", None), content.pop("design", None)
    analysis = content.pop("analysis", None)
    if isinstance(command := content.get("command"), list):  # an older version wrote a list of words
        content["command"] = " ".join(map(str, command))
    try:
        manifest = from_json(content, SweepManifest)
    except ValueError as error:
        notes.append(f"{folder.path.name[:SHORT]}/{folder.manifest.name} {error}")
        return _recognised(folder, {**content, "controls": controls, "design": design, "analysis": analysis}, notes)
    signatures = tuple(dict.fromkeys(filter(_SIGNATURE.fullmatch, manifest.signatures)))  # each becomes a folder's name
    if odd := len(set(manifest.signatures)) - len(signatures):
        notes.append(f"{folder.path.name[:SHORT]}/{folder.manifest.name}: {odd} of its signatures cannot be one")
    return msgspec.structs.replace(
        manifest,
        signatures=signatures,
        controls=_controls(controls, notes),
        design=_design(design, notes),
        analysis=_analysis(analysis, notes),
    )


def _recognised(folder: SweepFolder, fields: JsonObject, notes: list[str]) -> SweepManifest:
    """Return the parts of a damaged `sweep.json` that can be read."""
    try:
        text = read_plain(folder.manifest).decode(errors="replace")
    except OSError:
        text = ""
    run_id = fields.get("mlflow_run_id")
    return SweepManifest(
        name=_text(fields.get("name")),
        command=_text(fields.get("command")),
        created=_text(fields.get("created")),
        signatures=tuple(dict.fromkeys(re.findall(r'"([0-9a-f]{64})"', text))),
        mlflow_run_id=run_id if isinstance(run_id, str) else None,
        controls=_controls(fields.get("controls"), notes),
        design=_design(fields.get("design"), notes),
        analysis=_analysis(fields.get("analysis"), notes),
    )


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _analysis(content: JsonValue, notes: list[str]) -> AnalysisPlan:
    """Return what was declared of a sweep's analysis; the defaults where nothing is recorded or it cannot be read."""
    if content is None:
        return AnalysisPlan()
    try:
        return from_json(content, AnalysisPlan)
    except ValueError as error:
        notes.append(f"sweep.json: analysis {error}; the defaults are taken")
        return AnalysisPlan()


def _design(content: JsonValue, notes: list[str]) -> Design | None:
    """Return a design, as far as it can be understood; None where there is none."""
    if content is None:
        return None
    with contextlib.suppress(ValueError):
        if isinstance(content, dict) and isinstance(marks := content.get("marks"), dict):
            content = {**content, "marks": {key: row for key, row in marks.items() if _are_marks(row)}}
        design = from_json(content, Design)
        design = msgspec.structs.replace(design, components=tuple(map(one_line, design.components)))
        whole = {key: marks for key, marks in design.marks.items() if len(marks) == len(design.components)}
        if whole and all(design.components) and len(set(design.components)) == len(design.components):
            return msgspec.structs.replace(design, marks=whole)
    notes.append("sweep.json: the design of components cannot be read")
    return None


def _are_marks(row: JsonValue) -> bool:
    return isinstance(row, list) and all(isinstance(mark, bool) for mark in row)


def _controls(content: JsonValue, notes: list[str]) -> dict[str, Control]:
    """Return the controls of a sweep, as far as they can be understood."""
    controls: dict[str, Control] = {}
    unreadable = 0 if content is None or isinstance(content, dict) else 1
    for key, entry in content.items() if isinstance(content, dict) else ():
        try:
            control = from_json(entry, Control)
        except ValueError:
            unreadable += 1
            continue
        controls[key] = control
    if unreadable:
        notes.append(f"sweep.json: {unreadable} of its controls cannot be read; they are shown as variants")
    return controls


def save_latency(folder: SweepFolder, report: LatencyReport) -> None:
    """Write a sweep's latency. Raises OSError when the disk refuses."""
    atomic_write_json(folder.latency, to_json(report))


def load_latency(folder: SweepFolder, ignored: list[str] | None = None) -> LatencyReport | None:
    """Read a sweep's latency; None where there is none, or it is damaged, which is added to `ignored`."""
    notes = [] if ignored is None else ignored
    try:
        return from_json(read_object(folder.latency), LatencyReport)
    except FileNotFoundError:
        return None
    except DamagedRecordError as error:
        notes.append(str(error))
        return None
    except ValueError as error:
        notes.append(f"{folder.latency.name} is no measurement of latency: {error}")
        return None


# -- MLflow runs --------------------------------------------------------------------------------------------------


def save_run_link(folder: TrialFolder, link: RunLink) -> None:
    """Write which MLflow run a trial has. Raises OSError when the disk refuses."""
    atomic_write_json(folder.run_link, to_json(link))


def load_run_link(folder: TrialFolder, ignored: list[str] | None = None) -> RunLink:
    """Read which MLflow run a trial has; an empty link where there is none, or damage, which goes to `ignored`."""
    notes = [] if ignored is None else ignored
    try:
        link = from_json(_optional(folder.run_link, notes), RunLink)
        if link.signature in (None, folder.signature):
            return link
        reason = f"belongs to signature {short(link.signature)}, not to this folder"
    except ValueError as error:
        reason = str(error)
    notes.append(f"{short(folder.signature)}/{folder.run_link.name} {reason}")
    return RunLink()


# -- JSON files ---------------------------------------------------------------------------------------------------


def load_object(path: Path) -> JsonObject:
    """Read a JSON object from a file; empty where there is none, or nothing that can be read."""
    return _optional(path, [])


def _optional(path: Path, ignored: list[str]) -> JsonObject:
    """A JSON object that may be absent; damage is noted."""
    try:
        return read_object(path)
    except FileNotFoundError:
        return {}
    except DamagedRecordError as error:
        ignored.append(str(error))
        return {}


def read_object(path: Path, folder: Path | None = None) -> JsonObject:
    """Read a JSON object from a file (see `parse_json`).

    Args:
        path: The file.
        folder: The folder that it may not lead out of; the one that it is in by default.

    Raises:
        FileNotFoundError: There is none.
        DamagedRecordError: It cannot be read, or holds something else.
    """
    try:
        raw = read_plain(path, folder)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no such file: {path}") from None
    except OSError as error:
        raise DamagedRecordError(path, f"cannot be read ({error.strerror})") from error
    text = raw.decode("utf-8-sig", errors="replace")  # an editor may have put a byte order mark before it
    try:
        content = parse_json(text)
    except ValueError as error:
        reason = f"is not complete JSON ({len(raw)} bytes)" if raw.strip() else "is empty"
        reason = reason if isinstance(error, json.JSONDecodeError) else f"cannot be read ({error})"
        raise DamagedRecordError(path, reason, leading_fields(text[:SEARCHED])) from None
    if not isinstance(content, dict):
        raise DamagedRecordError(path, "is not a JSON object")
    return content


def leading_fields(text: str) -> JsonObject:
    """The complete fields at the start of a JSON object, however it goes on or breaks off."""
    decoder = json.JSONDecoder()
    fields: JsonObject = {}
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        return {}
    position = _skip(text, position + 1)
    with contextlib.suppress(ValueError, RecursionError):
        while len(fields) < SALVAGED:
            key, position = decoder.raw_decode(text, position)
            position = _skip(text, position)
            if not isinstance(key, str) or text[position : position + 1] != ":":
                break
            start = _skip(text, position + 1)
            _, end = decoder.raw_decode(text, start)
            position = _skip(text, end)
            if text[position : position + 1] not in (",", "}"):  # a number may be cut in its middle
                break
            fields[key] = parse_json(text[start:end])
            position = _skip(text, position + 1)
    return fields


def _skip(text: str, position: int) -> int:
    """Position of the next character that is not white space."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
