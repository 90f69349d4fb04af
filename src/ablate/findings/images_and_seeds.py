"""What seeds and validation images together leave open, and which of the two would narrow it more, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.comparison import Comparison
from ablate.analysis.image_groups import drawn_again
from ablate.analysis.number_format import points
from ablate.analysis.phrases import listed
from ablate.analysis.variant_row import Row
from ablate.findings.finding import Finding, Kind, without_claims
from ablate.statistics.interval import Interval
from ablate.statistics.seeds_and_images import SeedsAndImages

MOST = 3  # variants whose interval is said; the others are in the table
Told = tuple[Row, Interval]


def image_findings(comparison: Comparison) -> list[Finding]:
    """The intervals over seeds and images of the largest differences, or those over images where there is one seed."""
    fair = [row for row in comparison.rows if row.is_comparable and row.difference and row.difference.has_learned]
    comparable = [row for row in fair if not row.is_control] or fair
    comparable.sort(key=lambda row: -abs(row.estimate or 0.0))
    both = [(row, row.difference.over_both) for row in comparable if row.difference and row.difference.over_both]
    over_images = [
        (row, row.difference.over_images)
        for row in comparable
        if row.difference and row.difference.over_images and not row.difference.over_both
    ]
    texts = []
    if both:
        texts.append(_both(both))
    if over_images:
        rows = [row for row, _ in over_images]
        lead = f"95% CIs over {drawn_again(rows)}, in points: {_listed(over_images)}."
        texts.append(f"{lead} They cover the sampling of {drawn_again(rows, 'images')}, not seed-to-seed variance.")
    return without_claims(Kind.IMAGES, texts)


def _both(compared: Sequence[tuple[Row, SeedsAndImages]]) -> str:
    """The joint intervals; which supported difference they leave open; and more seeds or more images."""
    drawn = drawn_again([row for row, _ in compared])
    text = (
        f"95% CIs over seeds and {drawn} together, in points: "
        f"{_listed([(row, variance.interval) for row, variance in compared])}."
    )
    stop = compared[0][1].stop
    if stop is not None:
        together = f" and for all {stop.tests} comparisons together" if stop.tests > 1 else ""
        text += f" They hold although the results decided how many seeds there are{together}."
    for_these = [row.label for row, variance in compared if row.supported and not variance.interval.excludes_zero]
    if for_these:
        text += (
            f" For {listed(for_these, 4)} the difference is significant over seeds on these images, but other images "
            "of the same kind may show none: the CI over both includes zero."
        )
    row, variance = compared[0]
    if stop is not None:
        return text
    units = drawn_again([row], "images")
    reach, seeds, images = variance.reach(), variance.reach(seeds=2), variance.reach(images=2)
    text += (
        f" If the variances are as estimated, twice the seeds would narrow the CI of {row.label} from "
        f"±{_size(reach)} points to ±{_size(seeds)}, twice the {units} to ±{_size(images)}"
    )
    if _size(seeds) == _size(images):
        return f"{text}."
    return f"{text}, so more {'seeds' if seeds < images else units} help more."


def _size(reach: float) -> str:
    return points(reach, signed=False)


def _listed(intervals: Sequence[Told]) -> str:
    texts = [f"{row.label} {points(interval.low)} to {points(interval.high)}" for row, interval in intervals[:MOST]]
    more = f" ({len(intervals) - MOST} more in the table)" if len(intervals) > MOST else ""
    return f"{', '.join(texts)}{more}"
