"""Which epochs the accuracies of a report are taken from, and whether that was decided before the results."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.comparison import Comparison
from ablate.analysis.image_groups import AUTO, groups_for
from ablate.analysis.phrases import count, joined, listed
from ablate.analysis.variants import is_measured
from ablate.data.data_errors import DataError
from ablate.records.class_names import class_names
from ablate.records.judged import IN_WHOLE_GROUPS
from ablate.records.realised import Halves
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord
from ablate.settings.judge import BEST, LAST, SPLIT, epochs_of_mean, judge_words

MOST = 6  # classes that are named


def judge_remarks(comparison: Comparison) -> list[str]:
    """What is to be said of the judge; nothing where it is the best epoch, as declared."""
    sweep = comparison.sweep
    declared = sweep.manifest.analysis.judge
    if sweep.judge == declared == BEST:
        return []
    chosen = f", chosen after the results: the command declared judge={declared}" if sweep.judge_chosen_after else ""
    texts = [f"Accuracies are of the {judge_words(sweep.judge)} (judge={sweep.judge}){chosen}."]
    if sweep.judge == SPLIT:
        texts += _halves_remarks(sweep)
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


def _halves_remarks(sweep: Sweep) -> list[str]:
    """Whether images of one group are in one half, and which classes a half lacks; of each data set once."""
    by_data: dict[str, list[TrialRecord]] = {}
    for record in sweep.trials:
        if is_measured(record, sweep.metric):
            by_data.setdefault(record.data.name if record.data else "", []).append(record)
    texts = []
    for data, trials in by_data.items():
        lead = f"Data {data}: " if len(by_data) > 1 and data else ""
        texts += [f"{lead}{text}" for text in (_of_groups(sweep, trials), *_of_classes(trials)) if text]
    return texts


def _of_groups(sweep: Sweep, trials: Sequence[TrialRecord]) -> str:
    """How the halves treat images that belong together; empty where no groups are known."""
    with_groups = [trial for trial in trials if trial.realised.group_halves is not None]
    if all(trial.metrics.checkpoint == IN_WHOLE_GROUPS for trial in trials):
        sizes = {halves.images for trial in trials if (halves := _halves_of(trial)) is not None}
        return f"Images of one group are in one half of the validation images{_sizes(sizes)}."
    if with_groups:
        divided = max(t.realised.halves.divided or 0 for t in with_groups if t.realised.halves)
        before = len(trials) - len(with_groups)
        why = f"{count(before, 'trial')} of {len(trials)} began before the groups of images were known"
        why = why if before else "the groups of images were not the same for all trials"
        return f"Halves are of single images, as {why}; {count(divided, 'group has', 'groups have')} images in both."
    try:
        groups = groups_for(sweep, trials[0])
    except DataError:
        return ""
    if groups is None and sweep.groups == AUTO:
        return "Whether some validation images belong together is not known: python -m ablate data audit finds out."
    if groups is None or len(set(groups.groups.values())) == len(groups.groups):
        return ""
    return (
        "Halves are of single images, because the groups of images were not known when the trials were trained, or all "
        "images are one group; images of one group may be in both."
    )


def _sizes(sizes: set[tuple[int, int]]) -> str:
    return f" ({' and '.join(map(str, next(iter(sizes))))} images)" if len(sizes) == 1 else ""


def _halves_of(trial: TrialRecord) -> Halves | None:
    in_groups = trial.metrics.checkpoint == IN_WHOLE_GROUPS
    return trial.realised.group_halves if in_groups else trial.realised.halves


def _of_classes(trials: Sequence[TrialRecord]) -> list[str]:
    """Which classes have objects in one half of the images only."""
    halves = [(trial, one) for trial in trials if (one := _halves_of(trial)) is not None]
    texts = []
    for number, which in enumerate(("first", "second")):
        missing = dict.fromkeys(
            class_names(trial.data.classes)[index].label
            for trial, one in halves
            for index in one.lacking[number]
            if trial.data is not None and index < len(trial.data.classes)
        )
        if missing:
            texts.append(f"the {which} half has no object of {listed(missing, MOST)}")
    if not texts:
        return []
    text = joined(texts)
    if any(trial.fold is not None for trial, _ in halves):  # each fold has halves of its own
        text = f"in one fold or several {text}"
    return [f"{text[0].upper()}{text[1:]}, so that accuracies of the halves are means over different classes."]
