"""The stock network that is as slow as a graft: the sizes that it can have, and a search by few measurements.

A graft that adds latency could be left out, and the time be spent on a larger stock network. Where a sweep starts
without weights its layers are made wider, at the same image size. Where it starts from weights these fit no other
width, and a network without them would lose by that alone: its images are made larger instead.

Latency grows with the size, so a bracket around the graft's latency is narrowed. A measurement of several sizes takes
little longer than one of a single size, because most of its time is the start of a process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ablate.records.latency_record import LatencyRatio
from ablate.settings.architecture import scale_width
from ablate.settings.losses import LossSettings
from ablate.settings.network_width import WIDEST, with_width
from ablate.settings.schema import CONTROL_MODULES
from ablate.settings.signature import file_hash
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.content_hash import content_hash
from ablate.study.matched_resolution import LARGEST, stock_step
from ablate.study.trial import Trial
from ablate.training.trainer_arguments import trained_classes

LEAST_RATIO = 1.02  # of a graft's latency to the stock network's: below it nothing is to be matched
MOST_SIZES = 3.0  # times the stock network's width, or side of its images: of the largest size that is looked at
WIDTH_STEP = 1 / 128  # of width multiples: 8 channels, the least step of Ultralytics, of a layer with 1024
CLOSE = 0.01  # a size whose ratio is so near to 1 ends the search
ROUNDS = 5  # measurements of a search at most
MORE = 2  # further sizes that are looked at for each one that could not be built
EXPONENTS = (0.6, 1.2, 2.0)  # of latency as a power of the size, where no larger size has been measured yet

Measure = Callable[[Sequence[float]], Mapping[float, float | None]]
"""Measures sizes; returns the latency of each as a multiple of the graft's, None where it cannot be built."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a stock network from which one is chosen.

    Attributes:
        by: "width" or "imgsz".
        stock: Its own size.
        larger: The others, ascending.
    """

    by: str
    stock: float
    larger: tuple[float, ...]


@dataclass(frozen=True)
class SlowerStock:
    """The stock network that is as slow as a graft.

    Attributes:
        settings: Of its trial.
        ratio: Its latency as a multiple of the graft's.
    """

    settings: TrialSettings
    ratio: LatencyRatio


MatchLatency = Callable[[Sequence[Trial]], Mapping[str, SlowerStock]]
"""Returns by signature the stock network that is as slow as the graft of a trial, of those that have one."""


@dataclass(frozen=True)
class Search:
    """What a search has found.

    Attributes:
        tried: Size -> its ratio, None where it cannot be built; in the order in which they were measured.
        nearest: The sizes next to the graft's latency, below and above it, as far as there are any.
    """

    tried: Mapping[float, float | None]
    nearest: tuple[float, ...]


def is_matched(settings: TrialSettings) -> bool:
    """Whether a trial has a graft whose latency is to be matched."""
    return any(graft.module.name not in CONTROL_MODULES for graft in settings.grafts)


def sizes_of(settings: TrialSettings) -> Sizes:
    """Return the sizes of a trial's stock network."""
    imgsz, width = settings.train.imgsz, scale_width(settings.model.architecture)
    if settings.model.weights is None and width is not None:
        first, last = math.floor(width / WIDTH_STEP) + 1, math.floor(min(MOST_SIZES * width, WIDEST) / WIDTH_STEP)
        return Sizes("width", width, tuple(number * WIDTH_STEP for number in range(first, last + 1)))
    step = stock_step(settings)
    first, last = -(-imgsz // step) + 1, math.floor(min(MOST_SIZES * imgsz, LARGEST) / step)
    return Sizes("imgsz", imgsz, tuple(float(number * step) for number in range(first, last + 1)))


def stock_settings(settings: TrialSettings, by: str = "", size: float = 0.0) -> TrialSettings:
    """Return a trial of the stock network, with all else as in a trial but its size where one is named."""
    stock = replace(settings, grafts=(), losses=LossSettings())
    if by == "width":
        architecture = with_width(settings.model.architecture, size)
        return replace(stock, model=replace(settings.model, name=architecture[:-5], architecture=architecture))
    if by == "imgsz":
        train, imgsz = settings.train, int(size)
        return replace(stock, train=replace(train, imgsz=imgsz, arguments={**train.arguments, "imgsz": imgsz}))
    return stock


def search(sizes: Sizes, stock_ratio: float, measure: Measure) -> Search:
    """Search the sizes next to a graft's latency.

    Args:
        sizes: Of the stock network.
        stock_ratio: Latency of the stock network as a multiple of the graft's, below 1.
        measure: Measures sizes.
    """
    tried: dict[float, float | None] = {}
    low, high = (sizes.stock, stock_ratio), None
    open_sizes = list(sizes.larger)
    failures = 0  # of the last measurement: sizes that cannot be built, beside which others are tried at once
    for _ in range(ROUNDS):
        picks = _picks(open_sizes, low, high)
        if not picks:
            break
        measured = measure(sorted({*picks, *_spread(open_sizes, MORE * failures)}))
        failures = sum(ratio is None for ratio in measured.values())
        tried |= measured
        points = sorted((size, ratio) for size, ratio in tried.items() if ratio is not None)
        low = max([(sizes.stock, stock_ratio), *(one for one in points if one[1] < 1)])
        high = min((one for one in points if one[1] >= 1 and one[0] > low[0]), default=None)
        end = math.inf if high is None else high[0]
        open_sizes = [size for size in sizes.larger if low[0] < size < end and size not in tried]
        if any(ratio is not None and abs(ratio - 1) <= CLOSE for ratio in measured.values()):
            break
    ends = [low[0], *([] if high is None else [high[0]])]
    return Search(tried, tuple(size for size in ends if size != sizes.stock))


def _picks(sizes: Sequence[float], low: tuple[float, float], high: tuple[float, float] | None) -> list[float]:
    """Return up to three sizes to measure next.

    Args:
        sizes: Those between the ends of the bracket, ascending.
        low: Size and ratio of the end below the graft's latency.
        high: Those of the other end; None as long as no size is slower than the graft.
    """
    if not sizes:
        return []
    missing = -math.log(low[1])
    if high is None:
        wanted = [low[0] * math.exp(missing / exponent) for exponent in reversed(EXPONENTS)]
    else:
        share = missing / (missing + max(math.log(high[1]), 1e-9))
        middle = low[0] * (high[0] / low[0]) ** share
        wanted = [math.sqrt(low[0] * middle), middle, math.sqrt(middle * high[0])]
        if len(sizes) > 8:  # the latency is known well enough to look near the expected size first
            wanted = [middle * (low[0] / high[0]) ** 0.15, middle, middle * (high[0] / low[0]) ** 0.15]
    return sorted({min(sizes, key=lambda size, near=near: abs(size - near)) for near in wanted})  # type: ignore[misc]


def _spread(sizes: Sequence[float], count: int) -> list[float]:
    """Return at most so many sizes, evenly spread."""
    return [sizes[number * len(sizes) // count] for number in range(count)] if count < len(sizes) else list(sizes)


@dataclass(frozen=True)
class LatencyKey:
    """What the latency of a trial's network depends on, whatever machine and version measure it.

    Attributes:
        grafts: Each graft and the source of its classes, hashed.
        architecture: Of the stock network.
        classes: Number of classes.
        channels: Of the images.
        weights: Hash of the starting weights; None without any.
        imgsz: Side of the images in pixels.
        setting: In which latency is measured, in words.
        device: "cpu" or "gpu".
    """

    grafts: tuple[str, ...]
    architecture: str
    classes: int
    channels: int
    weights: str | None
    imgsz: int
    setting: str
    device: str

    @classmethod
    def of(cls, trial: Trial, setting: str, device: str) -> LatencyKey:
        """Return the key of a trial's network."""
        settings, weights = trial.settings, trial.settings.model.weights
        return cls(
            grafts=tuple(content_hash(graft.key) for graft in settings.grafts),
            architecture=settings.model.architecture,
            classes=len(trained_classes(settings, trial.data)),
            channels=trial.data.channels,
            weights=None if weights is None else file_hash(weights),
            imgsz=settings.train.imgsz,
            setting=setting,
            device=device,
        )
