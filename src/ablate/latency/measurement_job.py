"""What a worker process is given to measure, and what it returns. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablate.latency.latency_settings import Setting
from ablate.measuring.machine import Facts
from ablate.settings.trial_settings import TrialSettings


@dataclass(frozen=True)
class Checkpoint:
    """A trained network that is to be measured.

    Attributes:
        path: The checkpoint.
        imgsz: Side of the network's square input in pixels.
        head: "one_to_one" or "one_to_many" (see `ablate.latency.backends.deploy`).
        signature: Of the trial that it should be of; None: of any.
        targets: Classes of its grafts, which may lie in the working folder and are imported.
        trust: Whether it may name what is no part of a network.
        named: Whether the user's command names all of `targets`.
    """

    path: str
    imgsz: int
    head: str
    signature: str | None = None
    targets: tuple[str, ...] = ()
    trust: bool = False
    named: bool = False


@dataclass(frozen=True)
class MeasurementOptions:
    """How long to measure, and where.

    Attributes:
        device: A torch device.
        rounds: Rounds that count.
        warmup: Rounds before them at least.
        warmup_max: Rounds before them at most.
        threads: Of PyTorch and ONNX Runtime on the processor; None: all that the process may use.
        seed: Of the order and of the images.
        pictures: For the pipeline: files of real images; drawn ones are used where there are none.
    """

    device: str = "cpu"
    rounds: int = 50
    warmup: int = 10
    warmup_max: int = 40
    threads: int | None = 1
    seed: int = 0
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasurementJob:
    """What one worker process measures.

    Attributes:
        checkpoints: The networks, by key.
        settings: The settings in which to measure them.
        options: How long, and where.
        refuse_busy: Fail where the device is used by others, instead of flagging it.
        progress: A file to write the progress to: what is done, rounds done, rounds in all.
    """

    checkpoints: Mapping[str, Checkpoint]
    settings: tuple[Setting, ...]
    options: MeasurementOptions
    refuse_busy: bool = False
    progress: str | None = None


@dataclass(frozen=True)
class UntrainedNetwork:
    """The network of a trial that has not been trained.

    Attributes:
        settings: Of the trial.
        classes: Names of the classes that it is trained to tell apart.
        channels: Of the images.
    """

    settings: TrialSettings
    classes: tuple[str, ...]
    channels: int


@dataclass(frozen=True)
class UntrainedJob:
    """What one worker process builds and measures; attributes as those of `MeasurementJob`."""

    networks: Mapping[str, UntrainedNetwork]
    settings: tuple[Setting, ...]
    options: MeasurementOptions
    refuse_busy: bool = False
    progress: str | None = None


@dataclass(frozen=True)
class NetworkTimes:
    """Times of one network in one setting.

    Attributes:
        parts: For each round the milliseconds of the network, or of the three parts of the pipeline.
        difference: Of its output to that in fp32 and eager mode, relative; None where it was not compared.
        reason: Why there are no times.
    """

    parts: tuple[tuple[float, ...], ...] = ()
    difference: float | None = None
    reason: str | None = None

    @property
    def totals(self) -> list[float]:
        """The milliseconds of each round."""
        return [sum(parts) for parts in self.parts]


@dataclass(frozen=True)
class SettingTimes:
    """Times of all networks in one setting.

    Attributes:
        setting: The setting.
        imgsz: Side of the networks' input, or all sides where they differ.
        warmup: Rounds before the first that counts.
        warmed_up: Whether latencies were stable by then; None without any warm-up.
        clock: Name of the clock.
        memory_format: Of the weights.
        pictures: Which images the pipeline got; None for the network alone.
        unsteady: Keys whose latency still changed when warm-up ended.
        networks: Times by key.
    """

    setting: Setting
    imgsz: int | list[int]
    warmup: int
    warmed_up: bool | None
    clock: str
    memory_format: str
    pictures: str | None
    unsteady: tuple[str, ...]
    networks: Mapping[str, NetworkTimes]

    @property
    def rounds(self) -> int:
        """Rounds that count."""
        return max((len(times.parts) for times in self.networks.values()), default=0)


@dataclass(frozen=True)
class ProcessTimes:
    """What one process measured.

    Attributes:
        facts: Facts of the protocol that hold for all settings.
        flags: One line for each way in which others used the device, before or meanwhile.
        settings: Times in each setting.
    """

    facts: Facts
    flags: tuple[str, ...]
    settings: tuple[SettingTimes, ...]
