"""For the time of a conversion: records under their old names, and read by key. To be deleted."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from ablate.records.json_struct import OpenObject, to_json
from ablate.records.legacy import Subscriptable
from ablate.records.loading import (
    DamagedRecordError,
    drop_record,
    leading_fields,
    load_object,
    load_record,
    load_sweep,
    mend_record,
    save_record,
)
from ablate.records.sweep_record import Control, Design, Sweep
from ablate.records.trial_record import SCHEMA, SHORT, Record, short

__all__ = [
    "SCHEMA",
    "SHORT",
    "Control",
    "DamagedRecordError",
    "Design",
    "Record",
    "Sweep",
    "drop_record",
    "leading_fields",
    "load_object",
    "load_record",
    "load_sweep",
    "mapping",
    "mend_record",
    "number",
    "save_record",
    "sequence",
    "short",
    "value",
]


def value(record: object, *path: str) -> Any:
    """What stands under nested keys, or None where any step is missing or not a mapping."""
    for key in path:
        if not isinstance(record, dict | Subscriptable):
            return None
        record = record.get(key)
    return to_json(record) if isinstance(record, tuple) else record


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
    found = _plain(value(record, *path))
    return found if isinstance(found, dict) else {}


def sequence(record: object, *path: str) -> list[Any]:
    """A list under nested keys, empty where there is none."""
    found = _plain(value(record, *path))
    return found if isinstance(found, list) else []


def _plain(found: Any) -> Any:
    return to_json(found) if isinstance(found, msgspec.Struct | OpenObject | list) else found
