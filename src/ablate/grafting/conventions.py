"""How the class of a user's layer is called: the conventions by which forks of Ultralytics build their layers.

A network file holds `[from, repeats, name, arguments]`; what a fork's `parse_model` makes of the arguments for its
own classes is written nowhere but in its code, case by case. The cases are few. They are tried in the order of
`_single` and `_several`; the first whose call succeeds, and whose layer takes the maps that reach it and returns as
many channels as the convention says, is the one. c1 are the channels of what is read, c2 the first argument scaled by
the width.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablate.grafting.insertion import GraftError
from ablate.grafting.module_calls import is_of_user, start_clock, stop_clock
from ablate.sources.parameters import channel_arguments, from_callable

_OUT = (
    "c2",
    "out",
    "oup",
    "ouc",
    "cout",
    "dim_out",
    "planes",
    "filters",
    "nout",
    "embed",
)  # in names of output channels
_REPEATS = ("n", "num", "repeat", "repeats", "depth", "depths", "num_blocks", "n_blocks", "layers")
_MOST = 8_192  # channels
_SECONDS = 60.0


@dataclass(frozen=True)
class LayerRequest:
    """A layer that is to be built.

    Attributes:
        title: What messages call it, such as ``layer 11 (EMA)``.
        name: Of its class in the file.
        arguments: Of the file, with literals read.
        repeats: After the scale's depth.
        width: Factor of the scale.
        most_channels: Before the width.
        read: The map or maps that reach it, for one image.
        image: Side of that image, pixels.
        classes: Number of classes.
        reg_max: Bins of the head's distances.
        end2end: Whether the head ends without NMS.
        is_head: Whether it is the last layer.
        expected: Channels of its output by which the stock layers that read it stay as they are; None where unknown.
    """

    title: str
    name: str
    arguments: tuple[Any, ...]
    repeats: int
    width: float
    most_channels: float
    read: Any
    image: int
    classes: int
    reg_max: Any
    end2end: Any
    is_head: bool
    expected: int | None = None

    @property
    def shapes(self) -> str:
        """What reaches it, in words."""
        maps = self.read if isinstance(self.read, list) else [self.read]
        return ", ".join(str(tuple(it.shape)) if isinstance(it, Tensor) else type(it).__name__ for it in maps)

    def scaled(self, channels: int) -> int:
        """Return a number of channels as Ultralytics scales it, in steps of 8."""
        return math.ceil(min(channels, self.most_channels) * self.width / 8) * 8


@dataclass(frozen=True)
class Convention:
    """One way to call a class.

    Attributes:
        name: Such as ``(c1, c2, ...)``.
        arguments: Positional arguments.
        channels: That the output has by this convention; None where any will do.
        repeated: Whether the class takes the repeats itself.
    """

    name: str
    arguments: tuple[Any, ...]
    channels: int | None = None
    repeated: bool = False


def build_layer(cls: Callable[..., nn.Module], request: LayerRequest, target: str) -> tuple[nn.Module, Any, str]:
    """Build a layer of a class by the first convention that works, of those first whose output has expected channels.

    Returns:
        The layer, in evaluation mode; its output; the convention.

    Raises:
        GraftError: None works; the message has the reason of the likest.
    """
    problems: list[str] = []
    ran: list[str] = []  # those of layers that could be made
    first: tuple[nn.Module, Any, str] | None = None
    state = torch.random.get_rng_state()
    for convention in _conventions(cls, request):
        if any(type(it) is int and abs(it) > 2**20 for it in convention.arguments):
            continue
        torch.random.set_rng_state(state)
        start_clock(f"{target}: {request.title}", _SECONDS)
        layer = None
        try:
            layer = _call(cls, request, convention)
            output = None if request.is_head else layer(copy_of(request.read))
            _check(output, request, convention)
        except BaseException as error:
            if is_of_user(error):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            (problems if layer is None else ran).append(f"{convention.name}: {reason}")
            continue
        finally:
            stop_clock()
        if convention.channels is not None or request.expected in (None, channels_of(output)):
            return layer, output, convention.name
        first = first or (layer, output, convention.name)
    if first is not None:
        return first
    raise GraftError(
        f"{request.title}: its class {target} cannot be called for {request.shapes} by any of "
        f"{len(problems) + len(ran)} conventions; the likest: {[*ran, *problems, 'none fits its constructor'][0]}"
    )


def copy_of(read: Any) -> Any:
    """Return a copy of maps, for a layer that changes them in place."""
    if isinstance(read, list | tuple):
        return [copy_of(it) for it in read]
    return read.clone() if isinstance(read, Tensor) else read


def channels_of(output: Any) -> int:
    """Return the channels of a map; of a list of maps those of all."""
    if isinstance(output, Tensor):
        return int(output.shape[1]) if output.ndim > 1 else 0
    return sum(map(channels_of, output)) if isinstance(output, list | tuple) else 0


def _call(cls: Callable[..., nn.Module], request: LayerRequest, convention: Convention) -> nn.Module:
    count = 1 if convention.repeated else request.repeats
    layers: list[Any] = [cls(*deepcopy(list(convention.arguments))) for _ in range(count)]
    if not all(isinstance(it, nn.Module) for it in layers):
        raise TypeError(f"it returned {type(layers[0]).__name__}; a torch.nn.Module is needed")
    return (layers[0] if count == 1 else nn.Sequential(*layers)).eval()


def _check(output: Any, request: LayerRequest, convention: Convention) -> None:
    if request.is_head:
        return
    if isinstance(output, list | tuple) and output and all(isinstance(it, Tensor) for it in output):
        return  # a list of maps, from which `Index` or a layer of the user's takes one
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise TypeError(f"returned {type(output).__name__}; a map (B, C, H, W) is needed")
    if convention.channels is not None and output.shape[1] != convention.channels:
        raise ValueError(f"returned {output.shape[1]} channels instead of {convention.channels}")
    if not torch.isfinite(output).all():
        raise ValueError("returned values that are not finite")


def _conventions(cls: Callable[..., nn.Module], request: LayerRequest) -> Iterator[Convention]:
    """Yield the conventions that a class may follow, each once."""
    source = _heads if request.is_head else _several if isinstance(request.read, list) else _single
    seen: list[tuple[Any, ...]] = []
    as_written = Convention("as written", request.arguments)
    first = () if request.is_head or isinstance(request.read, list) or _takes_channels(cls) else (as_written,)
    for convention in (*first, *source(request, _parameters(cls))):
        key = (convention.arguments, convention.repeated)
        if key not in seen:
            seen.append(key)
            yield convention


def _single(request: LayerRequest, names: list[str]) -> Iterator[Convention]:
    """Conventions of a layer that reads one map."""
    c1, arguments, n = channels_of(request.read), request.arguments, request.repeats
    first = arguments[0] if arguments and type(arguments[0]) is int else 0
    numbered = first > 0
    c2 = request.scaled(first)
    takes_out = len(names) > 1 and any(part in names[1].lower() for part in _OUT)
    takes_repeats = len(names) > 2 and names[2].lower() in _REPEATS
    of_two = []
    if numbered and c2 <= _MOST:
        if takes_repeats:
            of_two.append(Convention("(c1, c2, n, ...)", (c1, c2, n, *arguments[1:]), c2, repeated=True))
        of_two.append(Convention("(c1, c2, ...)", (c1, c2, *arguments[1:]), c2))
        if first <= _MOST:
            of_two.append(Convention("(c1, unscaled c2, ...)", (c1, first, *arguments[1:]), first))
    of_one = [Convention("(c1, ...)", (c1, *arguments))]
    if takes_out:
        yield from of_two
        yield Convention("(c1, c1, ...)", (c1, c1, *arguments), c1)
        yield from of_one
    else:
        if not (numbered and first >= 64 and len(names) > 1):  # else it reads as a number of channels
            yield from of_one
            yield from of_two
        else:
            yield from of_two
            yield from of_one
    if numbered:
        yield Convention("(c2, ...)", (c2, *arguments[1:]))
        yield Convention("(c1) in place of the first argument", (c1, *arguments[1:]))
    yield Convention("as written", arguments)
    if numbered:
        yield Convention("(...) after c2", arguments[1:], c2)
        yield Convention("(...) after unscaled c2", arguments[1:], first)
    yield Convention("(c1)", (c1,))
    yield Convention("(c1, c1)", (c1, c1), c1)
    yield Convention("()", ())


def _several(request: LayerRequest, names: list[str]) -> Iterator[Convention]:
    """Conventions of a layer that reads a list of maps."""
    channels = [channels_of(it) for it in request.read]
    arguments = request.arguments
    first = arguments[0] if arguments and type(arguments[0]) is int else 0
    numbered = first > 0
    c2 = request.scaled(first)
    if numbered and first >= 8:
        yield Convention("([c1, ...], c2, ...)", (channels, c2, *arguments[1:]), c2)
        yield Convention("(sum of c1, c2, ...)", (sum(channels), c2, *arguments[1:]), c2)
    yield Convention("([c1, ...], ...)", (channels, *arguments))
    yield Convention("as written", arguments)
    yield Convention("(c1, ...) of the first", (channels[0], *arguments))
    yield Convention("(c1 of each, ...)", (*channels, *arguments))
    if numbered:
        yield Convention("(c1 of each, c2, ...)", (*channels, c2, *arguments[1:]), c2)
        yield Convention("(c2, ...)", (c2, *arguments[1:]))
    if numbered:
        yield Convention("(...) after c2", arguments[1:], c2)
        yield Convention("(...) after unscaled c2", arguments[1:], first)
    yield Convention("([c1, ...], last c1)", (channels, channels[-1]))
    yield Convention("(sum of c1)", (sum(channels),))
    yield Convention("(c1 of the first)", (channels[0],))
    yield Convention("(number of maps)", (len(channels),))
    yield Convention("()", ())


def _heads(request: LayerRequest, names: list[str]) -> Iterator[Convention]:
    """Conventions of a head: the number of classes, more arguments, and the channels of what it reads."""
    channels = [channels_of(it) for it in request.read]
    nc, rest = request.classes, request.arguments[1:]
    scaled = tuple(request.scaled(it) if type(it) is int and it > 0 else it for it in rest)
    for name, more in (("...", rest), ("scaled ...", scaled)):
        yield Convention(
            f"(nc, {name}, reg_max, end2end, [c1, ...])", (nc, *more, request.reg_max, request.end2end, channels)
        )
        yield Convention(f"(nc, {name}, [c1, ...])", (nc, *more, channels))
        yield Convention(f"(nc, [c1, ...], {name})", (nc, channels, *more))


def _takes_channels(cls: Callable[..., nn.Module]) -> bool:
    """Tell whether the first parameter of a class can be a number of channels, by its name, annotation and default."""
    try:
        return channel_arguments(from_callable(cls), ()).first
    except (TypeError, ValueError):
        return True


def _parameters(cls: Callable[..., nn.Module]) -> list[str]:
    """Return the names of the positional parameters of a class, empty where it does not tell."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return []
    return [it.name for it in parameters if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)]
