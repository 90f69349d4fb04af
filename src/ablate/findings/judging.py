"""Which epochs the accuracies of a report are taken from, and whether that was decided before the results."""

from __future__ import annotations

from ablate.analysis.comparison import Comparison
from ablate.analysis.variants import is_measured
from ablate.settings.judge import BEST, LAST, SPLIT, epochs_of_mean, judge_words


def judge_remarks(comparison: Comparison) -> list[str]:
    """What is to be said of the judge; nothing where it is the best epoch, as declared."""
    sweep = comparison.sweep
    declared = sweep.manifest.analysis.judge
    if sweep.judge == declared == BEST:
        return []
    chosen = f", chosen after the results: the command declared judge={declared}" if sweep.judge_chosen_after else ""
    texts = [f"Accuracies are of the {judge_words(sweep.judge)} (judge={sweep.judge}){chosen}."]
    unmeasured = sum(record.status == "finished" and not is_measured(record, sweep.metric) for record in sweep.trials)
    if unmeasured and sweep.judge not in (BEST, LAST):
        texts.append(f"{unmeasured} finished trial{'s have' if unmeasured > 1 else ' has'} {_lack(sweep.judge)}.")
    if sweep.judge not in (BEST, LAST):
        texts.append(
            "Predictions are kept of the best and the last checkpoint only, so there are no intervals over images, and "
            "no accuracies of classes and sizes."
        )
    return texts


def _lack(judge: str) -> str:
    """What a trial without a number lacks."""
    if judge == SPLIT:
        return "no accuracies on the halves of the validation images, which older versions did not record"
    return f"fewer than {epochs_of_mean(judge)} evaluated epochs at the end"
