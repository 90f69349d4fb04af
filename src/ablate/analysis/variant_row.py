"""A row of the comparison: one variant, what was measured of it, and its difference to the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from ablate.analysis.latency_results import Latency
from ablate.analysis.looks import Looks
from ablate.analysis.measurements import Accuracy, Cost
from ablate.analysis.pairing import samples_of
from ablate.analysis.variants import Variant
from ablate.records.replicate import Replicate
from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA
from ablate.statistics.resampled import Samples
from ablate.statistics.seeds_and_images import SeedsAndImages
from ablate.statistics.verdict import Verdict

TO_FIND = 0.005  # half a point: the difference for which `seeds_needed` says how many seeds would show it


@dataclass(frozen=True)
class OnShared:
    """Mean accuracies of a variant and of its baseline over the replicates that a difference is of; fractions.

    `is_all`: whether neither has other replicates than these, so that the table's accuracies are the same.
    """

    variant: float
    baseline: float
    is_all: bool


@dataclass(frozen=True)
class Difference:
    """Variant minus baseline in the metric of the sweep, the mean over the replicates that both have; fractions.

    Attributes:
        estimate: The mean difference.
        replicates: The shared seeds, with their folds where there are some; ascending.
        over_seeds: With Student's 95 % interval: what another training would change. None from one seed.
        over_images: With the 95 % interval of the paired bootstrap over validation images, for these very networks:
            what other images of the same kind would change. None where it was not computed.
        over_both: Components of its variance, and its 95 % interval over seeds and images together. None where either
            interval is missing.
        image_groups: How many groups of images were drawn whole for it; None where single images were.
        p_value: Of the paired t-test.
        p_holm: The same after Holm's correction over all comparable variants of the table; None for controls and
            flagged rows.
        p_sign_flip: Of the exact sign-flip test.
        p_skewed: Where the differences of the table look skewed: the largest p-value of the t-test, the sign-flip test
            and a t-test that allows for the skewness, after Holm's correction. None where they do not.
        values: The differences, in the order of the replicates.
        fold_share: Images validated on by images trained on, where the replicates are folds of a cross-validation: all
            tests and intervals are then of the means of folds (`statistics.resampled`), and what needs independent
            replicates is None. None without folds.
        effect_size: Hedges' g of the paired differences.
        smallest_detectable: The smallest difference that as many seeds find in 80 % of studies, by an upper bound of
            the spread over seeds. None below three seeds.
        seeds_needed: How many seeds would find a difference of `TO_FIND`, by the same bound. None over folds, where
            seeds narrow a part of the spread only.
        last_epoch: The mean difference after the last epoch; None where a trial lacks it.
        margin: The margin of equivalence; None where none was declared.
        p_equivalence: Of the two one-sided tests that the true difference lies within the margin, after Holm's
            correction over all variants; of an identity control without it. None without a margin.
        looks: At the seeds as they came in, in a sweep whose seeds are added until every variant is decided: the
            estimate and its interval are those of the last look, and `p_holm` is corrected for looks and variants.
        p_sequential: Corrected p-value that is valid however often one has looked; None where there was one look.
        has_learned: Whether either has learned anything: where not, a difference or its absence shows nothing.
        verdict: What is known of it; None where it could not be tested or may not be compared.
        is_comparable: Whether both were trained alike.
        is_of_control: Whether the variant is a control.
        on_shared: The mean accuracies of both over the same replicates, whose difference is the estimate.
    """

    estimate: float
    replicates: tuple[Replicate, ...]
    is_comparable: bool
    is_of_control: bool
    over_seeds: Interval | None = None
    over_images: Interval | None = None
    over_both: SeedsAndImages | None = None
    image_groups: int | None = None
    p_value: float | None = None
    p_holm: float | None = None
    p_sign_flip: float | None = None
    p_skewed: float | None = None
    values: tuple[float, ...] = ()
    fold_share: float | None = None
    effect_size: float | None = None
    smallest_detectable: float | None = None
    seeds_needed: int | None = None
    last_epoch: float | None = None
    margin: float | None = None
    p_equivalence: float | None = None
    looks: Looks | None = None
    p_sequential: float | None = None
    has_learned: bool = True
    verdict: Verdict | None = None
    on_shared: OnShared | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The shared seeds, ascending."""
        return tuple(sorted({replicate.seed for replicate in self.replicates}))

    @property
    def covers(self) -> dict[str, str]:
        """What each of its intervals covers, in words."""
        over_folds = "what training on other images of the same kind, and validating on others, would change"
        images = "validation images" if self.image_groups is None else "groups of validation images"
        return {
            "over_seeds": over_folds if self.fold_share else "what another training, with another seed, would change",
            "over_images": f"what other {images} of the same kind would change, for these trained networks",
            "over_both": f"what another training, judged on other {images} of the same kind, would change",
        }

    @property
    def samples(self) -> Samples:
        """What the tests are made of: the differences of the seeds, or with folds the mean of each fold."""
        return samples_of(self.replicates, self.values, self.fold_share)

    @property
    def is_tested(self) -> bool:
        """Whether it takes part in the family of tests that is corrected for."""
        return self.p_holm is not None

    @property
    def supported(self) -> bool:
        """Whether the trials support a difference: comparable, no control, and the corrected p-values below ALPHA."""
        if not self.is_comparable or not self.has_learned or self.is_of_control or self.p_holm is None:
            return False
        return max(self.p_holm, self.p_skewed or 0.0, self.p_sequential or 0.0) < ALPHA

    @property
    def is_within_margin(self) -> bool:
        """Whether the trials support that it is smaller than the declared margin."""
        return self.has_learned and self.p_equivalence is not None and self.p_equivalence < ALPHA

    @property
    def is_always_zero(self) -> bool:
        """Whether variant and baseline agree exactly, on at least two seeds."""
        return len(self.values) > 1 and not any(self.values)


