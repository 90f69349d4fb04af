"""The network of a trial: one function makes it for preflight, plan, probe, training and resuming.

What shapes it is its yaml (with the graft in it), the number of classes, the channels of the images, and the weights
that it starts from: Ultralytics gives a network the class branch of its starting weights, whose width follows from
their number of classes, so the yaml alone does not say what is trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from ablate.checkpoints.stored_network import StoredNetwork
from ablate.errors import ConfigError
from ablate.grafting.imported import ancestor_name, imported_in, names_in_ancestor, transplant
from ablate.grafting.insertion import GraftError
from ablate.grafting.replaced_layer import stock_name
from ablate.grafting.stored_modules import check_stored_modules
from ablate.grafting.surgery import SPEC_KEY, grafts_in, operate
from ablate.grafting.transfer import Coverage, coverage, load_weights, take_shapes
from ablate.records.graft_report import GraftReport
from ablate.settings.architecture import check_architecture
from ablate.settings.graft import GraftSpec, read_grafts, write_grafts
from ablate.settings.imported_network import ImportedNetwork
from ablate.settings.losses import LossSettings
from ablate.storage.plain_values import Plain

POLICY_KEY = "ablate_on_oom"
FREEZE_KEY = "ablate_freeze_grafts"  # only where it is true
ARITHMETIC_KEY = "ablate_orthogonalise"  # only where it is not auto
TRUST_KEY = "ablate_trust_weights"  # only where it is true
LOSS_KEY = "ablate_losses"  # only where one is not stock


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of ours in a network's yaml, the one place that reaches the workers of a distributed training.

    Attributes:
        on_oom: "fail" or "halve" (the batch) where memory runs out.
        freeze_grafts: Whether grafts are frozen with the layers that they are in.
        orthogonalise: Arithmetic of MuSGD's steps.
        trust_weights: Whether the starting weights may run code when they are loaded.
        losses: Those that are not stock.
    """

    grafts: tuple[GraftSpec, ...] = ()
    on_oom: str = "fail"
    freeze_grafts: bool = False
    orthogonalise: str = "auto"
    trust_weights: bool = False
    losses: LossSettings = field(default_factory=LossSettings)

    @property
    def built_classes(self) -> list[str]:
        """The classes that the grafts are built from, but those that only give a control its size."""
        modules = [graft.module for graft in self.grafts]
        return list(dict.fromkeys(it for one in modules for it in (one.targets if one.is_network else [one.target])))

    @classmethod
    def from_yaml(cls, content: Plain) -> NetworkSettings:
        """Return the settings that a network's yaml holds."""
        return cls(
            grafts=read_grafts(content.get(SPEC_KEY) or {"grafts": []}),
            on_oom=content.get(POLICY_KEY, "fail"),
            freeze_grafts=content.get(FREEZE_KEY, False),
            orthogonalise=content.get(ARITHMETIC_KEY, "auto"),
            trust_weights=content.get(TRUST_KEY, False),
            losses=losses_in(content),
        )

    def to_yaml(self) -> Plain:
        """Return the keys of a network's yaml; `from_yaml` is the inverse."""
        content: Plain = {POLICY_KEY: self.on_oom}
        if self.freeze_grafts:
            content[FREEZE_KEY] = True
        if self.orthogonalise != "auto":
            content[ARITHMETIC_KEY] = self.orthogonalise
        if self.trust_weights:
            content[TRUST_KEY] = True
        if self.losses.parts:
            content[LOSS_KEY] = self.losses.to_yaml()
        if self.grafts:
            content[SPEC_KEY] = write_grafts(self.grafts)
        return content


def losses_in(content: Plain) -> LossSettings:
    """Return the losses that a network's yaml names, those that are not stock."""
    return LossSettings.from_plain(content.get(LOSS_KEY, {}))


