"""Samples of the machine, taken while a trial trains: one line of `system.jsonl` each."""

from __future__ import annotations

from ablate.records.json_struct import OpenObject


class MachineSample(OpenObject):
    """One sample: measurements under MLflow's names (``cpu_utilization_percentage``), with its step and time."""

    __slots__ = ()

    @property
    def step(self) -> float | None:
        """Number of the sample, from 0."""
        return self.number("step")

    @property
    def time(self) -> float | None:
        """When it was taken, seconds since 1970."""
        return self.number("time")
