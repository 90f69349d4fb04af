"""Which learning rate each variant was given by its short trials, in words."""

from __future__ import annotations

from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import listed
from ablate.statistics.verdict import LEARNED

MOST_NAMED = 6


def tuning_findings(comparison: Comparison) -> list[str]:
    """The learning rates, and for which variants a rate beyond those tried may be better."""
    tuned = comparison.sweep.manifest.tuned
    rows = [(row, tuned[row.key]) for row in comparison.rows if row.key in tuned]
    if not rows:
        return []
    numbers = listed((f"{row.label} {rate.chosen:g}" for row, rate in rows), MOST_NAMED)
    tries = max(len(rate.tried) for _, rate in rows)
    sentences = [
        f"Each variant had {tries} short trials for a learning rate of its own, all with one seed that no comparison "
        f"uses: {numbers}. The choice is itself uncertain; the notes have the accuracies."
    ]
    failed = [row.label for row, rate in rows if all(one.accuracy is None for one in rate.tried)]
    unlearned = [row.label for row, rate in rows if not rate.has_learned and row.label not in failed]
    if failed:
        sentences.append(f"All short trials of {listed(failed, MOST_NAMED)} failed, so the given rate was used.")
    if unlearned:
        sentences.append(
            f"No short trial of {listed(unlearned, MOST_NAMED)} learned anything (an accuracy of {LEARNED:g} or more), "
            "so the given rate was used: short trials must be long enough to tell rates apart."
        )
    for end, beyond in (("lowest", "lower"), ("highest", "higher")):
        if at_end := [row.label for row, rate in rows if rate.end == end]:
            names = listed(at_end, MOST_NAMED)
            sentences.append(f"The {end} learning rate tried was chosen for {names}; a {beyond} one may be better.")
    return sentences
