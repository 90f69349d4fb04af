"""Remarks on modules that keep their contract; without torch, so that a driver can read them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Findings:
    """Remarks on the modules of a network that keep the contract.

    Attributes:
        notes: One sentence each: parameters without a gradient, an input that is changed in place, ...
        single: Why a module fails with one image in train mode, which an epoch's last batch may be; else None.
        mixed: Why one fails under automatic mixed precision, which GPUs train in; else None.
    """

    notes: tuple[str, ...] = ()
    single: str | None = None
    mixed: str | None = None
