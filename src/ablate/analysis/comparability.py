"""Was a variant trained as its baseline was? Every realised value that differs is named.

Trainings that patience may end are compared by that rule, not by the epoch at which each ended (see `stops`).

The number of threads is not among them: it changes how a sum is rounded and how long it takes, and no more than that.
Neither is the module's own source, which is what the variants differ in; replicates share it by their identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ablate.records.code_version import PIXELS, result_code
from ablate.records.image_counts import in_words
from ablate.records.realised import Git, Realised
from ablate.records.trial_record import SHORT, TrialRecord

Realisation = str | int | float | bool | None
# Realised values that must agree, by title.
REALISED: dict[str, Callable[[Realised], Realisation]] = {
    "batch": lambda realised: realised.batch,
    "AMP": lambda realised: realised.amp,
    "epochs": lambda realised: realised.epochs,
    "early stop": lambda realised: realised.early_stop,
    "out-of-memory retries": lambda realised: realised.oom_retries,
    "image size": lambda realised: realised.imgsz,
    "optimizer": lambda realised: realised.optimizer,
    "orthogonalisation": lambda realised: realised.orthogonalise,
    "lr0": lambda realised: realised.lr0,
    "device": lambda realised: realised.device_name,
    "data fingerprint": lambda realised: realised.data_fingerprint,
}
FREE_BETWEEN_SEEDS = {"epochs", "early stop"}  # patience ends each seed when it will
# What older records lack, by title: compared where every record has it (read as None: it has not).
RECORDED_LATER: dict[str, Callable[[TrialRecord], Realisation]] = {
    # Patience may end a training while the number still grows, so it says nothing of one that it ended.
    "gradient accumulation": lambda trial: None if trial.realised.early_stop else trial.realised.accumulate,
    "inexact resume": lambda trial: None if trial.realised.resumed is None else trial.realised.resume_exact is False,
    "GPUs": lambda trial: trial.realised.gpus,
    "evaluation split": lambda trial: trial.metrics.split,
    "judged checkpoint": lambda trial: trial.metrics.checkpoint,
}

# What of the configuration a realised value follows from, and whether it must then be the very value configured.
CONFIGURED: dict[str, tuple[tuple[str, ...], bool]] = {
    "batch": (("train", "batch"), True),
    "AMP": (("train", "amp"), True),
    "epochs": (("train", "epochs"), True),
    "image size": (("train", "imgsz"), True),
    "optimizer": (("optimizer", "name"), True),
    "lr0": (("optimizer", "lr0"), True),
    "early stop": (("train", "patience"), False),
    "starting weights": (("model",), False),
    "data fingerprint": (("data",), False),
}
DATA_USED = "data used"
# What else of the configuration realised values follow from, any of it; with what is meant where it is not recorded.
CHOSEN_BY: dict[str, tuple[tuple[str, ...], ...]] = {
    DATA_USED: (("data",), ("train", "fraction"), ("train", "classes")),
    "gradient accumulation": (("train", "batch"), ("train", "nbs")),
    "evaluation split": (("train", "split"),),
    "orthogonalisation": (("optimizer", "name"), ("optimizer", "orthogonalise")),
}
UNRECORDED: dict[tuple[str, ...], str] = {("optimizer", "orthogonalise"): "auto"}


def differences(
    variant: Sequence[TrialRecord], baseline: Sequence[TrialRecord], *, by_design: bool = False
) -> list[str]:
    """Realised values in which two sets of finished trials differ, in words; empty when none does.

    A value that is recorded on one side only cannot be compared and counts as a difference.

    Args:
        variant: Trials of one variant, all with the same configuration but for seed and fold.
        baseline: Trials of the one that it is compared with, likewise.
        by_design: Leave out what differs because it was configured to, as components of a study are.
    """
    if any(trial.realised == Realised() for trial in [*variant, *baseline]):
        return ["realised recipe not recorded"]
    reasons = []
    for title, read in _readers([*variant, *baseline]).items():
        of_variant, of_baseline = _values(variant, read), _values(baseline, read)
        if title == DATA_USED:  # each fold has images of its own, and a side may lack a fold
            folds = {trial.fold for trial in variant} & {trial.fold for trial in baseline}
            of_variant, of_baseline = (
                _values([trial for trial in side if trial.fold in folds], read) for side in (variant, baseline)
            )
        intended = by_design or (title == "lr0" and _are_tuned([*variant, *baseline]))
        if of_variant != of_baseline and not (intended and _as_configured(title, variant, baseline)):
            reasons.append(f"{title} {_words(of_variant)} (baseline {_words(of_baseline)})")
    return reasons


def disagreements(replicates: Sequence[TrialRecord]) -> list[str]:
    """Realised values in which the replicates of one variant differ among themselves, in words."""
    reasons = []
    for title, read in _readers(replicates).items():
        values = _values(replicates, read)
        if title == DATA_USED:  # each fold has images of its own
            of_folds = [_values(trials, read) for trials in _by_fold(replicates)]
            values = frozenset[str]().union(*(of_fold for of_fold in of_folds if len(of_fold) > 1))
        if len(values) > 1 and title not in FREE_BETWEEN_SEEDS:
            reasons.append(f"replicates differ: {title} {_words(values)}")
    return reasons


def compared_titles(trials: Sequence[TrialRecord]) -> list[str]:
    """Titles of all realised values in which these trials are compared."""
    return list(_readers(trials))


def coverage(record: TrialRecord) -> str:
    """Starting weights of a trial: where from, and how many of the tensors that should arrive did."""
    weights = record.realised.weights
    source = (weights.sha256 or "")[:SHORT] or weights.source  # by content, wherever it lies
    if not source:
        return "none"
    if not weights.expected or weights.transferred is None:
        return f"{source}, coverage unknown"
    share = f"{100 * weights.transferred / weights.expected:.0f} %"
    return f"{source}, {'all' if weights.transferred == weights.expected else share}"


def _as_configured(title: str, variant: Sequence[TrialRecord], baseline: Sequence[TrialRecord]) -> bool:
    """Whether two sets of trials differ in a realised value because, and just as, they were configured to."""
    if title == "epochs" and _as_configured("early stop", variant, baseline):
        return True  # another patience is another number of epochs
    if title in CHOSEN_BY:
        return any(_configured(variant[0], path) != _configured(baseline[0], path) for path in CHOSEN_BY[title])
    path, exactly = CONFIGURED.get(title, ((), False))
    if not path or _configured(variant[0], path) == _configured(baseline[0], path):
        return False
    return not exactly or all(
        (title == "epochs" and trial.realised.early_stop)
        or _configured(trial, path) == _plain(REALISED[title](trial.realised))
        for trial in [*variant, *baseline]
    )


def _are_tuned(trials: Sequence[TrialRecord]) -> bool:
    """Whether each trial has the learning rate that the same tuning chose for its variant."""
    settings = {tuple(trial.setting("tuning", name) for name in ("trials", "epochs", "given")) for trial in trials}
    return len(settings) == 1 and None not in next(iter(settings))


def _configured(record: TrialRecord, path: Sequence[str]) -> object:
    """A setting of the configuration; what is meant where it is not recorded, None where nothing is."""
    setting = record.setting(*path)
    return _plain(UNRECORDED.get(tuple(path)) if setting is None else setting)


def _plain(setting: object) -> object:
    return setting.lower() if isinstance(setting, str) else setting


Reader = Callable[[TrialRecord], str]


def _readers(records: Sequence[TrialRecord]) -> dict[str, Reader]:
    """Title -> how to read the realised value of that title as text."""
    readers: dict[str, Reader] = {title: _reader(read) for title, read in REALISED.items()}
    if all(_may_end(record) is not None for record in records):
        readers["epochs"] = lambda record: _text(record.realised.epochs_asked)
        readers["early stop"] = lambda record: _may_end(record) or ""
    for title, read in RECORDED_LATER.items():
        if all(read(record) is not None for record in records):
            readers[title] = _later_reader(read)
    readers["data fingerprint"] = lambda record: (record.realised.data_fingerprint or "not recorded")[:SHORT]
    readers["starting weights"] = coverage
    readers["code"] = _code_reader(records)
    readers[DATA_USED] = lambda record: _of_fold(record) + in_words(records, record)
    packages = {name for record in records for name in record.realised.versions}
    if not all("opencv" in record.realised.versions for record in records):
        packages -= PIXELS.keys()
    readers |= {f"{name} version": _version_reader(name) for name in sorted(packages)}
    return readers


def _of_fold(record: TrialRecord) -> str:
    return "" if record.fold is None else f"fold {record.fold}: "


def _by_fold(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The trials of each fold; all together where there are none."""
    by_fold: dict[int | None, list[TrialRecord]] = {}
    for record in records:
        by_fold.setdefault(record.fold, []).append(record)
    return list(by_fold.values())


