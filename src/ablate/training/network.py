"""The network of a trial: one function makes it for preflight, plan, probe, training and resuming.

What shapes it is its yaml (with the graft in it), the number of classes, the channels of the images, and the weights
that it starts from: Ultralytics gives a network the class branch of its starting weights, whose width follows from
their number of classes, so the yaml alone does not say what is trained.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from torch import nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from ablate.grafting.insertion import GraftError
from ablate.grafting.surgery import SPEC_KEY, operate, stock_name
from ablate.grafting.transfer import Coverage, coverage, load_weights
from ablate.records.graft_report import GraftReport
from ablate.settings.graft import GraftSpec, read_grafts, write_grafts
from ablate.storage.plain_values import Plain

POLICY_KEY = "ablate_on_oom"
FREEZE_KEY = "ablate_freeze_grafts"  # only where it is true
ARITHMETIC_KEY = "ablate_orthogonalise"  # only where it is not auto


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of ours in a network's yaml, the one place that reaches the workers of a distributed training.

    Attributes:
        on_oom: "fail" or "halve" (the batch) where memory runs out.
        freeze_grafts: Whether grafts are frozen with the layers that they are in.
        orthogonalise: Arithmetic of MuSGD's steps.
    """

    grafts: tuple[GraftSpec, ...] = ()
    on_oom: str = "fail"
    freeze_grafts: bool = False
    orthogonalise: str = "auto"

    @classmethod
    def from_yaml(cls, content: Plain) -> NetworkSettings:
        """Return the settings that a network's yaml holds."""
        return cls(
            grafts=read_grafts(content.get(SPEC_KEY) or {"grafts": []}),
            on_oom=content.get(POLICY_KEY, "fail"),
            freeze_grafts=content.get(FREEZE_KEY, False),
            orthogonalise=content.get(ARITHMETIC_KEY, "auto"),
        )

    def to_yaml(self) -> Plain:
        """Return the keys of a network's yaml; `from_yaml` is the inverse."""
        content: Plain = {POLICY_KEY: self.on_oom}
        if self.freeze_grafts:
            content[FREEZE_KEY] = True
        if self.orthogonalise != "auto":
            content[ARITHMETIC_KEY] = self.orthogonalise
        if self.grafts:
            content[SPEC_KEY] = write_grafts(self.grafts)
        return content


def build_network(
    cfg: str | Plain,
    *,
    classes: int,
    channels: int = 3,
    names: dict[int, str] | None = None,
    remap: bool = True,
    weights: nn.Module | None = None,
    source: str = "weights",
    seed: int = 0,
    resume: bool = False,
) -> tuple[DetectionModel, GraftReport, Coverage]:
    """Build the stock network, load its weights, then insert the grafts of its yaml.

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

    Returns:
        The network, a report on its grafts, and how many tensors of the stock network the weights filled.

    Raises:
        GraftError: No such place, channels that the module refuses, or weights of another architecture.
    """
    content = dict(cfg) if isinstance(cfg, dict) else yaml_model_load(cfg)
    grafts = read_grafts(content.pop(SPEC_KEY)) if content.get(SPEC_KEY) else ()
    network = DetectionModel(content, nc=classes, ch=channels, verbose=False)
    if names and remap:
        network.names = dict(names)
    covered = Coverage(None, len(network.state_dict()), 0)
    if weights is not None and resume:
        _take_shapes(network, weights)
    elif weights is not None:
        covered = load_weights(network, weights, source)
    if names:
        network.names = dict(names)
    report = GraftReport(places=())
    if grafts:
        report = operate(network, grafts, seed).report()
    if weights is not None and resume:
        network.load_state_dict(weights.float().state_dict())
    elif weights is not None:
        after = coverage(network, weights, source)
        if after.transferred != covered.transferred:
            raise RuntimeError(f"surgery lost {covered.transferred - after.transferred} tensors of {source}")
    return network, report, covered


def trained_imgsz(network: DetectionModel, imgsz: int) -> int:
    """Return the side in pixels that Ultralytics trains at: the next multiple of the network's largest stride."""
    stride = max(int(network.stride.max()), 32)
    return -(-imgsz // stride) * stride


def _take_shapes(network: DetectionModel, trained: nn.Module) -> None:
    """Give a stock network the shapes that its layers have in a checkpoint, which may be grafted, in place.

    Only layers whose tensors have other shapes are replaced. Their values are the checkpoint's, in half precision;
    the caller loads all values afterwards.

    Raises:
        GraftError: The checkpoint lacks a layer of this network.
    """
    layers = {
        stock: layer
        for path, layer in trained.named_modules()
        if (stock := stock_name(path)) is not None and _own_shapes(layer)
    }
    for path, layer in list(network.named_modules()):
        shapes = _own_shapes(layer)
        if not shapes:
            continue
        if path not in layers:
            raise GraftError(f"the checkpoint has no layer {path}: it is of another network")
        if _own_shapes(layers[path]) == shapes:
            continue
        parent, _, name = path.rpartition(".")
        taken = deepcopy(layers[path]).float().train(layer.training).requires_grad_(True)  # an average has none
        setattr(network.get_submodule(parent), name, taken)


def _own_shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a layer's own parameters and buffers, without those of the layers in it."""
    tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
    return {name: tuple(tensor.shape) for name, tensor in tensors}
