"""The interface of a launcher, as a sweep uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from ablate.launching.devices import Slot
from ablate.launching.jobs import Observer
from ablate.launching.sharing import Layout


@runtime_checkable
class Launch(Protocol):
    """Runs trials: one of our launchers, or another project's for Hydra."""

    def check(self, device: str) -> None:
        """Raise an error of ours if trials cannot run on this device."""

    def slots(self, device: str) -> int:
        """Return how many trials run at a time."""

    def local_slots(self, device: str) -> Sequence[Slot]:
        """Return those of them that are on this machine."""

    def open_cores(self, device: str) -> int | None:
        """Return the cores to share among trials; None on GPUs and clusters, and where the user has set a number."""

    def share(self, layout: Layout) -> None:
        """Set how trials share the cores."""

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: Observer) -> None:
        """Run ``package.module:name`` with each payload until each has ended; report to the observer."""