def build_network(
    cfg: str | Plain,
    *,
    classes: int,
    channels: int = 3,
    names: dict[int, str] | None = None,
    remap: bool = True,
    weights: StoredNetwork | None = None,
    source: str = "weights",
    seed: int = 0,
    resume: bool = False,
    without: Collection[str] = (),
) -> tuple[DetectionModel, GraftReport, Coverage]:
    """Build the stock network, load its weights, then insert the grafts of its yaml and replace layers by them.

    Args:
        cfg: A network's yaml (path or content); its `ablate` entry, if any, is the graft.
        classes: Number of classes.
        channels: Channels of the input image.
        names: Class names.
        remap: Whether the classifier's rows of classes of the same name are copied from `weights` (`cls_remap`).
        weights: A stock network to start from; with `resume` this very network, further trained.
        source: What to call the weights in errors and records.
        seed: Seeds the graft's new weights.
        resume: Whether `weights` is a checkpoint of this very training, graft and all. The network then has the
            shapes of the checkpoint, whatever weights the training started from.
        without: Paths of layers that `weights` may lack, because something else was in their place.

    Returns:
        The network, a report on its grafts, and how many tensors of the stock network the weights filled.

    Raises:
        GraftError: No such place, channels that the module refuses, or weights of another architecture.
    """
    content = dict(cfg) if isinstance(cfg, dict) else yaml_model_load(cfg)
    _check_layers(content)
    grafts = read_grafts(content.pop(SPEC_KEY)) if content.get(SPEC_KEY) else ()
    imported = imported_in(grafts)
    network = DetectionModel(content, nc=classes, ch=channels, verbose=False)
    if names and remap:
        network.names = dict(names)
    covered = Coverage(None, len(network.state_dict()), 0)
    if weights is not None and resume:
        state = stock_state(weights)
        take_shapes(network, state if imported is None else names_in_ancestor(imported, state))
    elif weights is not None:
        covered = load_weights(network, weights, source, without)
    if names:
        network.names = dict(names)
    report = GraftReport(places=())
    in_stock: dict[str, str] | None = None
    if imported is not None:
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        report = transplant(network, imported, seed).report()
        in_stock = _names_in_stock(network, imported, shapes)
        covered = Coverage(None, len(in_stock), 0)
        if weights is not None and not resume:
            covered = coverage(network, weights, source, in_stock)
    if others := [graft for graft in grafts if not graft.module.is_network]:
        report = report.joined(_operate(network, others, seed, imported))
    if grafts:
        network.yaml = {**network.yaml, SPEC_KEY: write_grafts(grafts)}
    if weights is not None and resume:
        _fill(network, weights)
    elif weights is not None:
        after = coverage(network, weights, source, in_stock)
        if lost := set(after.missing) - set(covered.missing):
            raise RuntimeError(f"surgery lost {len(lost)} tensors of {source}")
    return network, report, covered


def _operate(
    network: DetectionModel, grafts: Sequence[GraftSpec], seed: int, imported: ImportedNetwork | None
) -> GraftReport:
    """Graft modules into a network; into an imported one at the places of its own layers."""
    stock = network.yaml
    if imported is not None:
        rows = [list(layer) for layer in imported.layers]
        network.yaml = {**stock, "backbone": rows[: imported.backbone], "head": rows[imported.backbone :]}
    try:
        return operate(network, grafts, seed).report()
    finally:
        network.yaml = stock


def _names_in_stock(
    network: DetectionModel, imported: ImportedNetwork, shapes: Mapping[str, torch.Size]
) -> dict[str, str]:
    """Return for each tensor that an imported network has from its ancestor the name that it has there."""
    names = {}
    for name, tensor in network.state_dict().items():
        stock = None if stock_name(name) is None else ancestor_name(imported, name)
        if stock is not None and shapes.get(stock) == tensor.shape:
            names[name] = stock
    return names


def restore(stored: StoredNetwork, targets: Collection[str] = (), *, trust: bool = False) -> DetectionModel:
    """Build the network of a checkpoint and fill it with its tensors; in full precision, to evaluate.

    The checkpoint says only which of the known layers there are. Of modules it can name those of ablate, those of
    `targets`, and classes whose files this process has imported already; no other file is imported.

    Args:
        stored: The network.
        targets: Classes, and functions that build modules, whose files may be imported.
        trust: Whether the user has named `targets`; else functions of installed packages are not called.

    Raises:
        GraftError: It names another layer or module, or its tensors do not belong to it.
        ConfigError: An option of a module is no plain value.
    """
    yaml = dict(stored.yaml)
    _check_layers(yaml)
    check_stored_modules(grafts_in(yaml), targets, trust=trust)
    try:
        classes, channels = len(stored.names) or int(yaml["nc"]), int(yaml.get("channels", 3))
        with torch.random.fork_rng(devices=[]):
            network, _, _ = build_network(
                yaml, classes=classes, channels=channels, names=dict(stored.names), weights=stored, resume=True
            )
    except GraftError:
        raise
    except Exception as error:  # a yaml of another version of Ultralytics, or made up
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GraftError(f"its network cannot be built: {reason}") from error
    network.task = "detect"
    network.args = stored.attributes.get("args") or {}
    return network.requires_grad_(False).eval()


def _check_layers(yaml: Plain) -> None:
    """Refuse a yaml by which Ultralytics would call something else than a layer.

    Raises:
        GraftError: There is an entry that is no layer.
    """
    try:
        check_architecture(yaml, "the network")
    except ConfigError as error:
        raise GraftError(str(error)) from error


def trained_imgsz(network: DetectionModel, imgsz: int) -> int:
    """Return the side in pixels that Ultralytics trains at: the next multiple of the network's largest stride."""
    stride = max(int(network.stride.max()), 32)
    return -(-imgsz // stride) * stride


def stock_state(weights: StoredNetwork) -> dict[str, Tensor]:
    """Return the tensors of a network, grafted or not, that the stock network has, by their names there."""
    return {stock: tensor for name, tensor in weights.state.items() if (stock := stock_name(name)) is not None}


def _fill(network: DetectionModel, weights: StoredNetwork) -> None:
    """Load all tensors of a checkpoint of this very network.

    Raises:
        GraftError: The checkpoint is of another network.
    """
    try:
        network.load_state_dict(weights.state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise GraftError(f"the checkpoint is of another network: {reason}") from error
