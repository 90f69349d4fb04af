"""What intervals over the folds of a cross-validation cover, in words."""

from __future__ import annotations

from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import count, span
from ablate.findings.finding import Finding, Kind

MOST_FOLDS = 5  # up to which the corrected test was near its level in simulation (docs/folds.md)


def fold_findings(comparison: Comparison) -> list[Finding]:
    """What the intervals and tests are over, and what they do not cover; empty where nothing is tested over folds."""
    differences = [row.difference for row in comparison.rows if row.difference is not None]
    tested = [one for one in differences if one.samples.is_of_folds and one.p_value is not None]
    if not tested:
        return []
    folds = span(str(number) for number in sorted({len(one.samples.values) for one in tested}))
    seeds = max(len(one.seeds) for one in tested)
    same = "seed" if seeds == 1 else count(seeds, "seed")
    text = (
        f"The CIs (95%) and p-values are over {folds} folds, by the corrected resampled t-test: they cover training "
        f"and validating on other images of the same kind. All folds have the same {same}, so they do not cover "
        "what a seed does to all folds alike."
    )
    if any(one.fold_share is not None and one.fold_share < 1 / (MOST_FOLDS - 1) for one in tested):
        text += (
            f" With more than {MOST_FOLDS} folds the test may call too many differences real, where results depend "
            "more on the training images than on the validation images."
        )
    return [Finding(text, Kind.IMAGES)]
