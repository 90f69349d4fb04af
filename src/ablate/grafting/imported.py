"""Build an imported network out of its stock ancestor: layers move, others are built, Ultralytics stays.

A layer that the alignment knows and that is written as in the stock network is the very object of the stock network,
with its weights. Any other layer of Ultralytics is built by Ultralytics' own builder, alone, for the maps that reach
it. A class of the user's is built by the conventions of `ablate.grafting.conventions`. What a new layer shares with its
stock layer by name and shape of a tensor keeps that tensor.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from ultralytics.nn import modules
from ultralytics.nn.tasks import parse_model
from ultralytics.utils.torch_utils import initialize_weights

from ablate.grafting.construction import load_class
from ablate.grafting.conventions import LayerRequest, build_layer, channels_of, copy_of
from ablate.grafting.imported_head import finish_head, takes
from ablate.grafting.insertion import GraftError
from ablate.grafting.older_head import as_todays
from ablate.records.graft_report import GraftReport, PlaceReport
from ablate.settings.architecture import is_layer, read_architecture
from ablate.settings.imported_network import NETWORK, ImportedNetwork
from ablate.storage.plain_values import Plain

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

    from ablate.settings.graft import GraftSpec

PROBE = 256  # px, the size by which Ultralytics finds the strides of a network
_NEW = "graft"  # part of the names of tensors that the stock network has not (`ablate.grafting.surgery.stock_name`)


class NewLayer(nn.Module):
    """A layer that the stock network has not, or not with these shapes."""

    def __init__(self, layer: nn.Module, target: str = "") -> None:
        super().__init__()
        self.graft = layer
        self.target = target

    def forward(self, x: Any) -> Any:
        """Return the layer's output."""
        return self.graft(x)


@dataclass(frozen=True)
class BuiltLayer:
    """A layer that was not taken from the stock network.

    Attributes:
        index: Its number.
        name: Of its class.
        convention: How its class was called, such as ``(c1, c2, ...)``; empty for a layer of Ultralytics.
        channels: Of its output.
        stride: Pixels of the image per cell of its output.
        tensors: It has so many.
        kept: So many of these have the weights of its stock layer.
        replaced: Class of that stock layer, None for a layer that was added.
        replaced_tensors: So many has the stock layer.
    """

    index: int
    name: str
    convention: str
    channels: int
    stride: int
    tensors: int
    kept: int
    replaced: str | None
    replaced_tensors: int

    def place(self) -> PlaceReport:
        """Return the layer for a record; of one in the place of a stock layer how many tensors that kept."""
        row: Plain = {
            "place": f"model.{self.index}",
            "channels": self.channels,
            "stride": self.stride,
            "module": self.name,
            "convention": self.convention,
        }
        if self.replaced is not None:
            row |= {"replaced": self.replaced, "kept": self.kept, "tensors": self.replaced_tensors}
        return PlaceReport(row)


@dataclass
class Import:
    """What was done to a stock network.

    Attributes:
        built: The layers that are new.
        moved: Stock layer by number of the layer that it is now.
        kept_values: Numbers in the tensors of new layers that have the weights of their stock layers.
    """

    built: list[BuiltLayer] = field(default_factory=list)
    moved: dict[int, int] = field(default_factory=dict)
    kept_values: int = 0

    def report(self) -> GraftReport:
        """Return the new layers for a record."""
        return GraftReport(places=tuple(layer.place() for layer in self.built))


def imported_in(grafts: Sequence[GraftSpec]) -> ImportedNetwork | None:
    """Return the imported network among grafts, None where there is none."""
    module = next((graft.module for graft in grafts if graft.module.target == NETWORK), None)
    return None if module is None else ImportedNetwork.from_options(module.options)


def allow_code(grafts: Sequence[GraftSpec]) -> None:
    """Let this process import the classes of an imported network among grafts that the user has named."""
    if (network := imported_in(grafts)) is not None:
        network.allow_code()


