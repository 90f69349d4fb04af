"""A sweep: which trials one command asked for (`sweep.json`), and what is on disk of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from ablate.records.json_struct import JsonStruct, written
from ablate.records.latency_record import LatencyRatio, LatencyReport
from ablate.records.trial_record import Record
from ablate.safe_text import one_line
from ablate.settings.judge import BEST, JUDGE
from ablate.settings.metric import MAP50_95, METRIC, METRICS, Metric
from ablate.storage.layout import SweepFolder
from ablate.storage.plain_values import Plain

if TYPE_CHECKING:
    from ablate.records.test_split import TestResults

NO_MARGIN, NO_STOP = "no delta", "no until"  # where a command declares none
LONGEST_NAME = 255  # characters of a sweep's name, which is that of its folder

ControlKind: TypeAlias = Annotated[str, msgspec.Meta(pattern="^(identity|params|reset|scale|resolution|latency)$")]


class Design(JsonStruct, frozen=True, kw_only=True):
    """Which components the variants of a sweep have.

    Attributes:
        name: Such as "leave_one_out".
        components: Their names, all different.
        marks: Variant key -> for each component whether the variant has it.
        reference: Key of the variant without any component; None where it was left out.
        studies: Variant key -> number of its study; within one, variants differ in components only. Empty where there
            is one study.
    """

    name: str = written("")
    components: tuple[str, ...]
    marks: dict[str, tuple[bool, ...]]
    reference: str | None = written(None)
    studies: dict[str, int] = msgspec.field(default_factory=dict)


class Control(JsonStruct, frozen=True, kw_only=True):
    """What a variant is a control of: it tells an effect of a graft from one of surgery, of size or of scale.

    Attributes:
        kind: "identity" (a graft that does nothing, or the replaced layer itself), "params" (a plain block with as many
            parameters), "reset" (the replaced layers with weights drawn anew), "scale" (the stock network of the next
            bigger scale), "resolution" (the stock network on larger images, with as many GFLOPs), "latency" (the stock
            network with wider layers, or on larger images, that is as slow).
        comparison_key: Of the variants that it is shown among.
        of: The graft that it is matched with, such as "hmha@c3k2"; empty where there is none.
        signatures: Of its trials that joined the sweep for its sake.
        gflops_ratios: Of a control of resolution: key of each variant that it is matched with -> its GFLOPs as a
            multiple of that variant's.
        latency_ratios: The same for the latency that was measured before the sweep; of a control of latency, and of one
            of resolution that is as slow as well.
    """

    kind: ControlKind
    comparison_key: Annotated[str, msgspec.Meta(min_length=1)]
    of: str = written("")
    signatures: tuple[str, ...] = written(())
    gflops_ratios: dict[str, Annotated[float, msgspec.Meta(gt=0)]] = msgspec.field(default_factory=dict)
    latency_ratios: dict[str, LatencyRatio] = msgspec.field(default_factory=dict)

    @property
    def differs_by_design(self) -> bool:
        """Whether its model or its image size is not the baseline's, and with it what follows from these."""
        return self.kind in ("scale", "resolution", "latency")


class AnalysisPlan(JsonStruct, frozen=True, kw_only=True):
    """What a command declared of its analysis before its results were known.

    Attributes:
        delta: Margin of equivalence, a fraction of the metric; None where none was declared.
        judge: Which epochs the accuracy is taken from (see `ablate.settings.judge`).
        until: "decided" where seeds are added until every variant is decided; None where the seeds were named.
        max_seeds: Seeds of a variant after which it stays undecided.
        first_seed: From which they are counted.
        budget: Seconds after which no trial starts; None without a limit.
        tests: How many variants are looked at: what every look is corrected for.
        metric: Name of the accuracy by which variants are compared (see `ablate.settings.metric`).
    """

    delta: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    judge: Annotated[str, msgspec.Meta(pattern=JUDGE)] = BEST
    until: Annotated[str, msgspec.Meta(pattern="^decided$")] | None = None
    max_seeds: Annotated[int, msgspec.Meta(ge=3, le=50)] = 12
    first_seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    budget: Annotated[float, msgspec.Meta(gt=0)] | None = None
    tests: Annotated[int, msgspec.Meta(ge=1)] = 1
    metric: Annotated[str, msgspec.Meta(pattern=METRIC)] = MAP50_95.name

    @property
    def primary(self) -> Metric:
        """The accuracy by which variants are compared."""
        return METRICS[self.metric]

    @property
    def words(self) -> tuple[str, str, str, str]:
        """What it decides that results could tempt one to change, as a command has it: metric, judge, margin, stop."""
        stop = f"until={self.until} max_seeds={self.max_seeds} seed={self.first_seed}"
        return (
            f"metric={self.metric}",
            f"judge={self.judge}",
            NO_MARGIN if self.delta is None else f"delta={self.delta:g}",
            stop if self.until else NO_STOP,
        )