@dataclass(frozen=True)
class Row:
    """One variant of the comparison: a row of its tables.

    Attributes:
        variant: Its trials, name and levels.
        accuracy, cost, latency: What was measured, means over its trials.
        baseline: Label of what it is compared with; empty for a baseline, and where there is none.
        difference: To the baseline; None where it cannot be given.
        is_comparable: Whether it was trained as its baseline was; a baseline, whether its trials agree.
        notes: What a reader must know of it, each a short phrase.
        run_ids: MLflow runs of its trials.
    """

    variant: Variant
    accuracy: Accuracy
    cost: Cost
    latency: Latency
    baseline: str
    difference: Difference | None
    is_comparable: bool
    notes: tuple[str, ...]
    run_ids: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.variant.label

    @property
    def key(self) -> str:
        """What its trials share."""
        return self.variant.key

    @property
    def module(self) -> str:
        """Level of the factor module; "none" without any."""
        return self.variant.factors["module"]

    @property
    def insertion(self) -> str:
        """Level of the factor insertion."""
        return self.variant.factors["insertion"]

    @property
    def optimizer(self) -> str:
        """Level of the factor optimizer."""
        return self.variant.factors["optimizer"]

    @property
    def model(self) -> str:
        """Level of the factor model."""
        return self.variant.factors["model"]

    @property
    def data(self) -> str:
        """Level of the factor data."""
        return self.variant.factors["data"]

    @property
    def seeds(self) -> list[int]:
        """Seeds that it was measured with, ascending."""
        return list(self.variant.seeds)

    @property
    def folds(self) -> int:
        """Folds that it was measured on; 0 without a cross-validation."""
        return len({one.fold for one in self.variant.by_replicate if one.fold is not None})

    @property
    def replicates(self) -> int:
        """Trials that were measured."""
        return len(self.variant.measured)

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.variant.is_baseline

    @property
    def takes_part(self) -> bool:
        """Whether it is tested, ranked and called the best: it may be compared with its baseline, and is no control."""
        return self.is_comparable and not self.is_control

    @property
    def is_control(self) -> bool:
        """Whether it is a control."""
        return self.variant.control is not None

    @property
    def control(self) -> str:
        """Kind of the control; empty where it is none."""
        return self.variant.control.kind if self.variant.control else ""

    @property
    def estimate(self) -> float | None:
        """The mean difference to the baseline; None where it cannot be given."""
        return None if self.difference is None else self.difference.estimate

    @property
    def is_over_others(self) -> bool:
        """Whether its mean accuracies, or those of its baseline, are over other replicates than its difference."""
        shared = self.difference.on_shared if self.difference else None
        return shared is not None and not shared.is_all

    @property
    def supported(self) -> bool:
        """Whether the trials support a difference to the baseline."""
        return self.difference is not None and self.difference.supported
