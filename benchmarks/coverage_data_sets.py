"""Rows of `coverage.py` on several data sets: the mean, the next data set, and ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import common  # noqa: F401 - finds `simulated`
import numpy as np
from simulated import data_sets

BETWEEN = (0.0, 0.004, 0.01)  # standard deviation of the true differences between data sets
WRONG = {
    "fixed effect covers": data_sets.fixed_effect,
    "all trials together cover": data_sets.all_trials,
    "weighted Hartung-Knapp covers": data_sets.weighted_hartung_knapp,
}


def over_data_sets(count: int) -> Iterator[dict[str, Any]]:
    """Means over data sets with wrong ones beside them, predictions, probabilities, and ranks."""
    for between in BETWEEN:
        for number in (2, 3, 5, 10):
            setting = f"{number} data sets, 3 seeds, SD between {100 * between:g} points"
            found = data_sets.coverage(np.random.default_rng(number), count, number, 3, between)
            yield {"what": "mean over data sets covers", "setting": setting, "found": found, "of": count}
            for what, interval in WRONG.items() if number in (3, 5) else ():
                found = data_sets.coverage(np.random.default_rng(number), count, number, 3, between, interval)
                yield {"what": what, "setting": setting, "found": found, "of": count}
            if number > 2:
                held = data_sets.prediction_coverage(np.random.default_rng(number), count, number, 3, between)
                what = "prediction interval covers"
                yield {"what": f"{what}, measured", "setting": setting, "found": held["measured"], "of": count}
                yield {"what": f"{what}, true", "setting": setting, "found": held["true"], "of": count}
    for truths in (0.0, 0.01, 0.03):
        for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
            one = data_sets.calibration(np.random.default_rng(5), 4 * count, 5, 3, 0.01, truths, low, high)
            setting = f"5 data sets, said {low:.1f} to {high:.1f}, SD of means {100 * truths:g} points"
            yield {
                "what": "next data set is better", "setting": setting, "found": one.came_true, "of": one.cases,
                "said": one.said,
            }  # fmt: skip
    for number in (3, 5, 10):
        for variants in (3, 6):
            alarms = data_sets.rank_alarms(np.random.default_rng(number), count // 10, number, variants)
            setting = f"{number} data sets, {variants} variants alike"
            for name, found in alarms.items():
                yield {"what": f"false alarm of ranks, {name}", "setting": setting, "found": found, "of": count // 10}
