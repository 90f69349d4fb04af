"""Which parameters are not trained: Ultralytics' `freeze`, by the names of the stock network, with grafts exempt.

Ultralytics freezes every parameter whose name contains ``model.<N>.`` for a layer N (or ``model.<name>.`` for a name),
which also catches what is grafted into that layer: a new module would stay as it was drawn at random, and the
comparison would be of that. And a graft's host is called otherwise than in the stock network (``cv2.host.conv`` for
``cv2.conv``), so that a name may freeze a layer of the baseline and not the same layer of a variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from ablate.errors import ConfigError
from ablate.grafting.replaced_layer import replaced_names, stock_name
from ablate.records.realised import Trainable

ALWAYS = ".dfl"  # a constant convolution of the head


@dataclass(frozen=True)
class Frozen:
    """What is frozen.

    Attributes:
        parts: Parts of names in the stock network, as Ultralytics makes them: ``model.0.``, ``.dfl``.
        grafts: Whether grafts, and new tensors of what replaces a layer, are frozen with the layer that they are in.
        replaced: Of the tensors in replaced layers, see `ablate.grafting.replaced_layer.replaced_names`. Those that a
            replacement kept are frozen as in the stock network.
    """

    parts: tuple[str, ...]
    grafts: bool = False
    replaced: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module, parts: Sequence[str], *, grafts: bool) -> Frozen:
        """Return what is frozen in a network."""
        return cls(tuple(parts), grafts, replaced_names(network))

    def covers(self, path: str) -> bool:
        """Tell whether a parameter or module of a network, grafted or not, is frozen."""
        name = stock_name(path, self.replaced) or self._of_a_norm(path)
        if name is None:
            return self.grafts and any(part in path for part in self.parts if part != ALWAYS)
        return any(part in name for part in self.parts)

    def _of_a_norm(self, path: str) -> str | None:
        """Return the name in the stock network of a layer with kept weights in a replacement; None for any other."""
        weight = self.replaced.get(f"{path}.weight")
        return None if weight is None else weight.removesuffix(".weight")

    def parameters(self, network: nn.Module) -> list[str]:
        """Return the names of the frozen parameters of a network."""
        return [name for name, _ in network.named_parameters() if self.covers(name)]


def parts_of(freeze: int | Sequence[int | str] | None) -> dict[int | str, str]:
    """Return for each layer that is to be frozen the part of its parameters' names, as Ultralytics makes it."""
    layers = range(freeze) if isinstance(freeze, int) else freeze or ()
    return {layer: f"model.{layer}." for layer in layers}


def check_freeze(network: nn.Module, freeze: int | Sequence[int | str] | None) -> None:
    """Check that what is to be frozen exists in a network, and that something is left to train.

    Raises:
        ConfigError: A listed layer has no parameters or does not exist, or all of the stock network is frozen.
    """
    parts = parts_of(freeze)
    replaced = replaced_names(network)
    stock = [name for path, _ in network.named_parameters() if (name := stock_name(path, replaced)) is not None]
    count = len(network.model)  # type: ignore[arg-type]
    if not isinstance(freeze, int):
        for layer, part in parts.items():
            if not any(part in name for name in stock):
                raise ConfigError(
                    f"train.freeze: this network has no layer '{layer}' with parameters; valid are the numbers 0 to "
                    f"{count - 1} and names below them, such as {count - 1}.cv2"
                )
    if parts and all(any(part in name for part in (*parts.values(), ALWAYS)) for name in stock):
        raise ConfigError(f"train.freeze={freeze}: nothing would be left to train; the network has {count} layers")


def trainable(network: nn.Module) -> Trainable:
    """Return how many parameters (numbers, not tensors) a network and its grafts have, and how many are trained."""
    replaced = replaced_names(network)
    parameters = trained = graft_parameters = graft_trained = 0
    for name, parameter in network.named_parameters():
        numbers, learning = parameter.numel(), parameter.numel() * parameter.requires_grad
        parameters, trained = parameters + numbers, trained + learning
        if stock_name(name, replaced) is None:
            graft_parameters, graft_trained = graft_parameters + numbers, graft_trained + learning
    return Trainable(
        parameters=parameters,
        trained=trained,
        graft_parameters=graft_parameters,
        graft_trained=graft_trained,
    )


def freeze_exactly(network: nn.Module, frozen: Frozen) -> None:
    """Let exactly the frozen parameters of a network need no gradient, in place."""
    names = set(frozen.parameters(network))
    for name, parameter in network.named_parameters():
        if parameter.dtype.is_floating_point:
            parameter.requires_grad_(name not in names)
