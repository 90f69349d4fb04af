"""What a trial will take: seconds, disk, and how it compares with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.data.data_use import images_used
from ablate.launching.sharing import Layout, Sharing, Throughput
from ablate.monitor.time_left import time_left
from ablate.study.trial import Trial

# What follows the last epoch besides the evaluation itself (loading the best checkpoint, counting, six sample images),
# and what the plots of a trial take. Seconds, seen with YOLO26n at 64 to 128 pixels on a CPU of 2023; little beside an
# hour of training wherever they are spent.
END_SECONDS = 2.0
PLOT_SECONDS = 4.0

# Where only steps of the training were measured: an image of the validation against one of the training (no backward
# pass, no optimizer, but the matching of boxes), and what an epoch needs besides (two checkpoints, metrics).
VALIDATED = 0.4
EPOCH_SECONDS = 0.5

# Where nothing was measured: YOLO26n at 128 pixels, one thread of an AVX2 processor. Right to a factor of two or so.
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

# While it trains last.pt also has what continuing needs in full precision: weights, their average, what the optimizer
# keeps, and gradients that wait for its step. A new one is written whole before the old one goes.
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


def trial_seconds(trial: Trial, probe: Mapping[str, Any], epochs_done: int = 0) -> float:
    """Return how long a trial will take on the device that its variant was probed on.

    Args:
        trial: The trial.
        probe: What `ablate.measuring.step_cost` found.
        epochs_done: Epochs that need not be trained again.
    """
    train = trial.config["train"]
    epochs = max(int(train["epochs"]) - epochs_done, 0)
    validation = probe["val_batches"] * probe["val_seconds"]
    validations = epochs if train["val"] else min(epochs, 1)
    training = epochs * (probe["train_batches"] * probe["step_seconds"] + probe["epoch_seconds"])
    if train["time"]:  # Ultralytics trains for so many hours, however many epochs that are
        training, validations = train["time"] * 3600 * epochs / train["epochs"], 0
    end = validation + END_SECONDS + (PLOT_SECONDS if train["plots"] else 0.0)
    return float(probe["setup_seconds"] + training + validations * validation + end)


def expected_seconds(trial: Trial, measured: Throughput, size: float = 1.0, epochs_done: int = 0) -> float:
    """Return how long a trial will take, by measured steps of another one of the same sweep.

    Args:
        trial: The trial.
        measured: Steps of the sweep's baseline.
        size: FLOPs of the trial's network for one image, in those of the baseline's.
        epochs_done: Epochs that need not be trained again.
    """
    batch, images = int(trial.config["train"]["batch"]), images_used(trial.data, trial.config["train"])
    step = measured.step_seconds * (1 - measured.optimizer_share) * size + _optimizer_seconds(measured)
    probe = {
        "setup_seconds": measured.setup_seconds,
        "step_seconds": step,
        "train_batches": -(-images["train"] // batch),
        "val_batches": images["val"] / batch,
        "val_seconds": VALIDATED * (step - _optimizer_seconds(measured)),
        "epoch_seconds": EPOCH_SECONDS,
    }
    return trial_seconds(trial, probe, epochs_done)


def rough_throughput(trial: Trial, cost: Mapping[str, Any]) -> Throughput:
    """Return what steps of a trial may take on one thread of a processor, from its FLOPs (see `preflight`)."""
    batch = int(trial.config["train"]["batch"])
    accumulated = max(int(trial.config["train"]["nbs"]) / batch, 1.0)
    optimizer = ROUGH_OPTIMIZER * cost["params_train"] / accumulated
    step = 3 * cost["gflops"] * batch / ROUGH_GFLOPS + optimizer  # backward is two more
    return Throughput(Layout(1, 1), batch / step, step, optimizer / step, ROUGH_SETUP)


def _optimizer_seconds(measured: Throughput) -> float:
    return measured.step_seconds * measured.optimizer_share


def reasons(trials: Sequence[Trial], sharing: Sharing | None, cores: int | None) -> str:
    """Say what makes a sweep long, as far as it is known: what was measured first, then what was asked for."""
    said = []
    measured = None if sharing is None else sharing.chosen
    if sharing is not None and sharing.others >= 0.25:
        said.append(f"other processes took {sharing.others:.1f} of {cores} cores while it was measured")
    if measured is not None and measured.optimizer_share >= 0.3:
        said.append(
            f"the optimizer ({trials[0].config['optimizer']['name']}) takes {measured.optimizer_share:.0%} of each step"
        )
    train = trials[0].config["train"]
    images = images_used(trials[0].data, train)["train"]
    steps = int(train["epochs"]) * -(-images // int(train["batch"]))
    each = "" if measured is None else f" of {measured.step_seconds:.2g} s"
    said.append(f"a trial has {steps} steps{each} ({train['epochs']} epochs of {images} images at {train['imgsz']} px)")
    if cores is not None:
        said.append(f"there {'is one core' if cores == 1 else f'are {cores} cores'} and no GPU")
    return "; ".join(said)


def finish_seconds(seconds: Sequence[float], slots: int) -> float:
    """Return when the last trial ends, where each starts in the given order on the slot that is free first."""
    return time_left([], seconds, slots) or 0.0


def disk(trial: Trial, cost: Mapping[str, Any], probe: Mapping[str, Any] | None = None) -> Disk:
    """Return what a trial needs on the disk.

    Args:
        trial: The trial.
        cost: What `preflight` found, with its cost.
        probe: What a probe found, if there was one; it has seen the size of last.pt.
    """
    config, params = trial.config, cost["params_train"]
    train, tracking = config["train"], config["tracking"]
    weights = BYTES_HALF * params + STRUCTURE
    side = min(1920, 4 * train["imgsz"])
    plots = PLOTS + COLLAGES * COLLAGE_BYTES * side**2 if train["plots"] else 0
    saved = train["epochs"] // train["save_period"] if train["save_period"] > 0 else 0
    folder = (2 + saved) * weights + plots + RECORDS
    copies = weights + plots + RECORDS if tracking["artifacts"] and tracking["uri"] is None else 0
    full = 2 + OPTIMIZER_STATES[config["optimizer"]["name"]] + (train["nbs"] > train["batch"])
    last = (probe or {}).get("checkpoint_bytes") or weights + full * BYTES_FULL * params
    return Disk(final=int(folder + copies), running=int(2 * last + (1 + saved) * weights + plots + RECORDS))


def relative_cost(
    trial: Trial,
    costs: Mapping[str, Mapping[str, Any]],
    probes: Mapping[str, Mapping[str, Any]] | None = None,
    epochs_done: int = 0,
) -> float:
    """Return what a trial costs in comparison with others: in seconds with probes for all, else in GFLOPs.

    Args:
        trial: The trial.
        costs: By variant key what `preflight` found, with its cost.
        probes: By variant key what was probed.
        epochs_done: Epochs that need not be trained again.
    """
    key = trial.identity.variant_key
    if probes is not None:
        return trial_seconds(trial, probes[key], epochs_done)
    train = trial.config["train"]
    epochs = max(int(train["epochs"]) - epochs_done, 0)
    images = images_used(trial.data, train)
    forward = images["val"] + 3 * images["train"]  # backward is two more
    return float(costs[key]["gflops"]) * forward * epochs
