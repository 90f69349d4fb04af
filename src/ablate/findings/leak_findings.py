"""How many of the images that a sweep was judged on show what it was trained on, in words."""

from __future__ import annotations

from ablate.analysis.comparison import Comparison
from ablate.analysis.leaks import Leaks, leaks_of
from ablate.analysis.phrases import count
from ablate.findings.finding import Finding, Kind


def leak_findings(comparison: Comparison) -> list[Finding]:
    """The leaks of each data set that was audited in the same output folder; nothing of others."""
    return [Finding(_leaks(one), Kind.CHECK) for one in leaks_of(comparison)]


def _leaks(leaks: Leaks) -> str:
    if leaks.problem:
        return f"The audit of {leaks.data} says nothing ({leaks.problem}); {leaks.command} makes it again."
    pairs, shows = count(leaks.pairs, "pair"), "shows" if leaks.leaking == 1 else "show"
    if not leaks.split:
        return (
            f"{leaks.leaking} of {count(leaks.images, 'image')} of {leaks.data} {shows} what an image of another fold "
            f"shows ({pairs}), so networks were trained on what they are judged on there; {leaks.command} lists them, "
            "and split=groups keeps such images in one fold."
        )
    return (
        f"{leaks.leaking} of {count(leaks.images, f'{leaks.split} image')} of {leaks.data} {shows} what a train image "
        f"shows ({pairs}), so networks are judged there on what they were trained on; {leaks.command} lists them."
    )
