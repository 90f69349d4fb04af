"""Whole synthetic sweeps in memory, whose truth is known: how many of their reports claim something false?

Each sweep has variants with overall accuracy, accuracy by object size and after the last epoch, a plain block as
control of each variant's size, an identity control and the next larger network. A report is all its findings; what
they claim (`Finding.claims`) is held against the truth. Used by `benchmarks/coverage.py` and by tests/findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from ablate.analysis.comparison import Comparison
from ablate.analysis.split_comparison import compare_splits
from ablate.analysis.variant_row import TO_FIND
from ablate.findings.all_findings import findings
from ablate.findings.finding import Claim, Kind, Relation
from ablate.records.failures import Failure
from ablate.records.metrics import Metrics
from ablate.records.replicate import Replicate
from ablate.records.sweep_record import AnalysisPlan, Control, Sweep, SweepManifest
from ablate.records.test_split import OPENED, Ledger, LedgerLine, TestedTrial, TestEvaluation, TestResults
from ablate.records.trial_record import Record, TrialRecord, decode_record
from ablate.statistics.paired import holm, is_significant, paired_t
from ablate.storage.layout import SweepFolder
from simulated.known_truth import NOISE, SEED_SPREAD
from simulated.recorded import trial_content

SIZE_NOISE = {"small": 0.02, "medium": 0.01, "large": 0.008}  # of AP by object size, beyond what moves mAP
FOLD_SPREAD = 0.03  # of folds, some of which have harder images
LAST_NOISE = 0.006  # of the last epoch against the best one
BASELINE = "none"
INSERTION = "c3k2"
OPTIMIZER = "sgd"
GROUP = "group"


@dataclass(frozen=True)
class Planted:
    """The truth of a sweep: what each variant adds to the baseline's expected accuracy, fractions of mAP.

    Attributes:
        effects: By module. A module that is not named adds nothing; so does every control.
        sizes: By module and size: what it adds to AP on objects of that size beyond its effect.
        last: By module: what it adds after the last epoch beyond its effect.
        margin: Of equivalence.
    """

    effects: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[tuple[str, str], float] = field(default_factory=dict)
    last: Mapping[str, float] = field(default_factory=dict)
    margin: float = 0.0

    def is_true(self, claim: Claim) -> bool:
        """Whether a claim is: its direction is that of the true difference."""
        subject, reference = _module(claim.subject), _module(claim.reference)
        difference = self.effects.get(subject, 0.0) - self.effects.get(reference, 0.0)
        if claim.outcome.startswith("AP "):
            size = claim.outcome.removeprefix("AP ")
            difference += self.sizes.get((subject, size), 0.0) - self.sizes.get((reference, size), 0.0)
        if claim.outcome == "best minus last epoch":
            difference = self.last.get(reference, 0.0) - self.last.get(subject, 0.0)
        if claim.relation is Relation.EQUIVALENT:
            return abs(difference) <= self.margin
        if claim.relation is Relation.SMALL:
            return abs(difference) < TO_FIND
        if claim.relation is Relation.DIFFERENT:
            return difference != 0
        return difference > 0 if claim.relation is Relation.HIGHER else difference < 0


NOTHING = Planted()
Claims = Callable[[Comparison], Iterable[Claim]]


def claims_of(comparison: Comparison) -> list[Claim]:
    """All that a report claims."""
    return [claim for finding in findings(comparison) for claim in finding.claims]


def uncorrected_claims(comparison: Comparison) -> list[Claim]:
    """What a report would claim that takes each interval which excludes zero for a difference: wrong."""
    return [
        Claim(row.label, Relation.DIFFERENT, row.baseline)
        for row in comparison.rows
        for difference in [row.difference]
        if difference is not None and difference.over_seeds is not None and difference.over_seeds.excludes_zero
    ]


def claims_of_trainings(comparison: Comparison) -> list[Claim]:
    """What a report would claim that takes each training of a cross-validation for a sample of its own: wrong."""
    rows = [row for row in comparison.rows if row.difference is not None and not row.is_control]
    p_values = holm([paired_t(row.difference.values) if row.difference else None for row in rows])
    return [
        Claim(row.label, Relation.DIFFERENT, row.baseline)
        for row, p_value in zip(rows, p_values, strict=True)
        if is_significant(p_value)
    ]


def false_reports(
    random: np.random.Generator,
    count: int,
    variants: int,
    seeds: int,
    *,
    folds: int = 0,
    truth: Planted = NOTHING,
    claims: Claims = claims_of,
) -> float:
    """Fraction of `count` reports with at least one false claim."""
    study = Study(variants, seeds, folds=folds)
    return float(np.mean([any(not truth.is_true(c) for c in claims(study.draw(random, truth))) for _ in range(count)]))


def false_kinds(
    random: np.random.Generator, count: int, variants: int, seeds: int, truth: Planted = NOTHING
) -> list[frozenset[Kind]]:
    """For each of `count` reports the kinds of findings that claim something false; empty where none does."""
    study = Study(variants, seeds)
    return [
        frozenset(f.kind for f in findings(study.draw(random, truth)) if not all(map(truth.is_true, f.claims)))
        for _ in range(count)
    ]


class Study:
    """The records of a sweep of so many variants, seeds and controls, made once; `draw` gives them accuracies.

    With folds each seed is trained on all of them, and what is `seeds` long below is seeds x folds long, fold by fold.
    """

    def __init__(self, variants: int, seeds: int, *, folds: int = 0, plan: AnalysisPlan | None = None) -> None:
        modules = [f"m{index}" for index in range(variants)]
        names = [BASELINE, *modules, "identity", *(f"block_{module}" for module in modules), "scale"]
        self.names, self.seeds, self.folds = names, seeds, folds
        replicates = [Replicate(seed, fold) for seed in range(seeds) for fold in (range(folds) if folds else [None])]
        self._trials = [[_trial(name, replicate, folds) for replicate in replicates] for name in names]
        key = {name: trials[0].variant_key for name, trials in zip(names, self._trials, strict=True)}
        controls = {key["identity"]: Control(kind="identity", comparison_key=GROUP)}
        controls[key["scale"]] = Control(kind="scale", comparison_key=GROUP)
        for module in modules:
            of = f"{module}@{INSERTION}"
            controls[key[f"block_{module}"]] = Control(kind="params", comparison_key=GROUP, of=of)
        self._manifest = SweepManifest(
            name="planted",
            signatures=tuple(trial.signature for trials in self._trials for trial in trials),
            controls=controls,
            analysis=plan or AnalysisPlan(),
        )

    def accuracy(self, random: np.random.Generator, truth: Planted = NOTHING) -> np.ndarray:
        """Accuracies at the best epoch, shape (variants and controls, seeds), in the order of `names`."""
        shape = (len(self.names), self.seeds)
        effects = np.array([truth.effects.get(name, 0.0) for name in self.names])[:, None]
        if self.folds:
            return np.asarray(0.4 + effects + self._over_folds(random).reshape(len(self.names), -1))
        return 0.4 + effects + random.normal(0, SEED_SPREAD, (1, self.seeds)) + random.normal(0, NOISE, shape)

    def _over_folds(self, random: np.random.Generator) -> np.ndarray:
        """What folds and seeds add, (variants and controls, seeds, folds).

        What a variant makes of the images of a fold correlates between folds as the corrected test takes it to.
        """
        names, shared = len(self.names), 1 / self.folds
        of_fold = np.sqrt(shared) * random.normal(size=(names, 1, 1))
        of_fold = of_fold + np.sqrt(1 - shared) * random.normal(size=(names, 1, self.folds))
        difficulty = random.normal(0, FOLD_SPREAD, (1, 1, self.folds))
        return np.asarray(difficulty + NOISE * of_fold + random.normal(0, NOISE / 3, (names, self.seeds, self.folds)))

    def draw(
        self,
        random: np.random.Generator,
        truth: Planted = NOTHING,
        accuracy: np.ndarray | None = None,
        *,
        crippled: float = 0.0,
        flagged: str = "",
        on_test: np.ndarray | None = None,
    ) -> Comparison:
        """The comparison of a sweep.

        Args:
            random: Draws what is not given.
            truth: What the variants add.
            accuracy: At the best epoch, as of `accuracy()`; NaN is a trial that failed.
            crippled: What the identity control loses, fractions of mAP: a comparison that is broken.
            flagged: Module of a variant that was trained with another batch than its baseline.
            on_test: Accuracies on the test split, as `accuracy`; None where that was not opened.
        """
        top = self.accuracy(random, truth) if accuracy is None else accuracy
        sizes = {
            size: top * scale + random.normal(0, spread, top.shape) + self._of(truth.sizes, size)
            for (size, spread), scale in zip(SIZE_NOISE.items(), (0.5, 1.0, 1.3), strict=True)
        }
        last = top - 0.01 + random.normal(0, LAST_NOISE, top.shape) + self._of(truth.last)
        same = self.names.index("identity")
        for values in (top, last, *sizes.values()):
            values[same] = values[0] - crippled
        trials: list[Record] = []
        for row, of_variant in enumerate(self._trials):
            for seed, trial in enumerate(of_variant):
                parts = {size: float(values[row, seed]) for size, values in sizes.items()}
                one = _with(trial, float(top[row, seed]), float(last[row, seed]), parts)
                if flagged == self.names[row]:
                    realised = msgspec.structs.replace(one.realised, batch=1 + (one.realised.batch or 0))
                    one = msgspec.structs.replace(one, realised=realised)
                trials.append(one)
        results = None if on_test is None else self._opened(on_test, trials)
        return compare_splits(Sweep(SweepFolder(Path("planted")), self._manifest, trials, on_test=results))

    def _opened(self, accuracy: np.ndarray, trials: Sequence[Record]) -> TestResults:
        """What measuring the trials once on the test split leaves."""
        line = LedgerLine(event=OPENED, time="2026-03-01", sweep="planted", data="d", checkpoints={}, previous="")
        line = msgspec.structs.replace(line, hash=line.own_hash)
        tested = {}
        for trial, top in zip(trials, accuracy.ravel().tolist(), strict=True):
            assert isinstance(trial, TrialRecord)
            evaluation = TestEvaluation(
                signature=trial.signature, checkpoint="best", sha256="", data="d", opening=line.hash, images=100,
                metrics=Metrics(map50_95=top, checkpoint="best", split="test"), predictions="none.npz",
            )  # fmt: skip
            tested[trial.signature] = TestedTrial(evaluation, trial.metrics)
        return TestResults(Ledger((line,)), tested)

    def _of(self, planted: Mapping[object, float], size: str = "") -> np.ndarray:
        keys = [(name, size) if size else name for name in self.names]
        return np.array([planted.get(key, 0.0) for key in keys])[:, None]


def _with(trial: TrialRecord, top: float, last: float, sizes: Mapping[str, float]) -> TrialRecord:
    """A trial with its accuracies; one that diverged where there is none."""
    if np.isnan(top):
        failure = Failure(type="diverged", message="loss is nan")
        return msgspec.structs.replace(trial, status="failed", failure=failure, metrics=Metrics())
    by_size = {f"map50_95_{size}": float(np.clip(value, 0, 1)) for size, value in sizes.items()}
    top, last = float(np.clip(top, 0, 1)), float(np.clip(last, 0, 1))
    best = msgspec.structs.replace(trial.metrics, map50_95=top, map50=min(1.0, 1.5 * top), **by_size)
    metrics_last = msgspec.structs.replace(trial.metrics_last, map50_95=last)
    return msgspec.structs.replace(trial, metrics=best, metrics_last=metrics_last)


def _trial(name: str, replicate: Replicate, folds: int) -> TrialRecord:
    """A finished trial, its accuracies to be drawn; its history has no losses, so that none equals another by it."""
    module, model = ("none", "yolo26s") if name == "scale" else (name, "yolo26n")
    insertion = "none" if module == "none" else INSERTION
    grafted = "none" if module == "none" else "hmha"
    content = trial_content(grafted, insertion, OPTIMIZER, replicate.seed, 1, ["object"])
    content |= {"variant_key": name, "comparison_key": "larger" if name == "scale" else GROUP, "history": []}
    content["factors"] = {**content["factors"], "module": module, "model": model}
    content["variant"] = f"{'none' if module == 'none' else f'{module}@{insertion}'} {OPTIMIZER}"
    content |= {"signature": f"{name}-{replicate}", "samples": [], "per_class": [], "per_class_last": []}
    if folds:
        config = {**content["config"], "fold": {"folds": folds, "index": replicate.fold}}
        content |= {"fold": replicate.fold, "config": config}
    record = decode_record(content)
    assert isinstance(record, TrialRecord)
    return record


def _module(label: str) -> str:
    """The module that a label names; empty for a control, which adds nothing."""
    return "" if label.startswith("control: ") else label.partition("@")[0].partition(" ")[0]
