"""`until=decided`: seeds are added while a sweep runs, until every variant is decided, or may not get more.

Free slots get the next seed of the variants that are undecided, and of their baselines. What is decided follows from
the records alone, in the order of the seeds (`ablate.analysis.looks`), so a command that was killed decides the same
when it is repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from rich.console import Console

from ablate.analysis.looks import Looks, looks_of
from ablate.console import print_line
from ablate.errors import ConfigError, count
from ablate.execution.declarations import is_baseline
from ablate.execution.manifest import keep_trials
from ablate.execution.reconcile import Job, reconcile
from ablate.records.failures import retried
from ablate.records.judged import judged_record
from ablate.records.sweep_record import AnalysisPlan, Control, Design
from ablate.records.trial_record import FAILED, Record
from ablate.settings.budget import seconds_of
from ablate.settings.metric import METRICS
from ablate.statistics.sequential import FIRST_LOOK
from ablate.statistics.verdict import Verdict
from ablate.storage.layout import SweepFolder
from ablate.study.trial import Trial

KEPT_EVERY = 10.0  # seconds between two records of the time that was spent: a killed command forgets no more

logger = logging.getLogger(__name__)


@dataclass
class Arm:
    """A variant and its trials.

    Attributes:
        first: With the first seed.
        trials: By seed, those that are part of the sweep so far.
        records: By seed, of the trials that have ended.
    """

    first: Trial
    trials: dict[int, Trial] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)

    def add(self, seed: int) -> Trial:
        """Return its trial with this seed, which is part of the sweep from now on."""
        trial = self.first
        if seed != trial.identity.seed:
            seeded = Trial.of(replace(trial.settings, seed=seed), trial.data)
            trial = replace(seeded, identity=seeded.identity.called(trial.identity.variant))
        self.trials[seed] = trial
        self.read(seed)
        return trial

    def add_again(self, members: Collection[str], end: int) -> None:
        """Add the trials that an earlier command ran ahead of a decision, so that its report keeps them.

        Args:
            members: Signatures of the sweep's trials so far.
            end: The first seed that is not the sweep's.
        """
        for seed in range(max(self.trials) + 1, end):
            if self.add(seed).identity.signature not in members or seed not in self.records:
                del self.trials[seed]
                self.records.pop(seed, None)
                return

    def read(self, seed: int) -> None:
        """Read the record of its trial with this seed, if it is there and stays."""
        trial = self.trials[seed]
        record, command = trial.record(), trial.settings.command
        if record is not None and not (record.status == FAILED and retried(record.failure, command.retry)):
            self.records[seed] = judged_record(record, command.judge, METRICS[command.metric])


@dataclass(frozen=True)
class Paired:
    """A variant and the baseline that it is compared with, by key; `by_design` as in `looks_of`."""

    variant: str
    baseline: str
    by_design: bool


def analysis_plan(trials: Sequence[Trial], design: Design | None, controls: Mapping[str, Control]) -> AnalysisPlan:
    """Return what a command declares of its analysis.

    Args:
        trials: All of the command, with its first seed where seeds are added.
        design: Of components, where there is one.
        controls: By variant key.

    Raises:
        ConfigError: Seeds are to be added, and a variant has nothing to be compared with.
    """
    command = trials[0].settings.command
    plan = AnalysisPlan(delta=command.delta, judge=command.judge, metric=command.metric)
    if command.until is None:
        return plan
    tests = len(comparisons({trial.identity.variant_key: trial for trial in trials}, design, controls))
    if not tests:
        raise ConfigError("until=decided: no variant has a baseline that it could be better or worse than")
    return msgspec.structs.replace(
        plan,
        until=command.until,
        max_seeds=command.max_seeds,
        first_seed=trials[0].identity.seed,
        budget=None if command.budget is None else seconds_of(command.budget),
        tests=tests,
    )


def comparisons(trials: Mapping[str, Trial], design: Design | None, controls: Mapping[str, Control]) -> list[Paired]:
    """Return which variant is compared with which, as a report does; the variants that are compared come in order.

    Args:
        trials: One of each variant, by its key.
        design: Of components, where there is one.
        controls: By variant key.
    """
    marks = design.marks if design else {}
    groups: dict[str, list[str]] = {}
    own = {trial.identity.comparison_key for key, trial in trials.items() if key not in controls}
    for key, trial in trials.items():
        group = trial.identity.comparison_key
        if key in marks and design is not None:
            groups.setdefault(f"study {design.studies.get(key, 0)}", []).append(key)
        elif key not in controls or (group != controls[key].comparison_key and group in own):
            groups.setdefault(group, []).append(key)
    found: list[Paired] = []
    baselines: dict[str, str] = {}
    for group, members in groups.items():
        stock = [key for key in members if is_baseline(trials[key].identity, design)]
        if stock:
            baselines |= {trials[key].identity.comparison_key: stock[0] for key in members} | {group: stock[0]}
            found += [Paired(key, stock[0], key in marks) for key in members if key != stock[0]]
    for key, control in controls.items():
        baseline = baselines.get(control.comparison_key)
        if key in trials and baseline is not None and baseline != key:
            found.append(Paired(key, baseline, control.differs_by_design))
    return found


class SequentialSweep:
    """The variants of a sweep whose seeds are added; a `scheduler.Queue`.

    Args:
        trials: One of each variant, with the first seed, in the order in which they are to run.
        plan: What the command declared.
        design: Of components, where there is one.
        controls: By variant key.
        clock: A clock in seconds that never goes back.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        plan: AnalysisPlan,
        design: Design | None = None,
        controls: Mapping[str, Control] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        firsts = {trial.identity.variant_key: trial for trial in trials}
        self._plan = plan
        self._paired = comparisons(firsts, design, controls or {})
        compared = {key for pair in self._paired for key in (pair.variant, pair.baseline)}
        self._arms = {key: Arm(trial) for key, trial in firsts.items() if key in compared}
        self._left_out = [trial.identity.variant for key, trial in firsts.items() if key not in compared]
        self._looks: dict[Paired, Looks] = {}
        self._waiting: set[str] = set()  # signatures of trials that wait or run
        self._clock, self._began, self._spent, self._kept = clock, clock(), 0.0, clock()
        self._folder: SweepFolder | None = None
        self._console: Console | None = None
        self._slots: Callable[[], int] = lambda: 1
        for seed in range(plan.first_seed, plan.first_seed + FIRST_LOOK):
            for arm in self._arms.values():
                arm.add(seed)
        self._take_what_is_there()

    @property
    def trials(self) -> list[Trial]:
        """All trials of the sweep so far, seed by seed."""
        seeds = sorted({seed for arm in self._arms.values() for seed in arm.trials})
        return [arm.trials[seed] for seed in seeds for arm in self._arms.values() if seed in arm.trials]

    @property
    def is_out_of_budget(self) -> bool:
        """Whether no further trial may start."""
        return self._plan.budget is not None and self.spent >= self._plan.budget

    @property
    def spent(self) -> float:
        """Wall-clock seconds of the sweep's commands."""
        return self._spent + self._clock() - self._began

    @property
    def has_open_variants(self) -> bool:
        """Whether any variant needs a further seed."""
        return bool(self._undecided())

    def begin(self, spent: float, slots: Callable[[], int], members: Collection[str] = ()) -> list[Trial]:
        """Return the trials of the sweep: those that have ended, and those that run first.

        Args:
            spent: Seconds of earlier commands.
            slots: Returns how many trials run at a time.
            members: Signatures of the sweep's trials so far.
        """
        self._spent, self._slots = spent, slots
        for arm in self._arms.values():
            arm.add_again(members, self._end)
        self._remove([trial for trial in self.trials if not self._has_ended(trial) and not self.is_due(trial)])
        self._waiting = {trial.identity.signature for trial in self.trials if not self._has_ended(trial)}
        self._next()
        return self.trials

    def open(self, folder: SweepFolder, console: Console) -> None:
        """Say what is known already; keep all that follows in the sweep's folder.

        Args:
            folder: The sweep's.
            console: Where looks are told.
        """
        self._folder, self._console = folder, console
        for name in self._left_out:
            self._tell(f"until=decided: {name} has no baseline in this sweep: it is not run")
        for pair, looks in self._looks.items():
            if looks.made or looks.has_ended:
                self._tell(f"so far: {self._words(pair)}")
        if self.is_out_of_budget:
            self._tell("the budget is used up: no further trial starts; a larger budget= goes on")
        self._keep()

    def ended(self, trial: Trial) -> list[Job]:
        """Look at the seeds so far; return the trials that free slots get next."""
        arm, seed = self._arms[trial.identity.variant_key], trial.identity.seed
        self._waiting.discard(trial.identity.signature)
        arm.read(seed)
        before = dict(self._looks)
        self._look()
        fresh = [pair for pair in self._paired if self._looks[pair] != before.get(pair)]
        ended = [pair for pair in fresh if len(self._looks[pair].made) > len(before.get(pair, Looks()).made)]
        if ended:
            last = max(len(self._looks[pair].differences) for pair in ended) + self._plan.first_seed - 1
            self._tell(f"after seed {last}: {', '.join(self._words(pair) for pair in ended)}")
        for pair in fresh:
            if pair not in ended and self._looks[pair].has_ended:
                self._tell(self._words(pair))
        jobs = self._next()
        self._keep()
        return jobs

    def is_due(self, trial: Trial) -> bool:
        """Tell whether a trial that waits is still to run; also keeps the time that was spent."""
        if self._clock() - self._kept > KEPT_EVERY:
            self._keep()
        due = not self.is_out_of_budget and trial.identity.variant_key in self._undecided()
        if not due and trial.identity.signature in self._waiting:
            self._remove([trial])
        return due

    def close(self) -> None:
        """Record the time that was spent, and say how every variant has ended."""
        self._keep()
        if self.is_out_of_budget and self._undecided():
            self._tell("the budget is used up")
        run = sum(len(arm.records) for arm in self._arms.values())
        most = self._plan.max_seeds * len(self._arms)
        self._tell(f"{count(run, 'trial')} of at most {most}: {', '.join(map(self._words, self._paired))}")

    def _take_what_is_there(self) -> None:
        """Add seeds that are on disk from earlier commands, as far as a decision needs them."""
        while True:
            self._look()
            added = False
            for key in self._undecided():
                arm = self._arms[key]
                seed = max(arm.trials) + 1
                if seed < self._end and all(earlier in arm.records for earlier in arm.trials):
                    arm.add(seed)
                    added |= seed in arm.records
                    if seed not in arm.records:
                        del arm.trials[seed]
            if not added:
                return

    @property
    def _end(self) -> int:
        return self._plan.first_seed + self._plan.max_seeds

    def _look(self) -> None:
        for pair in self._paired:
            variant, baseline = self._arms[pair.variant], self._arms[pair.baseline]
            if pair not in self._looks or not self._looks[pair].has_ended:
                self._looks[pair] = looks_of(variant.records, baseline.records, self._plan, by_design=pair.by_design)

    def _undecided(self) -> list[str]:
        """Keys of the variants that need further seeds, and of their baselines, in order."""
        undecided = [pair for pair in self._paired if not self._looks[pair].has_ended]
        needed = {key for pair in undecided for key in (pair.variant, pair.baseline)}
        return [key for key in self._arms if key in needed]

    def _next(self) -> list[Job]:
        """Return the trials for the slots that are free: the lowest seeds of what is undecided."""
        jobs: list[Job] = []
        while self._undecided() and not self.is_out_of_budget and len(self._waiting) < self._slots():
            open_arms = [
                self._arms[key] for key in self._undecided() if max(self._arms[key].trials) < self._furthest(key)
            ]
            if not open_arms:
                break
            arm = min(open_arms, key=lambda arm: max(arm.trials))
            seed = max(arm.trials) + 1
            trial = arm.add(seed)
            if seed in arm.records:  # trained by another command meanwhile
                self._look()
                continue
            self._waiting.add(trial.identity.signature)
            jobs += reconcile([trial]).jobs
        return jobs

    def _furthest(self, key: str) -> int:
        """Last seed that a variant may be trained with now: one beyond that of the look that is waited for."""
        pairs = [pair for pair in self._paired if key in (pair.variant, pair.baseline)]
        made = max(len(self._looks[pair].differences) for pair in pairs if not self._looks[pair].has_ended)
        return min(self._plan.first_seed + max(made, FIRST_LOOK - 1) + 1, self._end - 1)

    def _remove(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._waiting.discard(trial.identity.signature)
            self._arms[trial.identity.variant_key].trials.pop(trial.identity.seed, None)

    def _has_ended(self, trial: Trial) -> bool:
        return trial.identity.seed in self._arms[trial.identity.variant_key].records

    def _keep(self) -> None:
        """Write which trials the sweep consists of, and the time that was spent."""
        self._kept = self._clock()
        if self._folder is not None:
            keep_trials(self._folder, self.trials, self.spent)

    def _words(self, pair: Paired) -> str:
        name = self._arms[pair.variant].first.identity.variant
        looks = self._looks[pair]
        verdict = looks.verdict
        if not looks.has_ended and self.is_out_of_budget:
            verdict = Verdict.OUT_OF_BUDGET
        about = []
        if looks.interval is not None:
            about.append(in_points(looks))
        if looks.reason:
            about.append(looks.reason)
        return f"{name} {verdict}" + (f" ({'; '.join(about)})" if about else "")

    def _tell(self, line: str) -> None:
        logger.info("%s", line)
        if self._console is not None:
            print_line(self._console, line)


def in_points(looks: Looks) -> str:
    """Return the difference at the last look with its interval, such as ``+1.2 points, +0.3 to +2.1, 5 seeds``."""
    interval = looks.interval
    assert interval is not None
    estimate, low, high = (100 * one for one in interval)
    return f"{estimate:+.2f} points, {low:+.2f} to {high:+.2f}, {looks.made[-1].seeds} seeds"
