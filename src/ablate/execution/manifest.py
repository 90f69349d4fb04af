"""The folder of a sweep: its name, and the manifest that says which trials it consists of."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from ablate.execution.declarations import check_declaration, late_declarations
from ablate.execution.earlier_looks import earlier_looks
from ablate.records.factor_levels import STOCK
from ablate.records.loading import load_manifest, manifest_so_far, save_manifest
from ablate.records.store_address import without_account
from ablate.records.sweep_record import AnalysisPlan, Control, Design, LateDeclaration, SweepManifest, TunedRate
from ablate.records.trial_record import FINISHED
from ablate.redaction import without_secrets
from ablate.settings.metric import MAP50_95
from ablate.storage.confined import refuse_links
from ablate.storage.layout import OutputFolder, SweepFolder
from ablate.study.trial import Trial


def sweep_folder(trials: Sequence[Trial], controls: Mapping[str, Control], plan: AnalysisPlan) -> SweepFolder:
    """Return the place of a command's sweep, which may not be there yet; arguments as in `open_sweep`."""
    command = trials[0].settings.command
    joined = {signature for control in controls.values() for signature in control.signatures}
    return OutputFolder(Path(command.root).absolute()).sweep(command.sweep or sweep_name(trials, joined, plan))


def sweep_name(trials: Sequence[Trial], joined: Collection[str] = (), plan: AnalysisPlan | None = None) -> str:
    """Return the name of a sweep's folder: its factors, and a hash of its trials; the same for the same command.

    Args:
        trials: All trials of the sweep; with the first seed, where seeds are added until every variant is decided.
        joined: Signatures of those that joined as controls, whose factors the name leaves out.
        plan: What was declared of its analysis; where seeds are added another plan is another sweep.
    """
    levels: dict[str, list[str]] = {}
    for trial in [trial for trial in trials if trial.identity.signature not in joined] or trials:
        for factor, level in trial.identity.factors.items():
            if level not in levels.setdefault(factor, []):
                levels[factor].append(level)
    grafted = dict.fromkeys(name for level in levels["module"] for name in level.split("+") if name != "none")
    changed = [level for factor in STOCK for level in levels.get(factor, [])]  # losses and heads
    modules = [*grafted, *changed] or ["baseline"]
    parts = ((modules, 48), (levels["data"], 24), (levels["model"], 24))
    readable = "_".join("+".join(names)[:most].encode()[: 2 * most].decode(errors="ignore") for names, most in parts)
    readable = re.sub(r"[^\w.+@=-]+", "_", readable)  # a data file may have any name
    declared = [] if plan is None or plan.until is None else _declared(plan)
    return f"{readable}_{digest([*(trial.identity.signature for trial in trials), *declared])[:6]}"


def _declared(plan: AnalysisPlan) -> list[str]:
    """Return what is declared of a sweep whose seeds are added, in words that stay what they were."""
    words = ("delta", "judge", "until", "max_seeds", "first_seed")
    first = ", ".join(f"{word}={getattr(plan, word)!r}" for word in words)
    other_metric = [] if plan.primary is MAP50_95 else [f"metric={plan.metric}"]
    return [f"AnalysisPlan({first}, budget=None, tests={plan.tests!r})", *other_metric]


def open_sweep(
    trials: Sequence[Trial],
    command: Sequence[str],
    design: Design | None = None,
    controls: Mapping[str, Control] | None = None,
    ignored: list[str] | None = None,
    plan: AnalysisPlan | None = None,
    tuned: Mapping[str, TunedRate] | None = None,
    finished: Sequence[Trial] = (),
) -> SweepFolder:
    """Write the manifest of a sweep; return the sweep's folder.

    Args:
        trials: All trials of the sweep; with the first seed, where seeds are added until every variant is decided.
        command: The command line's words; `retry=` is left out, because it is meant once, and so are user and password
            of addresses, because a manifest is not secret.
        design: Of components, where there is one (see `ablate.study.designs`).
        controls: By variant key (see `ablate.study.control_trials`).
        ignored: Takes in words what of an earlier manifest could not be read.
        plan: What was declared of its analysis.
        tuned: By variant key, the learning rates that short trials have chosen.
        finished: Trials of the sweep that have a result.

    Raises:
        ConfigError: The folder, or its log, is a link; or the sweep has results and was declared otherwise.
    """
    settings = trials[0].settings.command
    tracking = settings.tracking
    controls = controls or {}
    plan = plan or AnalysisPlan(delta=settings.delta, judge=settings.judge, metric=settings.metric)
    folder = sweep_folder(trials, controls, plan)
    name = folder.path.name
    refuse_links([folder.path, folder.driver_log])
    earlier, now = _earlier(folder, plan, trials, ignored), _now()
    members = [*trials, *finished]  # where seeds are added, `trials` are of the first one
    names = {**earlier.names, **{t.identity.signature: t.identity.name for t in members}}
    signatures = _signatures(earlier, plan, members)
    manifest = SweepManifest(
        name=name,
        command=f"python -m ablate {shlex.join(_words_to_repeat(command))}",
        signatures=signatures,
        names=names,
        created=(plan.words == earlier.analysis.words and earlier.created) or now,  # the date of what is declared
        tracking=asdict(replace(tracking, uri=tracking.uri and without_account(tracking.uri))),
        latency=asdict(settings.latency),
        strict=settings.strict,
        mlflow_run_id=earlier.mlflow_run_id,
        controls=_merged(earlier.controls, controls) if settings.sweep else dict(controls),
        design=design,
        analysis=plan,
        spent_seconds=earlier.spent_seconds,
        looks=_looks(folder, earlier, plan, trials),
        tuned={**(earlier.tuned if settings.sweep else {}), **(tuned or {})},
        late=late_declarations(folder, earlier, plan, finished, design, now),
    )
    save_manifest(folder, manifest)
    return folder


