"""Was a variant trained as its baseline was? Every realised value that differs is named.

The number of threads is not among them: it changes how a sum is rounded and how long it takes, and no more than that.
Neither is the module's own source, which is what the variants differ in; replicates share it by their identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ablate.records.code_version import result_code
from ablate.records.image_counts import in_words
from ablate.records.realised import Realised
from ablate.records.records import SHORT, Record, mapping, number, value
from ablate.records.trial_record import TrialRecord

REALISED = {
    "batch": "batch",
    "amp": "AMP",
    "epochs": "epochs",
    "early_stop": "early stop",
    "oom_retries": "out-of-memory retries",
    "imgsz": "image size",
    "optimizer": "optimizer",
    "orthogonalise": "orthogonalisation",
    "lr0": "lr0",
    "device_name": "device",
    "data_fingerprint": "data fingerprint",
}
FREE_BETWEEN_SEEDS = {"epochs", "early stop"}  # patience ends each seed when it will

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
    "orthogonalisation": (("optimizer", "name"), ("optimizer", "orthogonalise")),
}
UNRECORDED: dict[tuple[str, ...], str] = {("optimizer", "orthogonalise"): "auto"}


def differences(variant: Sequence[Record], baseline: Sequence[Record], *, by_design: bool = False) -> list[str]:
    """Realised values in which two sets of finished trials differ, in words; empty when none does.

    A value that is recorded on one side only cannot be compared and counts as a difference.

    Args:
        variant: Trials of one variant, all with the same configuration but for the seed.
        baseline: Trials of the one that it is compared with, likewise.
        by_design: Leave out what differs because it was configured to, as components of a study are.
    """
    if not all(_has_recipe(record) for record in [*variant, *baseline]):
        return ["realised recipe not recorded"]
    reasons = []
    for title, read in _readers([*variant, *baseline]).items():
        of_variant, of_baseline = _values(variant, read), _values(baseline, read)
        if of_variant != of_baseline and not (by_design and _as_configured(title, variant, baseline)):
            reasons.append(f"{title} {_words(of_variant)} (baseline {_words(of_baseline)})")
    return reasons


def _has_recipe(record: Record) -> bool:
    return isinstance(record, TrialRecord) and record.realised != Realised()


def disagreements(replicates: Sequence[Record]) -> list[str]:
    """Realised values in which the replicates of one variant differ among themselves, in words."""
    reasons = []
    for title, read in _readers(replicates).items():
        values = _values(replicates, read)
        if len(values) > 1 and title not in FREE_BETWEEN_SEEDS:
            reasons.append(f"replicates differ: {title} {_words(values)}")
    return reasons


def coverage(record: Record) -> str:
    """Starting weights of a trial: where from, and how many of the tensors that should arrive did."""
    weights = mapping(record, "realised", "weights")
    source = str(weights.get("sha256") or "")[:SHORT] or weights.get("source")  # by content, wherever it lies
    if not source:
        return "none"
    expected, transferred = number(weights, "expected"), number(weights, "transferred")
    if not expected or transferred is None:
        return f"{source}, coverage unknown"
    share = f"{100 * transferred / expected:.0f} %"
    return f"{source}, {'all' if transferred == expected else share}"


def _as_configured(title: str, variant: Sequence[Record], baseline: Sequence[Record]) -> bool:
    """Whether two sets of trials differ in a realised value because, and just as, they were configured to."""
    if title == "epochs" and _as_configured("early stop", variant, baseline):
        return True  # another patience is another number of epochs
    if title in CHOSEN_BY:
        return any(_configured(variant[0], path) != _configured(baseline[0], path) for path in CHOSEN_BY[title])
    path, exactly = CONFIGURED.get(title, ((), False))
    if not path or _configured(variant[0], path) == _configured(baseline[0], path):
        return False
    key = next((key for key, name in REALISED.items() if name == title), "")
    return not exactly or all(
        _configured(record, path) == _plain(value(record, "realised", key)) for record in [*variant, *baseline]
    )


def _configured(record: Record, path: Sequence[str]) -> Any:
    configured = value(record, "config", *path)
    return _plain(UNRECORDED.get(tuple(path)) if configured is None else configured)


def _plain(setting: Any) -> Any:
    return setting.lower() if isinstance(setting, str) else setting


Reader = Callable[[Record], str]


def _readers(records: Sequence[Record]) -> dict[str, Reader]:
    """Title -> how to read the realised value of that title as text."""
    readers: dict[str, Reader] = {title: _reader("realised", key) for key, title in REALISED.items()}
    readers["starting weights"] = coverage
    readers["code"] = _code_reader(records)
    readers[DATA_USED] = lambda record: in_words(records, record)
    packages = {name for record in records for name in mapping(record, "realised", "versions")}
    readers |= {f"{name} version": _reader("realised", "versions", name) for name in sorted(packages)}
    return readers


def _code_reader(records: Sequence[Record]) -> Reader:
    """How to read which code trained: by its content where all trials tell it, else by the commit of the checkout."""
    if all(value(record, "realised", "code") for record in records):
        return lambda record: result_code(str(value(record, "realised", "code")))[:SHORT]
    return _commit


def _commit(record: Record) -> str:
    commit, dirty = (value(record, "realised", "git", name) for name in ("commit", "dirty"))
    return (f"commit {str(commit)[:SHORT]}" if commit else "not recorded") + (" with changes" if dirty else "")


def _reader(*path: str) -> Reader:
    return lambda record: _text(value(record, *path), path[-1])


def _text(realised: Any, key: str) -> str:
    """A realised value as a reader sees it."""
    if realised is None:
        return "not recorded"
    if isinstance(realised, bool):
        return "on" if realised else "off"
    return str(realised)[:SHORT] if key == "data_fingerprint" else str(realised)


def _values(records: Iterable[Record], read: Reader) -> frozenset[str]:
    return frozenset(read(record) for record in records)


def _words(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))
