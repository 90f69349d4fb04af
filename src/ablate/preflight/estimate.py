"""What a trial will take: seconds, disk, and in comparison with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.launching.sharing import Layout, Sharing, Throughput
from ablate.measuring.step_cost import StepCost, StepTimes
from ablate.monitor.time_left import time_left
from ablate.preflight.network_answer import NetworkCost
from ablate.study.trial import Trial

# Seconds after the last epoch besides the evaluation (loading the best checkpoint, counting, six sample images), and of
# a trial's plots; measured with YOLO26n at 64 to 128 pixels on a CPU of 2023. Little beside an hour of training.
END_SECONDS = 2.0
PLOT_SECONDS = 4.0

# Where only training steps were measured: time of an image in validation, in those of one in training (no backward
# pass, no optimizer, but the matching of boxes), and seconds of an epoch besides its batches (checkpoints, metrics).
VALIDATED = 0.4
EPOCH_SECONDS = 0.5

# Where nothing was measured: YOLO26n at 128 pixels, one thread of an AVX2 processor. Right to a factor of two.
ROUGH_GFLOPS = 18.0  # 1e9 floating-point operations a second, forward and backward
ROUGH_OPTIMIZER = 50e-9  # seconds a parameter, for a step
ROUGH_SETUP = 4.0  # seconds

# A finished YOLO26n trial (3.05 M parameters while training): last.pt and best.pt of 6.40 MB each, 2 bytes a parameter
# and the pickled structure; 0.13 MB of logs, records and samples; 1.23 MB of plots at 64 pixels, nine of which are
# collages of images that grow with the image up to 1920 pixels. MLflow's store has copies of all but last.pt.
BYTES_HALF = 2
STRUCTURE = 300_000
RECORDS = 200_000
PLOTS = 1_100_000
COLLAGES = 9
COLLAGE_BYTES = 0.1  # of a JPEG, for each pixel

# During training last.pt also holds, in full precision: weights, their average, the optimizer's state, and accumulated
# gradients. A new one is written whole before the old one is removed.
BYTES_FULL = 4
OPTIMIZER_STATES = {"SGD": 1, "MuSGD": 2, "AdamW": 2}


@dataclass(frozen=True)
class Disk:
    """Bytes of one trial.

    Attributes:
        final: When it has finished, with MLflow's copies where they lie on the same disk.
        running: While it trains.
    """

    final: int
    running: int


def trial_seconds(trial: Trial, times: StepTimes, epochs_done: int = 0) -> float:
    """Return how long a trial will take.

    Args:
        trial: The trial.
        times: What its steps take.
        epochs_done: Epochs that need not be trained again.
    """
    train = trial.settings.train
    epochs = max(train.epochs - epochs_done, 0)
    validation = times.val_batches * times.val_seconds
    validations = epochs if train.val else min(epochs, 1)
    training = epochs * (times.train_batches * times.step_seconds + times.epoch_seconds)
    if train.time:  # Ultralytics trains for so many hours, however many epochs that are
        training, validations = train.time * 3600 * epochs / train.epochs, 0
    end = validation + END_SECONDS + (PLOT_SECONDS if train.plots else 0.0)
    return float(times.setup_seconds + training + validations * validation + end)


def expected_seconds(trial: Trial, measured: Throughput, size: float = 1.0, epochs_done: int = 0) -> float:
    """Return how long a trial will take, from measured steps of another one of the same sweep.

    Args:
        trial: The trial.
        measured: Steps of the sweep's baseline.
        size: FLOPs of the trial's network for one image, as a multiple of the baseline's.
        epochs_done: Epochs that need not be trained again.
    """
    train = trial.settings.train
    images = trial.images_used
    network = measured.step_seconds * (1 - measured.optimizer_share) * size
    times = StepTimes(
        setup_seconds=measured.setup_seconds,
        step_seconds=network + measured.step_seconds * measured.optimizer_share,
        val_seconds=VALIDATED * network,
        epoch_seconds=EPOCH_SECONDS,
        train_batches=-(-images.train // train.batch),
        val_batches=images.val / train.batch,
    )
    return trial_seconds(trial, times, epochs_done)


def rough_throughput(trial: Trial, cost: NetworkCost) -> Throughput:
    """Return what steps of a trial may take on one thread of a processor, from its FLOPs."""
    batch = trial.settings.train.batch
    accumulated = max(trial.settings.train.nbs / batch, 1.0)
    optimizer = ROUGH_OPTIMIZER * cost.params_train / accumulated
    step = 3 * cost.gflops * batch / ROUGH_GFLOPS + optimizer  # backward is two more
    return Throughput(Layout(1, 1), batch / step, step, optimizer / step, ROUGH_SETUP)


def reasons(trials: Sequence[Trial], sharing: Sharing | None, cores: int | None) -> str:
    """Return what makes a sweep long, in words: first what was measured, then what the settings demand."""
    parts = []
    measured = None if sharing is None else sharing.chosen
    if sharing is not None and sharing.others >= 0.25:
        parts.append(f"other processes took {sharing.others:.1f} of {cores} cores while it was measured")
    if measured is not None and measured.optimizer_share >= 0.3:
        parts.append(
            f"the optimizer ({trials[0].settings.optimizer.name}) takes {measured.optimizer_share:.0%} of each step"
        )
    train = trials[0].settings.train
    images = trials[0].images_used.train
    steps = train.epochs * -(-images // train.batch)
    each = "" if measured is None else f" of {measured.step_seconds:.2g} s"
    parts.append(f"a trial has {steps} steps{each} ({train.epochs} epochs of {images} images at {train.imgsz} px)")
    if cores is not None:
        parts.append(f"there {'is one core' if cores == 1 else f'are {cores} cores'} and no GPU")
    return "; ".join(parts)


def finish_seconds(seconds: Sequence[float], slots: int) -> float:
    """Return when the last trial ends, where each starts in the given order on the slot that is free first."""
    return time_left([], seconds, slots) or 0.0


def disk(trial: Trial, cost: NetworkCost, step: StepCost | None = None) -> Disk:
    """Return what a trial needs on the disk.

    Args:
        trial: The trial.
        cost: Of its network.
        step: Of its steps, where they were measured; then the size of last.pt is known.
    """
    settings, params = trial.settings, cost.params_train
    train, tracking = settings.train, settings.command.tracking
    weights = BYTES_HALF * params + STRUCTURE
    side = min(1920, 4 * train.imgsz)
    plots = PLOTS + COLLAGES * COLLAGE_BYTES * side**2 if train.plots else 0
    saved = train.epochs // train.save_period if train.save_period > 0 else 0
    folder = (2 + saved) * weights + plots + RECORDS
    copies = weights + plots + RECORDS if tracking.artifacts and tracking.uri is None else 0
    full = 2 + OPTIMIZER_STATES[settings.optimizer.name] + (train.nbs > train.batch)
    last = weights + full * BYTES_FULL * params if step is None else step.checkpoint_bytes
    return Disk(final=int(folder + copies), running=int(2 * last + (1 + saved) * weights + plots + RECORDS))


def relative_cost(trial: Trial, costs: Mapping[str, NetworkCost]) -> float:
    """Return what a trial costs in comparison with others: GFLOPs of the whole training.

    Args:
        trial: The trial.
        costs: Of the networks, by variant key.
    """
    train = trial.settings.train
    images = trial.images_used
    forward = images.val + 3 * images.train  # backward is two more
    return float(costs[trial.identity.variant_key].gflops) * forward * max(train.epochs, 0)