class Declared(NamedTuple):
    """What is to be said of a command's declaration; attributes as those of `SweepManifest`."""

    late: tuple[LateDeclaration, ...]
    looks: tuple[int, ...]


def declared(
    trials: Sequence[Trial],
    controls: Mapping[str, Control],
    design: Design | None,
    plan: AnalysisPlan,
    finished: Sequence[Trial],
) -> Declared:
    """Return what `open_sweep` would record of the declaration; it has the same arguments.

    Raises:
        ConfigError: The sweep has results and was declared otherwise.
    """
    folder = sweep_folder(trials, controls, plan)
    earlier = _earlier(folder, plan, trials)
    late = late_declarations(folder, earlier, plan, finished, design, _now())
    return Declared(late, _looks(folder, earlier, plan, trials))


def _signatures(earlier: SweepManifest, plan: AnalysisPlan, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the trials of a sweep: a named one, and one whose seeds are added, grows with each command."""
    before = earlier.signatures if trials[0].settings.command.sweep or plan.until else ()
    return tuple(dict.fromkeys([*before, *(trial.identity.signature for trial in trials)]))


def _looks(folder: SweepFolder, earlier: SweepManifest, plan: AnalysisPlan, trials: Sequence[Trial]) -> tuple[int, ...]:
    """Return with how many seeds the comparison was reported before; none where looks are part of the rule."""
    if plan.until:
        return ()
    signatures = _signatures(earlier, plan, trials)
    if set(signatures) == set(earlier.signatures) and folder.report("html").is_file():
        return earlier.looks  # what others looked at after its report changes nothing of it
    names = {**earlier.names, **{trial.identity.signature: trial.identity.name for trial in trials}}
    return earlier_looks(folder, {s: names[s] for s in signatures if s in names})


def _earlier(
    folder: SweepFolder, plan: AnalysisPlan, trials: Sequence[Trial], ignored: list[str] | None = None
) -> SweepManifest:
    """Return the manifest of earlier commands, which has no trials where the sweep begins; arguments as `open_sweep`.

    Raises:
        ConfigError: The sweep has results and was declared otherwise.
    """
    damage: list[str] = []
    earlier = manifest_so_far(folder, damage)
    if ignored is not None:
        ignored += damage
    if not damage:  # else its declaration may be what is lost
        check_declaration(folder, earlier, plan, trials)
    if plan.words != earlier.analysis.words and (plan.until or earlier.analysis.until):  # seeds of another rule
        return SweepManifest(signatures=(), mlflow_run_id=earlier.mlflow_run_id)
    return earlier


def _words_to_repeat(command: Sequence[str]) -> list[str]:
    """Return the words of a command as its manifest has them."""
    return [
        without_account(word) if word.lstrip("+").startswith("tracking") else without_secrets(word)
        for word in command
        if not word.startswith("retry=")
    ]


def keep_trials(folder: SweepFolder, trials: Sequence[Trial], spent: float) -> None:
    """Write which trials a sweep consists of now, and the seconds that it took.

    Args:
        folder: Of a sweep whose seeds are added until every variant is decided.
        trials: All of them.
        spent: Wall-clock time of its commands.
    """
    manifest = load_manifest(folder)
    joining = [trial for trial in trials if trial.identity.signature not in manifest.signatures]
    finished = [trial for trial in joining if (record := trial.record()) and record.status == FINISHED]
    late = late_declarations(folder, manifest, manifest.analysis, finished, manifest.design, _now())
    by_key: dict[str, list[str]] = {}
    for trial in trials:
        by_key.setdefault(trial.identity.variant_key, []).append(trial.identity.signature)
    controls = {
        key: msgspec.structs.replace(control, signatures=tuple(by_key.get(key, ()))) if control.signatures else control
        for key, control in manifest.controls.items()
    }
    names = {trial.identity.signature: trial.identity.name for trial in trials}
    kept = msgspec.structs.replace(
        manifest, signatures=tuple(names), names=names, controls=controls, spent_seconds=round(spent, 1), late=late
    )
    save_manifest(folder, kept)


def _merged(before: Mapping[str, Control], controls: Mapping[str, Control]) -> dict[str, Control]:
    """Return the controls of a named sweep with those of a further command."""
    merged = dict(before)
    for key, control in controls.items():
        earlier = before[key].signatures if key in before else ()
        signatures = tuple(dict.fromkeys([*earlier, *control.signatures]))
        ratios = {**(before[key].gflops_ratios if key in before else {}), **control.gflops_ratios}
        latencies = {**(before[key].latency_ratios if key in before else {}), **control.latency_ratios}
        merged[key] = msgspec.structs.replace(
            control, signatures=signatures, gflops_ratios=ratios, latency_ratios=latencies
        )
    return merged


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest(words: Iterable[str]) -> str:
    """Return a hash of words in any order, hex."""
    return hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()
