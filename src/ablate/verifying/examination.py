"""What the conformance suite finds of a module; without torch, so that a driver can read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        check: Name of the check.
        grade: ``error``: it would make a wrong or a failing trial. ``note``: it is good to know.
        text: What it is, in one line.
    """

    check: str
    grade: str
    text: str


@dataclass(frozen=True)
class Examination:
    """All that was found of a module.

    Attributes:
        checks: How many checks were made; 0 where the module cannot be built.
        findings: What they found, none where all is well.
    """

    checks: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings for which the module fails."""
        return tuple(finding for finding in self.findings if finding.grade == "error")

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The other findings."""
        return tuple(finding for finding in self.findings if finding.grade != "error")
