"""The whole configuration as dataclasses: what Hydra composes, with types, ranges and defaults.

The YAML files in `conf/` hold values and comments; types, ranges and defaults live here. Ranges are written as
text in a field's metadata (``"> 0 and <= 1"``) and checked by `ablate.settings.validation`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from ablate.errors import ConfigError
from ablate.settings.fold import MOST as MOST_FOLDS
from ablate.settings.fold import RANDOM
from ablate.settings.training_arguments import OWNED
from ablate.storage.files import FileState, file_state
from ablate.storage.plain_values import Plain, plain_copy
from ablate.storage.yaml_files import YamlFileError, read_mapping

if TYPE_CHECKING:
    from omegaconf import DictConfig

WIRINGS = ("plain", "residual", "rezero")
OPTIMIZERS = ("SGD", "MuSGD", "AdamW")
ARITHMETICS = ("auto", "bf16", "emulated", "fp32")
OOM_POLICIES = ("fail", "halve")
DESIGNS = ("product", "one_at_a_time", "leave_one_out", "add_one_in", "factorial")
UNTIL = ("decided",)
HIGHEST_RATE = 10
ORDERS = ("given", "longest_first", "cheapest_first", "by_seed")
RETRIES = ("none", "failed", "oom", "all")
PRECISIONS = ("fp32", "fp16", "bf16")
BACKENDS = ("eager", "compile", "torchscript", "onnx")
HEADS = ("validated", "one_to_one", "one_to_many")
BUSY = ("flag", "refuse")
CONTROLS = ("identity", "params", "reset", "scale", "resolution", "latency")
# Of the group `module`, but no levels of a study: no glob means them.
CONTROL_MODULES = ("identity", "convblock", "stock", "reset")


def _ranged(default: Any, constraint: str) -> Any:
    return field(default=default, metadata={"range": constraint})


def _choice(default: str | None, choices: tuple[str, ...]) -> Any:
    return field(default=default, metadata={"choices": choices})


_SEVERAL = {"several": True}  # a list with at least one element, each of which must be valid


@dataclass
class InsertionConfig:
    """Where the module goes, and how its output joins the network."""

    name: str = "customary"
    at: list[int] | None = None
    wiring: str = _choice("plain", WIRINGS)


@dataclass(frozen=True)
class OptimizerSettings:
    """One optimizer with its learning-rate schedule, under Ultralytics' names."""

    name: str = _choice("MuSGD", OPTIMIZERS)
    lr0: float = _ranged(0.01, f"> 0 and <= {HIGHEST_RATE}")
    lrf: float = _ranged(0.01, ">= 0 and <= 1")
    momentum: float = _ranged(0.9, ">= 0 and < 1")
    weight_decay: float = _ranged(0.0005, ">= 0 and <= 1")
    warmup_epochs: float = _ranged(3.0, ">= 0")
    warmup_momentum: float = _ranged(0.8, ">= 0 and < 1")
    warmup_bias_lr: float = _ranged(0.0, ">= 0 and <= 10")
    cos_lr: bool = False
    orthogonalise: str = _choice("auto", ARITHMETICS)


@dataclass(frozen=True)
class ModelSettings:
    """The stock network and its starting weights."""

    name: str = "yolo26n"
    architecture: str = "yolo26n.yaml"
    weights: str | None = None


@dataclass
class LossConfig:
    """The losses: names with options, such as ``wiou[delta=3]``; in a recorded configuration mappings."""

    box: Any = "ciou"
    cls: Any = "bce"
    assigner: Any = "ciou"


@dataclass(frozen=True)
class TrackingSettings:
    """Where results are sent once they are on disk. `uri` null: SQLite in `<root>/mlflow.db`.

    `system_seconds` is the time between two samples of processor, memory and GPUs; 0 takes none. `diff` sends a trial's
    `git.diff`, which holds lines of the user's files, along with its other files.
    """

    name: str = "sqlite"
    uri: str | None = None
    experiment: str = "ablate"
    artifacts: bool = True
    system_seconds: float = _ranged(10.0, ">= 0")
    diff: bool = False


@dataclass(frozen=True)
class LatencySettings:
    """The latency benchmark that follows a sweep: all variants interleaved on one device (docs/latency.md).

    Of `batch`, `precision` and `backend`, every combination is measured; the first one is in the table.
    """

    enabled: bool = True
    batch: list[int] = field(default_factory=lambda: [1], metadata={**_SEVERAL, "range": ">= 1 and <= 4096"})
    precision: list[str] = field(default_factory=lambda: ["fp32"], metadata={**_SEVERAL, "choices": PRECISIONS})
    backend: list[str] = field(default_factory=lambda: ["eager"], metadata={**_SEVERAL, "choices": BACKENDS})
    pipeline: bool = True
    head: str = _choice("validated", HEADS)
    warmup: int = _ranged(10, ">= 0 and <= 10000")
    warmup_max: int = _ranged(30, ">= 0 and <= 10000")
    rounds: int = _ranged(100, ">= 3 and <= 100000")
    processes: int = _ranged(6, ">= 1 and <= 20")
    threads: int | None = _ranged(1, ">= 1 and <= 1024")
    busy: str = _choice("flag", BUSY)


def no_module() -> Plain:
    """Return the group `module` of a baseline."""
    return {"name": "none", "_target_": None, "insertion": "none"}