class LateDeclaration(JsonStruct, frozen=True, kw_only=True):
    """What a command declared of its analysis when results were there that it is about.

    Attributes:
        words: Of the command.
        date: ISO time.
        trials: How many trials had results then that no earlier command with these words had asked for before they
            ended; those of baselines are not counted.
    """

    words: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    date: str
    trials: Annotated[int, msgspec.Meta(ge=1)]


class TriedRate(JsonStruct, frozen=True, kw_only=True):
    """A short trial with one learning rate.

    Attributes:
        rate: The learning rate.
        signature: Of the trial.
        accuracy: By the sweep's metric; None where the trial failed.
    """

    rate: Annotated[float, msgspec.Meta(gt=0)]
    signature: str
    accuracy: float | None = None


class TunedRate(JsonStruct, frozen=True, kw_only=True):
    """The learning rate of a variant, chosen by short trials.

    Attributes:
        given: That of the command.
        chosen: That of the variant's trials.
        tried: The short trials, the given rate first.
        has_learned: Whether any of them has learned anything; where none has, the given rate stays.
    """

    given: Annotated[float, msgspec.Meta(gt=0)]
    chosen: Annotated[float, msgspec.Meta(gt=0)]
    tried: tuple[TriedRate, ...] = ()
    has_learned: bool = True

    @property
    def end(self) -> str:
        """Whether the chosen rate is the lowest or the highest of several, so that one beyond may be better."""
        rates = [one.rate for one in self.tried]
        if not self.has_learned or len(rates) < 2 or self.chosen not in (min(rates), max(rates)):
            return ""
        return "lowest" if self.chosen == min(rates) else "highest"

    @property
    def in_words(self) -> str:
        """The chosen rate, and what it was chosen from."""
        tried = sorted(self.tried, key=lambda one: one.rate)
        numbers = [f"{one.rate:g} {'failed' if one.accuracy is None else f'{one.accuracy:.4f}'}" for one in tried]
        text = f"lr0 {self.chosen:g} of {', '.join(numbers)}"
        if all(one.accuracy is None for one in tried):
            return f"{text}: the given rate, because every short trial failed"
        if not self.has_learned:
            return f"{text}: the given rate, because no short trial learned anything"
        return f"{text}: the {self.end} tried, one beyond it may be better" if self.end else text


class SweepManifest(JsonStruct, frozen=True, kw_only=True):
    """What a sweep consists of: `sweep.json`.

    Attributes:
        name: Of its folder.
        command: The command that repeats it.
        signatures: Its trials, in order.
        names: Name by signature.
        created: ISO time.
        tracking, latency: The groups of the configuration of these names.
        strict: Whether its report leaves out what may not be compared.
        mlflow_run_id: Its parent run.
        controls: By variant key.
        design: Where it combines components.
        analysis: What was declared of its analysis.
        spent_seconds: Wall-clock time of its commands, where seeds are added until every variant is decided.
        looks: With how many seeds the same comparison was reported before, where seeds were added to it since.
        tuned: Variant key -> its learning rate, where each variant has one of its own.
        late: What was declared of its analysis when results were there.
    """

    name: str = ""
    command: str = written("")
    signatures: tuple[str, ...]
    names: dict[str, str] = written({})
    created: str = written("")
    tracking: Plain = written({})
    latency: Plain = written({})
    strict: bool = written(False)
    mlflow_run_id: str | None = written(None)
    controls: dict[str, Control] = msgspec.field(default_factory=dict)
    design: Design | None = None
    analysis: AnalysisPlan = AnalysisPlan()
    spent_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    looks: tuple[int, ...] = ()
    tuned: dict[str, TunedRate] = msgspec.field(default_factory=dict)
    late: tuple[LateDeclaration, ...] = ()

    @property
    def late_words(self) -> frozenset[str]:
        """All words that were declared when results were there."""
        return frozenset(word for declaration in self.late for word in declaration.words)


