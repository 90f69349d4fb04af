"""Stock networks on larger images: for each graft, the image size at which its stock network costs as much.

A graft that adds arithmetic could be left out and its cost be spent on larger images. The floating-point operations of
a convolutional network grow with the number of pixels, so the size is close to that of the graft's trial times the
square root of the ratio of both counts. The sizes on both sides of it are counted, and the nearer one is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablate.settings.losses import LossSettings
from ablate.settings.schema import CONTROL_MODULES
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial

LEAST_RATIO = 1.03  # of a graft's GFLOPs to the stock network's: below it the next size would cost far more
LARGEST = 8192  # pixels: of train.imgsz
CountGflops = Callable[[Sequence[Trial]], Mapping[str, float]]


@dataclass(frozen=True)
class LargerImages:
    """The stock network on larger images, beside a graft.

    Attributes:
        settings: Of the stock network.
        ratio: Its GFLOPs as a multiple of the graft's.
    """

    settings: TrialSettings
    ratio: float


def larger_images(trials: Sequence[Trial], count_gflops: CountGflops, notes: list[str]) -> dict[str, LargerImages]:
    """Return the matching stock network of each trial that has one, by signature.

    Args:
        trials: The requested trials, with their baselines.
        count_gflops: Counts 1e9 floating-point operations for one image at the trial's size, by variant key.
        notes: Gets the reason where a graft has none.
    """
    studied = [trial for trial in trials if _is_studied(trial)]
    stocks = {trial.identity.signature: _stock(trial, trial.settings.train.imgsz) for trial in studied}
    gflops = dict(count_gflops([*studied, *stocks.values()])) if studied else {}
    candidates: dict[str, list[Trial]] = {}
    for trial in studied:
        of_graft = gflops[trial.identity.variant_key]
        ratio = of_graft / gflops[stocks[trial.identity.signature].identity.variant_key]
        imgsz, step = trial.settings.train.imgsz, stock_step(trial.settings)
        sizes = _sizes_around(imgsz, ratio, step)
        if imgsz % step:
            why = f"train.imgsz={imgsz} is no multiple of {step}, so the trained size is another one"
        elif ratio < LEAST_RATIO:
            why = f"it has {ratio:.2f} times the GFLOPs of the stock network, and larger images would cost more"
        elif not sizes:
            why = f"images of its GFLOPs would be larger than {LARGEST} pixels"
        else:
            candidates[trial.identity.signature] = [_stock(trial, size) for size in sizes]
            continue
        notes.append(f"controls: {_text(trial)} has no control of resolution: {why}")
    if candidates:
        gflops |= count_gflops([stock for pair in candidates.values() for stock in pair])
    found = {}
    for trial in studied:
        of_graft = gflops[trial.identity.variant_key]
        ratios = [(gflops[s.identity.variant_key] / of_graft, s) for s in candidates.get(trial.identity.signature, [])]
        if ratios:
            ratio, stock = min(ratios, key=lambda one: abs(one[0] - 1))
            found[trial.identity.signature] = LargerImages(stock.settings, ratio)
    return found


def _is_studied(trial: Trial) -> bool:
    return any(graft.module.name not in CONTROL_MODULES for graft in trial.settings.grafts)


def _stock(trial: Trial, imgsz: int) -> Trial:
    """Return a trial of the stock network at an image size in pixels, with all else as in a trial."""
    train = trial.settings.train
    sized = replace(train, imgsz=imgsz, arguments={**train.arguments, "imgsz": imgsz})
    return Trial.of(replace(trial.settings, grafts=(), losses=LossSettings(), train=sized), trial.data)


def _sizes_around(imgsz: int, ratio: float, step: int) -> list[int]:
    """Return the multiples of a step on both sides of the size with so many times the pixels, above the given size."""
    exact = imgsz * math.sqrt(ratio) / step
    return [size for size in sorted({math.floor(exact) * step, math.ceil(exact) * step}) if imgsz < size <= LARGEST]


def stock_step(settings: TrialSettings) -> int:
    """Return the stride in pixels of a stock network: sizes between its multiples are rounded up."""
    return 64 if "-p6" in Path(settings.model.architecture).name else 32


def _text(trial: Trial) -> str:
    return "+".join(graft.text for graft in trial.settings.grafts)