def stops(records: Sequence[TrialRecord]) -> str:
    """After how many epochs patience ended trainings, in words; empty where it ended none."""
    ended = [str(record.realised.epochs) for record in records if record.realised.early_stop]
    return f"patience ended {len(ended)} of {len(records)} trainings, after {', '.join(ended)} epochs" if ended else ""


def _may_end(record: TrialRecord) -> str | None:
    """By which rule patience may end a training; None where that is not known, or something else ended it."""
    realised, patience = record.realised, record.setting("train", "patience")
    if realised.epochs_asked is None or not isinstance(patience, int | float):
        return None
    if not realised.early_stop and realised.epochs != realised.epochs_asked:
        return None
    return f"after {patience:g} epochs without a better one" if 0 < patience < realised.epochs_asked else "off"


def _code_reader(records: Sequence[TrialRecord]) -> Reader:
    """How to read which code trained: by its content where all trials tell it, else by the commit of the checkout."""
    if all(record.realised.code for record in records):
        return lambda record: result_code(record.realised.code or "")[:SHORT]
    return _commit


def _commit(record: TrialRecord) -> str:
    git = record.realised.git or Git()
    return (f"commit {git.commit[:SHORT]}" if git.commit else "not recorded") + (" with changes" if git.dirty else "")


def _reader(read: Callable[[Realised], Realisation]) -> Reader:
    return lambda record: _text(read(record.realised))


def _later_reader(read: Callable[[TrialRecord], Realisation]) -> Reader:
    return lambda record: _text(read(record))


def _version_reader(package: str) -> Reader:
    return lambda record: record.realised.versions.get(package, "not recorded")


def _text(realised: Realisation) -> str:
    """A realised value as a reader sees it."""
    if realised is None:
        return "not recorded"
    if isinstance(realised, bool):
        return "on" if realised else "off"
    return str(realised)


def _values(records: Iterable[TrialRecord], read: Reader) -> frozenset[str]:
    return frozenset(read(record) for record in records)


def _words(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))