@dataclass(frozen=True)
class Sweep:
    """The trials of one command, as far as they are on disk.

    Attributes:
        folder: Its folder.
        manifest: What it consists of.
        trials: Those that have a record, in the order of the manifest's signatures; damaged ones among them.
        latency: Of its variants; None where it was not measured, or cannot be read.
        run_ids: MLflow run by signature.
        missing: Signatures of the trials that have no record yet.
        ignored: In words, what could not be read.
        judge: Whose accuracies the trials have (see `ablate.records.judged`); empty: they are as they are on disk.
        groups: Groups of images that intervals over images draw whole: "auto" those that an audit found, "none", or a
            file (see `ablate.data.groups`).
        margin_chosen_after: Margin of equivalence that was chosen after the results; None: the command's holds.
        is_test: Whether the accuracies are of the test split (see `ablate.records.test_split`).
        on_test: What its trials did on the test split; None where that was never opened for them.
        metric_chosen_after: Metric that was chosen after the results; None: the command's holds.
    """

    folder: SweepFolder
    manifest: SweepManifest
    trials: list[Record]
    latency: LatencyReport | None = None
    run_ids: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    judge: str = ""
    groups: str = "auto"
    margin_chosen_after: float | None = None
    is_test: bool = False
    on_test: TestResults | None = None
    metric_chosen_after: str | None = None

    @property
    def intervals_file(self) -> Path:
        """Where intervals over images of its accuracies are kept."""
        return self.folder.test_intervals if self.is_test else self.folder.image_intervals

    @property
    def plan(self) -> AnalysisPlan:
        """What was declared of its analysis, with metric and margin that a report was given in place of the declared.

        A margin that was declared for one metric is none of another.
        """
        plan = self.manifest.analysis
        if self.metric_chosen_after is not None:
            plan = msgspec.structs.replace(plan, metric=self.metric_chosen_after, delta=None)
        if self.margin_chosen_after is not None:
            plan = msgspec.structs.replace(plan, delta=self.margin_chosen_after)
        return plan

    @property
    def metric(self) -> Metric:
        """The accuracy by which its variants are compared."""
        return self.plan.primary

    def with_margin(self, delta: float | None) -> Sweep:
        """The sweep, judged by this margin of equivalence; None: by the one that its command declared."""
        return self if delta in (None, self.plan.delta) else replace(self, margin_chosen_after=delta)

    def with_metric(self, name: str | None) -> Sweep:
        """The sweep, its variants compared by this metric; None: by the one that its command declared.

        Comes before `with_margin`: a margin is of one metric.
        """
        return self if name in (None, self.manifest.analysis.metric) else replace(self, metric_chosen_after=name)

    @property
    def name(self) -> str:
        """Its name."""
        return one_line(self.manifest.name)[:LONGEST_NAME] or self.folder.path.name

    @property
    def judge_chosen_after(self) -> str:
        """Its judge where that was chosen after the results: the command declared another one; else empty."""
        return self.judge if self.judge != self.manifest.analysis.judge else ""

    @property
    def signatures(self) -> tuple[str, ...]:
        """Of its trials."""
        return self.manifest.signatures

    @property
    def controls(self) -> dict[str, Control]:
        """By variant key."""
        return self.manifest.controls

    @property
    def design(self) -> Design | None:
        """Where it combines components."""
        return self.manifest.design

    @property
    def command(self) -> str:
        """The command that repeats it."""
        return one_line(self.manifest.command)

    @property
    def created(self) -> str:
        """ISO time."""
        return self.manifest.created

    @property
    def mlflow_run_id(self) -> str | None:
        """Its parent run."""
        return self.manifest.mlflow_run_id
