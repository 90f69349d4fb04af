"""Networks with grafts as other programs meet them: in a checkpoint, in plain Ultralytics, and trained on there."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

import ablate_yolo
from ablate.checkpoints.stored_network import StoredNetwork
from ablate.errors import ConfigError
from ablate.grafting.construction import load_class
from ablate.grafting.folding import fold_norms
from ablate.grafting.imported import allow_code, imported_in
from ablate.grafting.insertion import GraftError
from ablate.grafting.replaced_layer import replaced_names, stock_name
from ablate.grafting.surgery import grafts_in
from ablate.settings.graft import targets_of
from ablate.storage.plain_values import Plain
from ablate.training.network import build_network, restore, stock_state


class GraftedYaml(Plain):
    """The yaml of a network with grafts, from which Ultralytics cannot build one without them by mistake."""

    def __setitem__(self, key: str, value: object) -> NoReturn:
        """Stop Ultralytics, which sets the number of channels here when it begins to build a network."""
        grafts = " and ".join(f"{graft.module.title}@{graft.insertion.name}" for graft in grafts_in(dict(self)))
        raise GraftError(
            f"this network is grafted with {grafts}, and Ultralytics' own trainer would build it anew without: "
            "call train(..., trainer=ablate.GraftedTrainer), which keeps it"
        )

    def __deepcopy__(self, memo: object) -> GraftedYaml:
        return GraftedYaml(deepcopy(dict(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class GraftedModel(DetectionModel):
    """A network with grafts that is saved as plain values and tensors.

    Whoever loads it needs `ablate_yolo`, the name of the package to install, and no other name.
    """

    @classmethod
    def of(cls, network: DetectionModel) -> GraftedModel:
        """Turn a network with grafts into one that is saved in this way; it is the same object."""
        network.__class__ = cls
        network.yaml = GraftedYaml(network.yaml)
        grafted: GraftedModel = network
        return grafted

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what a checkpoint holds; a network whose norms are folded for inference is saved as an object."""
        if self.is_fused():
            return super().__reduce_ex__(protocol)
        return ablate_yolo.network, (StoredNetwork.of(self).to_plain(),)

    def fuse(self, verbose: bool = True, imgsz: int = 640) -> GraftedModel:
        """Fold norms for inference, in place: those of Ultralytics' layers and those of what replaced them."""
        super().fuse(verbose=verbose, imgsz=imgsz)
        fold_norms(self)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> GraftedModel:
        copy = self.__class__.__new__(self.__class__)
        memo[id(self)] = copy
        copy.__dict__.update(deepcopy(self.__dict__, memo))
        return copy


def saved_form(network: DetectionModel) -> DetectionModel:
    """Return a network as checkpoints hold it: with grafts a `GraftedModel`, else as it is."""
    return GraftedModel.of(network) if grafts_in(network.yaml) else network


def from_checkpoint(content: Plain) -> GraftedModel:
    """Return the network of a checkpoint that a program loads with all that it names, as plain Ultralytics does.

    Raises:
        GraftError: A class that it needs cannot be imported.
    """
    stored = StoredNetwork.from_plain(content)
    grafts = grafts_in(stored.yaml)
    with suppress(ConfigError):  # the code of an imported network lies elsewhere on this machine
        allow_code(grafts)
    targets = targets_of(grafts)
    for target in targets:
        try:
            load_class(target)
        except GraftError as error:
            module = target.partition(".")[0]
            reason = str(error).removeprefix("module._target_: ")
            raise GraftError(
                f"this network needs the class {target} of its author ({reason}); "
                f"put the folder with {module} on PYTHONPATH"
            ) from error
    network = restore(stored, targets, trust=True)  # whoever loads it so runs all that it names
    for name, value in stored.attributes.items():
        setattr(network, name, value)
    kinds = {tensor.dtype for tensor in stored.state.values() if tensor.is_floating_point()}
    return GraftedModel.of(network.to(kinds.pop()) if len(kinds) == 1 else network)


def _replaced_layers(stored: StoredNetwork) -> set[str]:
    """Return the paths of the stock layers that a network has something else in place of."""
    inside = (name.split(".replacement.")[0] for name in stored.state if ".replacement." in name)
    return {".".join(part for part in path.split(".") if part != "host") for path in inside}


class GraftedTrainer(DetectionTrainer):
    """Ultralytics' detection trainer for a network that has grafts; they stay in it.

    Use: ``YOLO("best.pt").train(data=..., trainer=ablate.GraftedTrainer)``.
    """

    def get_model(
        self, cfg: Plain | str | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> DetectionModel:
        """Return the network with its grafts, filled with all weights that fit."""
        content = dict(cfg) if isinstance(cfg, dict) else {}
        if weights is None or not grafts_in(content):
            return super().get_model(cfg, weights, verbose)
        stored = StoredNetwork.of(weights)
        imported = imported_in(grafts_in(content)) is not None
        network, _, _ = build_network(
            content,
            classes=self.data["nc"],
            channels=self.data["channels"],
            names=self.data["names"],
            weights=None if imported else StoredNetwork(stock_state(stored), names=stored.names),
            source=Path(str(getattr(weights, "pt_path", None) or "the checkpoint")).name,
            seed=self.args.seed,
            without=_replaced_layers(stored),
        )
        ours, replaced = network.state_dict(), replaced_names(network)
        grafts = {
            name: tensor
            for name, tensor in stored.state.items()
            if name in ours
            and (imported or stock_name(name) is None or stock_name(name, replaced) is None)
            and tensor.shape == ours[name].shape  # of a head for other classes some have another
        }
        network.load_state_dict({**ours, **grafts})
        return GraftedModel.of(network)