def _training_defaults() -> Plain:
    return dict(training_arguments())


@dataclass
class Config:
    """One trial: what `conf/config.yaml` and the command line resolve to."""

    module: Plain = field(default_factory=no_module)
    insertion: InsertionConfig = field(default_factory=InsertionConfig)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    data: Plain = field(default_factory=lambda: {"download": False})
    model: ModelSettings = field(default_factory=ModelSettings)
    train: Plain = field(default_factory=_training_defaults)
    loss: LossConfig = field(default_factory=LossConfig)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    latency: LatencySettings = field(default_factory=LatencySettings)
    seed: int = _ranged(0, ">= 0 and < 4294967295")
    device: str = "auto"
    on_oom: str = _choice("fail", OOM_POLICIES)
    grafts: list[Any] = field(default_factory=list)
    head: str | None = None
    freeze_grafts: bool = False
    baseline: bool = True
    design: str = _choice("product", DESIGNS)
    components: list[str] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    exclude: list[Any] = field(default_factory=list)
    order: str = _choice("given", ORDERS)
    skip_invalid: bool = False
    retry: str = _choice("none", RETRIES)
    probe: bool = True
    figures: bool = True
    notebook: bool = True
    strict: bool = False
    sweep: str | None = None
    root: str = "multirun"
    trust_weights: bool = False
    delta: float | None = _ranged(None, "> 0 and <= 1")
    judge: str = "best"
    until: str | None = _choice(None, UNTIL)
    max_seeds: int = _ranged(12, ">= 3 and <= 50")
    budget: str | None = None
    tune: int = _ranged(0, ">= 0 and <= 9")
    folds: int = _ranged(0, f">= 0 and <= {MOST_FOLDS}")
    split: str = RANDOM
    metric: str = "map50_95"


def schema_node() -> DictConfig:
    """Return the configuration's schema for Hydra, all of whose fields may be overridden.

    OmegaConf makes a section read-only whose class is frozen, as those are that serve as settings too.
    """
    from omegaconf import OmegaConf

    node: DictConfig = OmegaConf.structured(Config)
    for section in fields(Config):
        if OmegaConf.is_config(node[section.name]):
            OmegaConf.set_readonly(node[section.name], None)
    return node


@cache
def training_arguments() -> Plain:
    """Return Ultralytics' training arguments with their defaults, less those that ablate owns.

    Read from the installed Ultralytics' own default.yaml, so that every argument of the version in use can be given
    as `train.<arg>`; found without importing Ultralytics (and with it torch).
    """
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("ultralytics is not installed in this environment: pip install 'ultralytics>=8.4.190'")
    text = (Path(spec.submodule_search_locations[0]) / "cfg" / "default.yaml").read_text(encoding="utf-8")
    defaults: Plain = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: value for name, value in defaults.items() if name not in OWNED}


@cache
def conf_dir() -> Path:
    """Return the folder of the Hydra config tree: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    for candidate in (package / "conf", package.parents[1] / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"the configuration tree is missing: no conf/config.yaml beside {package}; reinstall ablate")


def options(group: str) -> list[str]:
    """Return the names that `conf/<group>/` offers, sorted, with those of ./conf where a user keeps her own.

    Files of modules may be in subfolders: `conf/module/timm/eca.yaml` is ``timm/eca``. A folder is listed again only
    where it has changed: a thousand trials ask for the same names.
    """
    return sorted({name for home in (conf_dir(), Path.cwd() / "conf") for name in _offered(home / group, group)})


def _offered(folder: Path, group: str) -> list[str]:
    """Return the names of the options in a folder of a group, and of modules in the folders below it."""
    listing = _listed(folder, file_state(folder))
    below = listing.folders if group == "module" else ()
    inner = [f"{name}/{option}" for name in below for option in _offered(folder / name, group)]
    return [*listing.options, *inner]


class _Listing(NamedTuple):
    """What a folder of options holds: the names of its files, and its folders."""

    options: tuple[str, ...]
    folders: tuple[str, ...]


@lru_cache(maxsize=256)
def _listed(folder: Path, state: FileState | None) -> _Listing:
    """Return what a folder of this state holds."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return _Listing(
        tuple(path.stem for path in inside if path.suffix == ".yaml" and path.is_file()),
        tuple(path.name for path in inside if path.is_dir() and not path.is_symlink() and path.name[0] not in "._"),
    )


def option_path(group: str, name: str) -> Path | None:
    """Return the file of a group's option: ours, else the working folder's; None where there is none."""
    paths = (folder / group / f"{name}.yaml" for folder in (conf_dir(), Path.cwd() / "conf"))
    return next((path for path in paths if path.is_file()), None)


def option_file(group: str, name: str) -> Plain:
    """Return what the file of a group's option holds (ours, else the working folder's); empty where there is none.

    A file is read again only where it has changed.

    Raises:
        ConfigError: It is no YAML mapping.
    """
    path = option_path(group, name)
    content: Plain = {}
    if path is not None:
        content = plain_copy(_content(path, file_state(path), f"conf/{group}/{name}.yaml"))
    return content


@lru_cache(maxsize=256)
def _content(path: Path, state: FileState | None, title: str) -> Plain:
    """Return what an option's file of this state holds."""
    try:
        return read_mapping(path, title)
    except YamlFileError as error:
        raise ConfigError(str(error)) from error
