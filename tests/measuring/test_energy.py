"""Energy as NVML tells it; without NVML nothing is said, and nothing is made up.

NVML itself is what cannot run without a GPU: here an object with its functions, names and units stands in for it.
"""

from __future__ import annotations

import gc
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ablate.measuring.energy import EnergyMeter, _PowerIntegral, gpu_uuids


class NVMLError(Exception):
    """As in pynvml."""


class Board:
    """A GPU: the energy since the driver was loaded (mJ), None where it keeps no account; the power now (mW)."""

    def __init__(self, energy: float | None = 5_000_000.0, power: float = 0.0) -> None:
        self.energy, self.power = energy, power


class Library:
    """The functions of pynvml that are used."""

    NVMLError = NVMLError

    def __init__(self, **boards: Board) -> None:
        self.boards = {f"GPU-{name}": board for name, board in boards.items()}
        self.started = 0
        self.gone = False

    def nvmlInit(self) -> None:
        self.started += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Board:
        if uuid not in self.boards:
            raise NVMLError("Not Found")
        return self.boards[uuid]

    def nvmlDeviceGetTotalEnergyConsumption(self, board: Board) -> float:
        if self.gone:
            raise NVMLError("GPU is lost")
        if board.energy is None:
            raise NVMLError("Not Supported")
        return board.energy

    def nvmlDeviceGetPowerUsage(self, board: Board) -> float:
        if board.power < 0:
            raise NVMLError("Not Supported")
        return board.power


def metered(library: Any, *names: str) -> EnergyMeter:
    meter = EnergyMeter([f"GPU-{name}" for name in names], library)
    meter.start()
    return meter


def test_energy_is_what_the_boards_took_since_the_start() -> None:
    first, second = Board(), Board(energy=0.0)
    meter = metered(Library(a=first, b=second), "a", "b")
    assert meter.kwh() == 0

    first.energy = 5_000_000.0 + 3.6e9  # 1 kWh is 3.6e6 J
    second.energy = 1.8e9
    assert meter.kwh() == pytest.approx(1.5)

    meter.start()
    assert meter.kwh() == 0


def test_without_an_account_power_is_added_up_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep)
    monkeypatch.setattr("ablate.measuring.energy.time", clock)
    board = Board(energy=None, power=250_000.0)
    meter = metered(Library(a=board), "a")
    now[0] += 72.0

    assert meter.kwh() == pytest.approx(72 * 250 / 3.6e6)


def test_power_is_looked_at_again_and_again_until_nobody_asks() -> None:
    looks = threading.Semaphore(0)

    def watch() -> float:
        looks.release()
        return 1.0

    before = set(threading.enumerate())
    power = _PowerIntegral(watch, every=0.001)
    (thread,) = set(threading.enumerate()) - before
    assert all(looks.acquire(timeout=10) for _ in range(5))
    del power
    gc.collect()
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("library", "names"),
    [
        (Library(), ["a"]),  # no such GPU
        (Library(a=Board()), ["a", "b"]),  # the energy of one of two would be too little
        (Library(a=Board(energy=None, power=-1.0)), ["a"]),  # it tells neither
        (object(), ["a"]),  # no NVML at all
        (Library(a=Board()), []),  # a training on the CPU
    ],
)
def test_what_nobody_tells_is_none(library: Any, names: list[str]) -> None:
    assert metered(library, *names).kwh() is None


def test_a_gpu_that_is_lost_or_begins_anew_is_none_from_then_on() -> None:
    lost, anew = Library(a=Board()), Library(a=Board())
    first, second = metered(lost, "a"), metered(anew, "a")
    lost.gone = True
    anew.boards["GPU-a"].energy = 3.0

    assert (first.kwh(), second.kwh()) == (None, None)
    anew.boards["GPU-a"].energy = 9e9
    assert second.kwh() is None


def test_a_training_on_the_cpu_asks_no_nvml() -> None:
    library = Library(a=Board())
    meter = EnergyMeter(gpu_uuids(torch.device("cpu")), library)
    meter.start()

    assert meter.kwh() is None
    assert library.started == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_where_there_is_no_gpu_the_real_library_says_so_without_noise(capfd: pytest.CaptureFixture[str]) -> None:
    meter = EnergyMeter(["GPU-00000000-0000-0000-0000-000000000000"])
    meter.start()

    assert meter.kwh() is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
def test_a_gpu_at_work_takes_energy() -> None:
    meter = EnergyMeter(gpu_uuids(torch.device("cuda")))
    meter.start()
    x = torch.randn(4096, 4096, device="cuda")
    for _ in range(200):
        x = (x @ x).tanh()
    torch.cuda.synchronize()

    found = meter.kwh()
    assert found is not None
    assert 0 < found < 0.01