def names_in_ancestor(imported: ImportedNetwork, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an imported network that its ancestor has, by their names there."""
    named = {}
    for name, tensor in tensors.items():
        stock = ancestor_name(imported, name)
        if stock is not None:
            named[stock] = tensor
    return named


def ancestor_name(imported: ImportedNetwork, name: str) -> str | None:
    """Return the name that a tensor of an imported network has in the ancestor; None where it has none there."""
    model, number, rest = name.split(".", 2)
    index = int(number)
    stock = imported.aligned[index] if index < len(imported.aligned) else None
    return None if stock is None or rest.startswith(f"{_NEW}.") else f"{model}.{stock}.{rest}"


def transplant(network: DetectionModel, imported: ImportedNetwork, seed: int) -> Import:
    """Turn a stock network, whose weights may already be loaded, into the imported one, in place.

    The global random state is left as it was. New layers have weights that depend on the seed, their number and class.

    Raises:
        GraftError: A class cannot be imported or called, or a layer does not take what reaches it.
    """
    stock = list(network.model)
    rows = [*network.yaml["backbone"], *network.yaml["head"]]
    done = Import()
    state = network.training
    network.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        builder = _Builder(network, imported, rows, stock, seed, done, _output_channels(network))
        layers = builder.layers()
        last = len(layers) - 1
        finish_head(
            network,
            layers[last],
            [builder.outputs[:last][it] for it in _listed(layers[last].f)],
            PROBE,
            moved=last in done.moved,
        )
    network.model = nn.Sequential(*layers)
    network.save = sorted({it % index for index, layer in enumerate(layers) for it in _listed(layer.f) if it != -1})
    network.train(state)
    return done


@dataclass
class _Builder:
    """Builds the layers one after the other, each for the maps that those before make of an image."""

    network: DetectionModel
    imported: ImportedNetwork
    rows: list[Any]
    stock: list[nn.Module]
    seed: int
    done: Import
    channels: list[int]
    outputs: list[Any] = field(default_factory=list)

    def layers(self) -> list[nn.Module]:
        """Return all layers, in evaluation mode."""
        parameter = next(self.network.parameters())
        channels = self.network.yaml.get("channels", 3)
        image = torch.rand(1, channels, PROBE, PROBE, generator=torch.Generator().manual_seed(0)).to(parameter)
        layers: list[nn.Module] = []
        for index, row in enumerate(self.imported.layers):
            sources = row[0]
            taken = [
                image if index + it < 0 or (it == -1 and not index) else self.outputs[it] for it in _listed(sources)
            ]
            read: Any = taken if isinstance(sources, list) else taken[0]
            is_head = index == len(self.imported.layers) - 1
            layer, output = self._layer(index, row, read, is_head=is_head)
            bookkeeping: Any = layer  # Ultralytics keeps it on the layers
            bookkeeping.i, bookkeeping.f = index, sources
            bookkeeping.type = f"{type(layer).__module__}.{type(layer).__name__}"
            bookkeeping.np = sum(it.numel() for it in layer.parameters())
            layers.append(layer)
            self.outputs.append(output)
        return layers

    def _layer(self, index: int, row: tuple[Any, ...], read: Any, *, is_head: bool) -> tuple[nn.Module, Any]:
        pair = self.imported.aligned[index]
        if pair is not None and pair >= len(self.stock):
            raise GraftError(f"the imported network is aligned with layer {pair}, which {self.imported.ancestor} lacks")
        ours = None if pair is None else self.stock[pair]
        if ours is not None and pair is not None and self._is_untouched(row, self.rows[pair]):
            try:
                output = None if is_head else ours(copy_of(read))
                if not is_head or takes(ours, read):
                    self.done.moved[index] = pair
                    return ours, output
            except RuntimeError:
                pass  # other channels reach it: it is built anew for these
        request = self._request(index, row, read, is_head=is_head)
        torch.manual_seed(_seed(self.seed, index, row[2]))
        if is_layer(row[2]):
            layer, output, convention = self._of_ultralytics(request)
        else:
            target = self.imported.classes[row[2]]
            layer, output, convention = build_layer(load_class(target), request, target)
        initialize_weights(layer)
        shared = {} if ours is None else dict(_shared(layer, ours))
        layer.load_state_dict(shared, strict=False)
        self.done.kept_values += sum(it.numel() for it in shared.values())
        tensors = len(layer.state_dict())
        if is_head:
            layer = as_todays(layer.eval(), read, request.classes, shared)
        shape = _shape(output)
        self.done.built.append(
            BuiltLayer(
                index=index,
                name=row[2],
                convention=convention,
                channels=shape[0],
                stride=round(PROBE / shape[1]) if shape[1] else 0,
                tensors=tensors,
                kept=len(shared),
                replaced=None if ours is None else type(ours).__name__,
                replaced_tensors=0 if ours is None else len(ours.state_dict()),
            )
        )
        new = layer if is_head else NewLayer(layer, self.imported.classes.get(row[2], ""))
        return new.to(next(self.network.parameters()).device).eval(), output

    def _is_untouched(self, row: tuple[Any, ...], ours: Sequence[Any]) -> bool:
        """Tell whether a row is written as in the stock network, and scaled in the same way."""
        stock = read_architecture(self.imported.ancestor)
        scales = stock.get("scales") or {}
        scale = str(stock.get("scale") or next(iter(scales), ""))
        factors = scales.get(scale) or [stock.get("depth_multiple", 1.0), stock.get("width_multiple", 1.0), 1e9]
        same_settings = all(
            self.imported.settings.get(name) == stock.get(name) for name in ("activation", "end2end", "reg_max")
        )
        same = (row[1], row[2], _values(row[3])) == (ours[1], ours[2], _values(ours[3]))
        return same and same_settings and [float(it) for it in self.imported.scaling] == [float(it) for it in factors]

    def _request(self, index: int, row: tuple[Any, ...], read: Any, *, is_head: bool) -> LayerRequest:
        depth, width, most = self.imported.scaling
        repeats = row[1]
        return LayerRequest(
            title=f"layer {index} ({row[2]})",
            name=row[2],
            arguments=tuple(_values(row[3], {"nc": self.network.model[-1].nc})),
            repeats=max(round(repeats * depth), 1) if repeats > 1 else repeats,
            width=width,
            most_channels=most,
            read=read,
            image=PROBE,
            classes=self.network.model[-1].nc,
            reg_max=self.imported.settings.get("reg_max", 16),
            end2end=self.imported.settings.get("end2end"),
            is_head=is_head,
            expected=None if is_head else self._expected(index),
        )

    def _expected(self, index: int) -> int | None:
        """Return the channels that a stock layer has read in the place of a layer's output; None where none reads."""
        for reader, row in enumerate(self.imported.layers[index + 1 :], index + 1):
            sources = [it if it >= 0 else reader + it for it in _listed(row[0])]
            pair = self.imported.aligned[reader]
            if index not in sources or pair is None or pair >= len(self.rows) or row[2] != self.rows[pair][2]:
                continue
            stock_sources = _listed(self.rows[pair][0])
            if len(stock_sources) == len(sources):
                source: int = stock_sources[sources.index(index)]
                return self.channels[source if source >= 0 else pair + source]
        return None

    def _of_ultralytics(self, request: LayerRequest) -> tuple[nn.Module, Any, str]:
        """Build a layer of Ultralytics as its builder does; where that fails, as a fork that has added it may do."""
        try:
            return self._stock_layer(request)
        except GraftError as error:
            cls = getattr(modules, request.name, None)
            if not (isinstance(cls, type) and issubclass(cls, nn.Module)) or request.is_head:
                raise
            try:
                return build_layer(cls, request, request.name)
            except GraftError:
                raise error from None

    def _stock_layer(self, request: LayerRequest) -> tuple[nn.Module, Any, str]:
        """Build one layer by Ultralytics' builder, behind stand-ins that tell it the channels of what is read."""
        row = self.imported.layers[len(self.outputs)]
        channels = [channels_of(it) for it in _listed(request.read)]
        # `Index` has no parameters, and says the number of its output channels; a C3k2 among the rows tells the builder
        # that the network is none of the old ones, by whose rules Detect would be built.
        stubs: list[Any] = [[-1, 1, "Index", [it, 0]] for it in channels]
        if any(it[2] in ("C3k2", "A2C2f", "C2fCIB") for it in self.imported.layers):
            stubs.append([0, 1, "C3k2", [8]])
        sources: Any = list(range(len(channels))) if isinstance(row[0], list) else 0
        content = {
            **self.imported.settings,
            "nc": request.classes,
            "scale": self.imported.scale,
            "scales": {self.imported.scale: list(self.imported.scaling)},
            "backbone": stubs,
            "head": [[sources, row[1], row[2], deepcopy(list(row[3]))]],
        }
        try:
            built, _ = parse_model(content, ch=channels[0], verbose=False)
            layer: nn.Module = built[-1].eval()
            output = None if request.is_head else layer(copy_of(request.read))
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise GraftError(f"{request.title} cannot be built for {request.shapes}: {reason}") from error
        return layer, output, ""


def _output_channels(network: DetectionModel) -> list[int]:
    """Return the channels of what each layer of a stock network but its head returns."""
    x: Any = torch.zeros(1, network.yaml.get("channels", 3), PROBE, PROBE).to(next(network.parameters()))
    outputs: list[Any] = []
    for layer in list(network.model)[:-1]:
        taken = [x if it == -1 else outputs[it] for it in _listed(layer.f)]
        x = layer(taken if isinstance(layer.f, list) else taken[0])
        outputs.append(x)
    return [channels_of(it) for it in outputs]


def _shared(layer: nn.Module, ours: nn.Module) -> list[tuple[str, Tensor]]:
    state = layer.state_dict()
    return [(name, it) for name, it in ours.state_dict().items() if name in state and state[name].shape == it.shape]


def _values(arguments: Sequence[Any], names: Mapping[str, Any] | None = None) -> list[Any]:
    """Return arguments of a layer with literals read, and the names that Ultralytics knows replaced."""
    values = []
    for it in arguments:
        if isinstance(it, str):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                it = names[it] if names and it in names else ast.literal_eval(it)
        values.append(list(it) if isinstance(it, tuple) else it)
    return values


def _shape(output: Any) -> tuple[int, int]:
    """Return channels and height of a layer's output, zeros for what is no map."""
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.shape[1], output.shape[2]
    return 0, 0


def _seed(seed: int, index: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/import/{index}/{name}".encode()).digest()[:4], "big")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
