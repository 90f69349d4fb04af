"""A probe is a real training cut short."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.training.conftest import small_network

from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.measuring.step_cost import probe
from ablate.training.trainer import AblateTrainer
from ablate.training.training_errors import Diverged, OutOfMemory

BLOCKS = """
from torch import nn

class Nan(nn.Identity):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        return x * float("nan") if self.training else x

class TooLarge(nn.Identity):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        if self.training and x.requires_grad:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return x
"""

Make = Callable[..., Callable[[], Any]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return what makes a trainer for a few tiny images."""
    (tmp_path / "going_wrong.py").write_text(BLOCKS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    made: list[Any] = []

    def maker(module: str | None = None, images: int = 8, **arguments: Any) -> Callable[[], Any]:
        data = {"name": "shapes", "path": None, "train_images": images, "val_images": 12, "imgsz": 64, "seed": 0}
        content = small_network()
        if module:
            insertion = {"name": "neck_p5", "at": None, "wiring": "plain"}
            content["ablate"] = {"module": {"_target_": f"going_wrong.{module}"}, "insertion": insertion}
        network = tmp_path / "yolo26n.yaml"
        network.write_text(yaml.safe_dump(content), encoding="utf-8")

        def trainer() -> Any:
            made.append(
                AblateTrainer(
                    overrides={
                        **{
                            "model": str(network),
                            "pretrained": False,
                            "data": str(resolve(DataSettings.from_plain(data)).yaml),
                        },
                        **{"device": "cpu", "epochs": 50, "batch": 4, "nbs": 4, "imgsz": 64, "plots": False},
                        **{"optimizer": "MuSGD", "warmup_epochs": 0.0, "project": str(tmp_path), "name": "train"},
                        **{"exist_ok": True, **arguments},
                    }
                )
            )
            return made[-1]

        return trainer

    maker.made = made  # type: ignore[attr-defined]
    yield maker
    sys.modules.pop("going_wrong", None)


def test_a_probe_tells_what_each_part_of_a_training_takes(make: Make, tmp_path: Path) -> None:
    cost = probe(make())

    for name in ("setup_seconds", "step_seconds", "val_seconds", "epoch_seconds"):
        assert getattr(cost.times, name) > 0, name
    assert cost.peak_memory_gb is not None
    assert cost.peak_memory_gb > 0
    assert (cost.times.train_batches, cost.times.val_batches, cost.batch) == (2, 2, 4)
    assert cost.checkpoint_bytes == (tmp_path / "train" / "weights" / "last.pt").stat().st_size
    assert cost.device_name
    assert cost.device_memory_gb is None


def test_a_probe_ends_after_one_short_epoch(make: Make) -> None:
    cost = probe(make(images=400, batch=4))

    (trainer,) = make.made  # type: ignore[attr-defined]
    assert len(trainer.journal.rows) == 1
    assert 4 <= cost.measured <= 24
    assert cost.times.train_batches == 100
    assert trainer._batch == cost.measured + 2


def test_each_batch_carries_its_share_of_the_optimizer_s_step(make: Make) -> None:
    class Slow(AblateTrainer):
        def optimizer_step(self) -> None:
            super().optimizer_step()
            time.sleep(1.0)

    ordinary = make(images=40, nbs=8)  # batches of 4: a step after every second one
    cost = probe(lambda: _as(Slow, ordinary()))

    assert cost.times.step_seconds >= 0.5


def _as(kind: type[Any], trainer: Any) -> Any:
    trainer.__class__ = kind
    return trainer


@pytest.mark.parametrize(("module", "kind"), [("Nan", Diverged), ("TooLarge", OutOfMemory)])
def test_what_would_end_the_training_ends_the_probe(make: Make, module: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        probe(make(module))
