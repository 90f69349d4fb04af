"""Was the analysis declared before the results? A sweep keeps its declaration; one that came late is recorded.

Metric, judge, margin of equivalence and the rule that stops seeds are declared with the command that begins a sweep.
The same sweep takes no others once it has results. A new sweep may have any, also over trials of earlier ones: then its
manifest says which results were there (`LateDeclaration`), and so does every report.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache, partial
from pathlib import Path

from ablate.errors import ConfigError, count
from ablate.monitor.time_left import variant_of
from ablate.records.factor_levels import is_stock
from ablate.records.loading import DamagedRecordError, load_manifest, load_record
from ablate.records.sweep_record import NO_MARGIN, NO_STOP, AnalysisPlan, Design, LateDeclaration, SweepManifest
from ablate.records.trial_record import FINISHED, TrialRecord
from ablate.settings.signature import Identity
from ablate.storage.layout import SweepFolder
from ablate.storage.locking import held
from ablate.study.trial import Trial

HAS_RESULTS = "has results"


def check_declaration(folder: SweepFolder, earlier: SweepManifest, plan: AnalysisPlan, trials: Sequence[Trial]) -> None:
    """Refuse to declare a sweep anew that has results, or that another command runs.

    Args:
        folder: The sweep's.
        earlier: Its manifest, without trials where it has none yet.
        plan: What the command declares.
        trials: Of the command.

    Raises:
        ConfigError: It is another declaration; or seeds are added to a sweep of other variants.
    """
    before, name = earlier.analysis, folder.path.name
    changed = [(word, old) for word, old in zip(plan.words, before.words, strict=True) if word != old]
    variants = {variant_of(trial.identity.name) for trial in trials}
    is_other = plan.until is not None and (
        plan.tests != before.tests or not variants.issuperset(map(variant_of, earlier.names.values()))
    )
    if not (changed or is_other) or not (state := _state(folder, earlier)):
        return
    if not changed:
        raise ConfigError(
            f"sweep={name}: seeds are added to it until its variants are decided, and this command has other variants: "
            "they need another sweep=<name>"
        )
    root = trials[0].settings.command.root
    place = "" if root == "multirun" else f" {shlex.quote(f'root={root}')}"
    shown = [word for word, _ in changed if word != NO_MARGIN and not _is_of_stop(word)]
    ways = [
        "the command as it was declared goes on with it",
        "another sweep=<name> begins a new one, which says what results were there",
    ]
    if shown and state == HAS_RESULTS:
        ways.insert(
            0, f"python -m ablate report {name} {' '.join(shown)}{place} shows them, as chosen after the results"
        )
    new, old = (", ".join(words) for words in zip(*changed, strict=True))
    raise ConfigError(f"{new}: sweep {name} was declared with {old} and {state}. {'; '.join(ways)}")


def late_declarations(
    folder: SweepFolder,
    earlier: SweepManifest,
    plan: AnalysisPlan,
    finished: Sequence[Trial],
    design: Design | None,
    now: str,
) -> tuple[LateDeclaration, ...]:
    """Return what was declared of a sweep when results were there, by earlier commands and by this one.

    Results of baselines count as none: they say nothing of a difference. A declaration is not late either where an
    earlier sweep of this output folder declared the same of a trial before it ended.

    Args:
        folder: The sweep's.
        earlier: Its manifest, without trials where it has none yet.
        plan: What the command declares.
        finished: Trials of the command that have a result.
        design: Of components, where there is one.
        now: ISO time.
    """
    joining = [
        trial
        for trial in finished
        if trial.identity.signature not in earlier.signatures and not is_baseline(trial.identity, design)
    ]
    if not joining:
        return earlier.late
    sweeps = _sweeps_by_trial(folder, [trial.identity.signature for trial in joining])
    sweeps = {s: [*of_trial, *([earlier] if earlier.signatures else [])] for s, of_trial in sweeps.items()}
    ended = cache(_ended)
    words: dict[int, list[str]] = {}
    for word, default in zip(plan.words, AnalysisPlan().words, strict=True):
        if word in (NO_MARGIN, NO_STOP):  # without a margin no claim is made of it; for seeds see `earlier_looks`
            continue
        late = sum(
            _is_late(word, default, sweeps[trial.identity.signature], partial(ended, trial.folder)) for trial in joining
        )
        if late:
            words.setdefault(late, []).append(word)
    new = [LateDeclaration(words=tuple(each), date=now, trials=trials) for trials, each in words.items()]
    return (*earlier.late, *new)


def late_note(late: Sequence[LateDeclaration]) -> str:
    """What the terminal says of declarations that come late."""
    each = [f"{', '.join(one.words)} after the results of {count(one.trials, 'trial')}" for one in late]
    return f"declared {'; '.join(each)}: every table and report says so"


def is_baseline(trial: Identity | TrialRecord, design: Design | None) -> bool:
    """Tell whether variants are compared with this trial: it has no component, or changes nothing of the network."""
    marks = None if design is None else design.marks.get(trial.variant_key)
    return is_stock(trial.factors) if marks is None else not any(marks)


def _state(folder: SweepFolder, manifest: SweepManifest) -> str:
    """Return why a sweep cannot be declared anew; empty where it can."""
    trials = [folder.trial(signature) for signature in manifest.signatures]
    if any(_shows_difference(trial.path, manifest.design) for trial in trials):
        return HAS_RESULTS
    return "runs now" if any(held(trial.lock) for trial in trials) else ""


def _shows_difference(trial: Path, design: Design | None) -> bool:
    """Tell whether a trial has a result that says something of a difference; one that cannot be read may have."""
    try:
        record = load_record(trial)
    except FileNotFoundError:
        return False
    except DamagedRecordError:
        return True
    return record.status == FINISHED and not is_baseline(record, design)


def _sweeps_by_trial(folder: SweepFolder, signatures: Sequence[str]) -> dict[str, list[SweepManifest]]:
    """The other sweeps of the output folder that each trial is part of."""
    by_trial: dict[str, list[SweepManifest]] = {signature: [] for signature in signatures}
    for other in folder.root.sweep_folders():
        if other.path.name != folder.path.name:
            manifest = load_manifest(other)
            for signature in by_trial.keys() & set(manifest.signatures):
                by_trial[signature].append(manifest)
    return by_trial


def _is_late(word: str, default: str, sweeps: Sequence[SweepManifest], ended: Callable[[], datetime | None]) -> bool:
    """Tell whether a word was declared of a trial only after it had ended.

    What is true without a word counts as declared, unless a sweep of the trial declared something else.

    Args:
        word: As the command declares it.
        default: The same without any word.
        sweeps: That the trial is part of.
        ended: Returns when the trial had ended.
    """
    if word == default and all(word in sweep.analysis.words for sweep in sweeps):
        return False
    same = [sweep for sweep in sweeps if word in sweep.analysis.words and word not in sweep.late_words]
    time = ended() if same else None
    return not any(time and (created := _time(sweep.created)) and created <= time for sweep in same)


def _ended(trial: Path) -> datetime | None:
    """When a trial ended, by its record; None where that is not known."""
    try:
        return _time(load_record(trial).finished)
    except (FileNotFoundError, DamagedRecordError):
        return None


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text or "").astimezone()
    except ValueError:
        return None


def _is_of_stop(word: str) -> bool:
    return word == NO_STOP or word.startswith("until=")
