"""Checks of `folds` and `split`: which options go with a cross-validation."""

from __future__ import annotations

from pathlib import Path

from ablate.errors import ConfigError, nearest
from ablate.settings.argument_checks import shown
from ablate.settings.fold import GROUPS, MOST, RANDOM, VALID, is_table
from ablate.settings.judge import SPLIT
from ablate.settings.schema import Config


def check_folds(settings: Config) -> None:
    """Check how images are divided into folds.

    Raises:
        ConfigError: Options do not go together, or one has no effect.
    """
    folds, split = settings.folds, settings.split
    _check_split(split)
    if not folds:
        if split != RANDOM and settings.judge != SPLIT:
            raise ConfigError(
                f"split={split}: it says how folds, or the halves of judge=split, divide the images: add folds=5 or "
                "judge=split"
            )
        return
    if folds == 1:
        raise ConfigError(f"folds=1: one fold leaves nothing to train on; valid: 0 (none) or 2 to {MOST}")
    if settings.until is not None:
        raise ConfigError(
            f"folds={folds}: until=decided adds seeds, and folds are no independent replicates; leave one of them out"
        )
    if (evaluated := settings.train.get("split", "val")) != "val":
        raise ConfigError(
            f"folds={folds}: each trial is evaluated on its fold of train and val; leave out train.split={evaluated}"
        )
    if (fraction := settings.train.get("fraction", 1)) != 1:
        raise ConfigError(
            f"folds={folds}: each fold is trained on all others, so train.fraction=1 is needed, not {shown(fraction)}"
        )


def _check_split(split: str) -> None:
    if split in (RANDOM, GROUPS):
        return
    if not is_table(split):
        raise ConfigError(f"split={split}: {nearest(split, [RANDOM, GROUPS])}valid: {VALID}")
    if not Path(split).expanduser().is_file():
        raise ConfigError(f"split={split}: no such file")
