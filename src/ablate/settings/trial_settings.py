"""The settings of one trial as frozen objects, made once from what Hydra has composed.

`TrialSettings.from_plain` takes the plain configuration and normalises it; `to_plain` gives what `config.yaml` and
`result.json` hold and what the signature is made from. Between the two, everybody reads attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache

from ablate.data.data_settings import DataSettings
from ablate.settings.fold import RANDOM, Fold
from ablate.settings.graft import GraftSpec, grafts_of_config, targets_of
from ablate.settings.losses import LossSettings
from ablate.settings.schema import (
    Config,
    LatencySettings,
    ModelSettings,
    OptimizerSettings,
    TrackingSettings,
    no_module,
    training_arguments,
)
from ablate.settings.tuning import Tuning
from ablate.storage.plain_values import Plain, plain_copy

_NO_INSERTION = {"name": "none", "at": None, "wiring": "plain"}


@dataclass(frozen=True)
class TrainSettings:
    """Ultralytics' training arguments, and by name those that ablate itself reads.

    Attributes:
        arguments: All arguments of the group `train`, as Ultralytics takes them.
    """

    arguments: Mapping[str, object]
    amp: bool | str
    batch: int
    close_mosaic: int
    cls_remap: bool
    epochs: int
    fraction: float | list[float]
    freeze: int | list[int | str] | None
    imgsz: int
    mosaic: float
    nbs: int
    plots: bool
    save_period: int
    single_cls: bool
    split: str
    time: float | None
    val: bool
    workers: int

    @classmethod
    def from_plain(cls, arguments: Plain) -> TrainSettings:
        """Return the settings of a composed group `train`; an argument that it lacks has Ultralytics' default."""
        complete = {**training_arguments(), **arguments}
        named = {entry.name: complete[entry.name] for entry in fields(cls) if entry.name != "arguments"}
        return cls(arguments=plain_copy(dict(arguments)), **named)


@dataclass(frozen=True)
class CommandSettings:
    """The settings that all trials of a command share. None of them can change a trial's result."""

    tracking: TrackingSettings
    latency: LatencySettings
    baseline: bool
    design: str
    components: list[str]
    controls: list[str]
    exclude: list[Plain]
    order: str
    skip_invalid: bool
    retry: str
    probe: bool
    figures: bool
    notebook: bool
    strict: bool
    sweep: str | None
    root: str
    trust_weights: bool
    delta: float | None
    judge: str
    until: str | None
    max_seeds: int
    budget: str | None
    tune: int
    folds: int
    split: str
    metric: str

    @classmethod
    def from_plain(cls, config: Plain) -> CommandSettings:
        """Return the command's part of a composed configuration; a field that it lacks has its default."""
        tracking = TrackingSettings(**config.get("tracking", {}))
        latency = LatencySettings(**plain_copy(config.get("latency", {})))
        plain = {name: plain_copy(config.get(name, default)) for name, default in _command_defaults().items()}
        return cls(tracking, latency, **plain)


@dataclass(frozen=True)
class TrialSettings:
    """All settings of one trial.

    Attributes:
        grafts: What is inserted into the network or replaces a layer of it, a head included, sorted by insertion
            point. Grafts at one point are chained in the order of the command. Empty for a baseline.
        losses: Those that are not the stock network's own.
        tuning: How the learning rate is chosen; None where it is the given one.
        fold: Which part of the images it is evaluated on, where they are divided for a cross-validation; else None.
        command: The settings that all trials of a command share.
    """

    grafts: tuple[GraftSpec, ...]
    losses: LossSettings
    optimizer: OptimizerSettings
    data: DataSettings
    model: ModelSettings
    train: TrainSettings
    seed: int
    device: str
    on_oom: str
    freeze_grafts: bool
    tuning: Tuning | None
    fold: Fold | None
    command: CommandSettings

    @property
    def targets(self) -> list[str]:
        """Return the dotted paths of the classes of the grafts and losses, each once."""
        return list(dict.fromkeys([*targets_of(self.grafts), *self.losses.targets]))

    @classmethod
    def from_plain(cls, config: Plain) -> TrialSettings:
        """Return the settings of a composed configuration, normalised; what it lacks has its default.

        A graft is the same whether it is set by `module` and `insertion`, in `grafts` or as `head`. What plays no part
        has one neutral value, so that it cannot make two equal trials look different.

        Raises:
            ConfigError: An entry of `grafts` is not valid graft syntax, or there is no such loss.
        """
        return cls(
            grafts=tuple(sorted(grafts_of_config(config), key=lambda graft: graft.insertion.name)),
            losses=LossSettings.from_plain(config.get("loss", {})),
            optimizer=OptimizerSettings(**config.get("optimizer", {})),
            data=DataSettings.from_plain(config["data"]),
            model=ModelSettings(**config.get("model", {})),
            train=TrainSettings.from_plain(config.get("train", {})),
            seed=int(config.get("seed", 0)),
            device=str(config.get("device", "auto")),
            on_oom=str(config.get("on_oom", "fail")),
            freeze_grafts=bool(config.get("freeze_grafts", False)),
            tuning=_tuning(config),
            fold=_fold(config),
            command=CommandSettings.from_plain(config),
        )

    def to_plain(self) -> Plain:
        """Return the settings as `config.yaml` and `result.json` hold them; `from_plain` is the inverse."""
        grafts = [graft.to_plain() for graft in self.grafts]
        first = grafts[0] if grafts else {"module": no_module(), "insertion": dict(_NO_INSERTION)}
        command = asdict(self.command)
        tracking, latency = command.pop("tracking"), command.pop("latency")
        return {
            **first,
            "optimizer": asdict(self.optimizer),
            "data": plain_copy(self.data.to_plain()),
            "model": asdict(self.model),
            "train": plain_copy(dict(self.train.arguments)),
            "tracking": tracking,
            "latency": latency,
            "seed": self.seed,
            "device": self.device,
            "on_oom": self.on_oom,
            "grafts": grafts[1:],
            "freeze_grafts": self.freeze_grafts,
            **command,
            "loss": self.losses.to_plain(),
            "head": None,  # it is one of the grafts
            **({} if self.tuning is None else {"tuning": asdict(self.tuning)}),
            **({} if self.fold is None else {"fold": asdict(self.fold)}),
        }


def _tuning(config: Plain) -> Tuning | None:
    """Return how the learning rate was chosen, as recorded, or is to be chosen, as the command says."""
    if recorded := config.get("tuning"):
        return Tuning(**recorded)
    return Tuning.of_command(config.get("tune", 0), TrainSettings.from_plain(config.get("train", {})).epochs)


def _fold(config: Plain) -> Fold | None:
    """Return the fold, as recorded, or the first one that the command means."""
    if recorded := config.get("fold"):
        return Fold(**recorded)
    return Fold.of_command(config.get("folds", 0), config.get("split", RANDOM))


OF_COMMAND = tuple(entry.name for entry in fields(CommandSettings))


@cache
def _command_defaults() -> Plain:
    """Return the fields of a command that are single values or lists, with their defaults."""
    config = Config()
    return {name: getattr(config, name) for name in OF_COMMAND if name not in ("tracking", "latency")}
