"""A hash of a value by its content, whatever the order of its mappings."""

from __future__ import annotations

import hashlib

import msgspec


def content_hash(value: object) -> str:
    """Return the SHA-256, 64 hex digits, of a value's JSON with sorted keys.

    Args:
        value: Plain values, dataclasses and structs, nested as you like.

    Raises:
        TypeError: JSON has no form for a part of it.
    """
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
