"""What a trial will take, from what was probed: pure arithmetic."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.measuring.step_cost import StepCost, StepTimes
from ablate.preflight.estimate import END_SECONDS, PLOT_SECONDS, disk, finish_seconds, relative_cost, trial_seconds
from ablate.preflight.network_answer import NetworkCost
from ablate.settings.schema import Config
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial

DATA = DataSet("mine", Path("mine.yaml"), ["a"], {"train": 80, "val": 40}, {"train": 8, "val": 4}, "f" * 64)
TIMES = StepTimes(
    setup_seconds=5.0, step_seconds=2.0, val_seconds=1.0, epoch_seconds=0.5, train_batches=10, val_batches=3
)
COST = NetworkCost(params=1_000_000, params_train=1_000_000, gflops=2.0, gflops_ultralytics=None)


def trial(optimizer: str = "MuSGD", **train: Any) -> Trial:
    content = asdict(Config())
    content["data"] = {"name": "mine", "path": "mine.yaml"}
    content["optimizer"]["name"] = optimizer
    content["train"] |= {"epochs": 10, "plots": False, **train}
    return Trial.of(TrialSettings.from_plain(content), DATA)


def test_a_trial_takes_its_set_up_its_epochs_and_an_evaluation() -> None:
    assert trial_seconds(trial(), TIMES) == 5 + 10 * (10 * 2 + 3 * 1 + 0.5) + 3 * 1 + END_SECONDS


def test_plots_take_time() -> None:
    assert trial_seconds(trial(plots=True), TIMES) == trial_seconds(trial(), TIMES) + PLOT_SECONDS


def test_epochs_that_are_done_are_not_counted() -> None:
    assert trial_seconds(trial(), TIMES) - trial_seconds(trial(), TIMES, epochs_done=4) == 4 * (10 * 2 + 3 * 1 + 0.5)
    assert trial_seconds(trial(), TIMES, epochs_done=10) == 5 + 3 + END_SECONDS


def test_without_validation_only_the_last_epoch_is_validated() -> None:
    assert trial_seconds(trial(), TIMES) - trial_seconds(trial(val=False), TIMES) == 9 * 3


def test_a_training_of_so_many_hours_takes_so_many_hours() -> None:
    assert trial_seconds(trial(time=2.0), TIMES) == 5 + 2 * 3600 + 3 + END_SECONDS
    assert trial_seconds(trial(time=2.0), TIMES, epochs_done=5) == 5 + 3600 + 3 + END_SECONDS


@pytest.mark.parametrize(
    ("seconds", "slots", "end"),
    [
        ([], 4, 0),
        ([3, 2, 1], 1, 6),
        ([1, 2, 3], 2, 4),  # the third starts when the first ends
        ([3, 2, 1], 2, 3),  # longest first packs better
        ([5, 1], 8, 5),
    ],
)
def test_trials_start_in_order_on_the_slot_that_is_free_first(seconds: list[float], slots: int, end: float) -> None:
    assert finish_seconds(seconds, slots) == end


def test_a_finished_trial_keeps_two_checkpoints_and_mlflow_a_third() -> None:
    with_copies = trial()
    command = with_copies.settings.command
    command = replace(command, tracking=replace(command.tracking, artifacts=False))
    without = replace(with_copies, settings=replace(with_copies.settings, command=command))

    kept, copied = disk(without, COST).final, disk(with_copies, COST).final - disk(without, COST).final
    assert kept == pytest.approx(2 * 2e6, rel=0.25)
    assert copied == pytest.approx(2e6, rel=0.3)


def test_checkpoints_kept_on_the_way_and_plots_are_counted() -> None:
    assert disk(trial(save_period=2), COST).final - disk(trial(), COST).final == pytest.approx(5 * 2e6, rel=0.2)
    assert disk(trial(plots=True), COST).final - disk(trial(), COST).final > 2e6


def test_a_running_trial_needs_what_continuing_needs_twice_while_it_is_written() -> None:
    step = StepCost(
        TIMES, 16, 4, checkpoint_bytes=100_000_000, peak_memory_gb=1.0, device_name="", device_memory_gb=None
    )
    probed = disk(trial(), COST, step)

    assert probed.running > 200_000_000
    assert probed.final == disk(trial(), COST).final
    assert disk(trial("SGD"), COST).running < disk(trial("AdamW"), COST).running
    assert disk(trial(nbs=16, batch=16), COST).running < disk(trial(nbs=64, batch=16), COST).running


def test_the_size_of_a_checkpoint_is_that_of_a_real_one() -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    network = DetectionModel("yolo26n.yaml", nc=4, verbose=False)
    params = sum(p.numel() for p in network.parameters())
    file = io.BytesIO()
    torch.save({"model": network.half()}, file)

    last_and_best_and_copy = disk(trial(), replace(COST, params_train=params)).final
    assert last_and_best_and_copy == pytest.approx(3 * file.tell(), rel=0.1)


def test_trials_are_compared_by_arithmetic_before_anything_was_measured() -> None:
    costs = {trial().identity.variant_key: COST, trial(imgsz=64).identity.variant_key: replace(COST, gflops=0.5)}

    assert relative_cost(trial(), costs) == 2.0 * (40 + 3 * 80) * 10
    assert relative_cost(trial(imgsz=64), costs) == relative_cost(trial(), costs) / 4


@pytest.mark.parametrize(
    ("fraction", "train", "val"),
    [(0.5, 40, 40), (20, 20, 40), (200, 80, 40), ([10, 0.5], 10, 20), ([1.0, 30, 0], 80, 30)],
)
def test_a_share_or_a_number_of_the_images_is_counted(fraction: Any, train: int, val: int) -> None:
    given = trial(fraction=fraction)
    assert relative_cost(given, {given.identity.variant_key: COST}) == 2.0 * (val + 3 * train) * 10


def test_a_split_that_the_data_set_lacks_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"train\.split=test: mine has no such split; valid: train, val"):
        trial(split="test")
