"""`judge`: which epochs of a training its accuracy is taken from.

The best epoch is chosen on the very images that it is then judged on, so that of two equally good variants the one
with the noisier curve has the better best epoch. The other judges choose no epoch by the images that they use.
"""

from __future__ import annotations

import re

from ablate.errors import ConfigError

BEST, LAST, SPLIT = "best", "last", "split"
JUDGE = r"^(best|last|split|mean_last_[1-9][0-9]{0,3})$"
VALID = "best, last, split, mean_last_<k> (such as mean_last_5: the mean over the last 5 epochs)"


def check_judge(judge: str) -> None:
    """Check the name of a judge.

    Raises:
        ConfigError: There is none of this name.
    """
    if not re.search(JUDGE, judge) or judge.endswith("\n"):
        raise ConfigError(f"judge={judge}: valid: {VALID}")


def epochs_of_mean(judge: str) -> int | None:
    """How many epochs a judge takes the mean of; None for one that takes no mean."""
    return int(judge.removeprefix("mean_last_")) if judge.startswith("mean_last_") else None


def judge_words(judge: str) -> str:
    """What a judge takes the accuracy from, in words that follow "the accuracy of the"."""
    if (epochs := epochs_of_mean(judge)) is not None:
        return "last epoch" if epochs == 1 else f"mean of the last {epochs} epochs"
    return {BEST: "best epoch", LAST: "last epoch", SPLIT: "best epoch, chosen and judged on different images"}[judge]
