"""The short trials that choose a learning rate for each variant, and the trials with the rate that was chosen.

One learning rate for all favours the variants that like it. Each variant, the baseline and the controls included, gets
the same number of short trials at the same multiples of its given rate, with a seed of their own, so that no trial that
is compared has been looked at before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ablate.errors import ConfigError
from ablate.records.sweep_record import TriedRate, TunedRate
from ablate.settings.tuning import Tuning
from ablate.statistics.verdict import LEARNED
from ablate.study.trial import Trial

SEED = 4294967294  # of every short trial: the last one that is valid, which nobody takes for a replicate


@dataclass(frozen=True)
class ShortTrials:
    """The short trials of one variant.

    Attributes:
        variant_key: Of the variant.
        variant: Its name.
        given: The learning rate of the command.
        trials: One for each learning rate, with that rate; the given one first.
    """

    variant_key: str
    variant: str
    given: float
    trials: tuple[tuple[float, Trial], ...]


def short_trials(trials: Sequence[Trial]) -> list[ShortTrials]:
    """Return the short trials of each variant whose learning rate is to be chosen, with folds those of the first fold.

    Raises:
        ConfigError: A training is limited by time, so a share of its epochs is not known.
    """
    variants = {trial.identity.variant_key: trial for trial in trials if _is_open(trial) and not trial.identity.fold}
    return [_of_variant(trial) for trial in variants.values()]


def chosen_rate(short: ShortTrials, accuracies: Sequence[float | None]) -> TunedRate:
    """Return the learning rate with the highest accuracy; the given one where no short trial has learned anything.

    Of equal accuracies that of the rate that was tried first counts, which is nearer to the given one.

    Args:
        short: The short trials of a variant.
        accuracies: Of each of them, None where it has failed; shape (trials,).
    """
    tried = tuple(
        TriedRate(rate=rate, signature=trial.identity.signature, accuracy=accuracy)
        for (rate, trial), accuracy in zip(short.trials, accuracies, strict=True)
    )
    learned = [(one.accuracy, one.rate) for one in tried if one.accuracy is not None and one.accuracy >= LEARNED]
    best = max(learned, key=lambda one: one[0], default=(0.0, short.given))
    return TunedRate(given=short.given, chosen=best[1], tried=tried, has_learned=bool(learned))


def with_rates(trials: Sequence[Trial], chosen: Mapping[str, TunedRate]) -> list[Trial]:
    """Return trials with the learning rate that was chosen for their variant, by variant key, as far as one was."""
    rates = [chosen.get(trial.identity.variant_key) if _is_open(trial) else None for trial in trials]
    return [trial if rate is None else _with_rate(trial, rate) for trial, rate in zip(trials, rates, strict=True)]


def _of_variant(trial: Trial) -> ShortTrials:
    settings, tuning = trial.settings, trial.settings.tuning or Tuning(0, 1)
    if settings.train.time is not None:
        raise ConfigError("tune: a short trial has a share of train.epochs, and train.time limits these; leave one out")
    given = settings.optimizer.lr0
    train = replace(
        settings.train,
        arguments={**settings.train.arguments, "epochs": tuning.epochs},
        epochs=tuning.epochs,
    )
    short = replace(settings, train=train, seed=SEED, tuning=None, command=replace(settings.command, tune=0))
    trials = []
    for rate in tuning.rates(given):
        one = Trial.of(replace(short, optimizer=replace(settings.optimizer, lr0=rate)), trial.data)
        name = f"{trial.identity.variant} lr0={rate:g}"
        trials.append((rate, replace(one, identity=replace(one.identity, variant=name, name=f"{name}, short"))))
    return ShortTrials(trial.identity.variant_key, trial.identity.variant, given, tuple(trials))


def _with_rate(trial: Trial, rate: TunedRate) -> Trial:
    settings = trial.settings
    tuning = replace(settings.tuning or Tuning(0, 1), given=rate.given)
    tuned = replace(settings, optimizer=replace(settings.optimizer, lr0=rate.chosen), tuning=tuning)
    changed = Trial.of(tuned, trial.data)
    return replace(changed, identity=changed.identity.called(trial.identity.variant))


def _is_open(trial: Trial) -> bool:
    """Whether the learning rate of a trial is still to be chosen."""
    return trial.settings.tuning is not None and trial.settings.tuning.given is None
