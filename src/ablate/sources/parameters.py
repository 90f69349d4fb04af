"""What a constructor or a function takes, and which of its parameters receive the channels of a graft's place.

A graft maps (B, C, H, W) to (B, C, H, W), so C is the only number that a place gives. One rule decides where it goes,
for what is read from source and for what is imported: see `channel_arguments`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Container
from dataclasses import dataclass

REQUIRED = object()  # as the default of a parameter that has none
UNKNOWN = object()  # a default that source does not tell
_NO_NUMBERS = ("bool", "float", "str", "Callable", "Literal", "Type", "type")

# Names of parameters. An integer with a default is a number of channels unless it is named for something else.
_CHANNELS = re.compile(r"c1?|ch|chs|c_?in|cin|inp|in_?chs?|nf|d_model|.*(chan|dim|feat|plane|filter|width|embed).*")
_OUTPUT = re.compile(
    r"c2|c_?out|cout|oup|dim_out|(num_)?out_?(c|chs?|chan|channels|dims?|features|planes|filters|width)"
)
_OTHER = re.compile(
    r"[kspgdne]|.*(kernel|stride|dilation|padding|group|head|factor|ratio|reduction|window|block|size|prob|rate|drop|"
    r"inplace|eps|momentum|bias|act|norm|depth|layer|repeat|gamma|beta|alpha|slope|axis|scale|temperature).*"
)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor, without `self`.

    Attributes:
        name: Its name.
        positional: Whether it may be given by position.
        keyword: Whether it may be given by name.
        default: Its default, `REQUIRED` or `UNKNOWN`.
        kind: Its annotation as text; empty where it has none.
        annotation: Its annotation in the source; None where it was not read from there.
    """

    name: str
    positional: bool
    keyword: bool
    default: object
    kind: str
    annotation: ast.expr | None = None

    @property
    def required(self) -> bool:
        """Whether it needs a value."""
        return self.default is REQUIRED

    @property
    def named_channels(self) -> bool:
        """Whether its name says that it is a number of channels."""
        return _CHANNELS.fullmatch(self.name) is not None

    @property
    def may_be_channels(self) -> bool:
        """Whether it can be a number of channels: no flag, share or text, and no number of something else."""
        if self.kind.split("[")[0].split(".")[-1] in _NO_NUMBERS:
            return False
        if self.required or self.named_channels:
            return True
        return not isinstance(self.default, bool | float | str) and not _OTHER.fullmatch(self.name)


@dataclass(frozen=True)
class Parameters:
    """All that a constructor takes.

    Attributes:
        named: Its parameters, in order.
        any_positional: Whether it takes `*args`.
        any_keyword: Whether it takes `**kwargs`.
    """

    named: tuple[Parameter, ...]
    any_positional: bool = False
    any_keyword: bool = False

    @property
    def first(self) -> Parameter | None:
        """The first one that may be given by position."""
        return next((parameter for parameter in self.named if parameter.positional), None)


@dataclass(frozen=True)
class ChannelArguments:
    """How a constructor receives the channels.

    Attributes:
        first: Whether as its first positional argument.
        names: Names of the keyword arguments that receive them.
    """

    first: bool
    names: tuple[str, ...] = ()


def channel_arguments(parameters: Parameters, given: Container[str]) -> ChannelArguments:
    """Return which arguments receive the channels of a place.

    The first parameter does, unless an option gives it a value, or it can be no number of channels (`inplace: bool`,
    `p: float`, `kernel_size=7`), or a required one is named for them (`num_groups, num_channels`). A graft keeps the
    number of channels, so a required number of output channels is the same (`out_channels`, `c2`). A constructor that
    takes no channels, such as that of `torch.nn.ReLU`, receives none.
    """
    first, named = parameters.first, parameters.named
    others = [p for p in named if p.keyword and p.required and p.name not in given and p is not first]
    if first is None:
        takes_first = parameters.any_positional
    elif first.named_channels and first.required:
        takes_first = True
    else:
        elsewhere = any(p.named_channels for p in others if not _OUTPUT.fullmatch(p.name))
        takes_first = first.may_be_channels and first.name not in given and not elsewhere
    names = [p.name for p in others if _OUTPUT.fullmatch(p.name) or (not takes_first and p.named_channels)]
    return ChannelArguments(takes_first, tuple(names))


def output_arguments(parameters: Parameters, given: Container[str]) -> tuple[str, ...]:
    """Return which arguments receive the channels that a module returns, where those differ: required or not."""
    return tuple(
        parameter.name
        for parameter in parameters.named
        if parameter.keyword
        and parameter is not parameters.first
        and parameter.name not in given
        and _OUTPUT.fullmatch(parameter.name)
    )


def from_source(arguments: ast.arguments, *, bound: bool) -> Parameters:
    """Return the parameters of a function's source; `bound` leaves out the first one, `self`."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [REQUIRED] * (len(positional) - len(arguments.defaults)) + [_constant(d) for d in arguments.defaults]
    named = [
        _from_argument(argument, default, keyword=index >= len(arguments.posonlyargs))
        for index, (argument, default) in enumerate(zip(positional, defaults, strict=True))
    ]
    named = named[1:] if bound else named
    for argument, given in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        named.append(_from_argument(argument, REQUIRED if given is None else _constant(given), positional=False))
    return Parameters(tuple(named), arguments.vararg is not None, arguments.kwarg is not None)


def from_callable(function: Callable[..., object]) -> Parameters:
    """Return the parameters of a class or function; those of one that does not tell: any."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # a constructor written in C
        return Parameters((), any_positional=True, any_keyword=True)
    kinds = inspect.Parameter
    named = [
        Parameter(
            parameter.name,
            parameter.kind is not kinds.KEYWORD_ONLY,
            parameter.kind is not kinds.POSITIONAL_ONLY,
            REQUIRED if parameter.default is kinds.empty else parameter.default,
            _text(parameter.annotation),
        )
        for parameter in signature.parameters.values()
        if parameter.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
    ]
    others = {parameter.kind for parameter in signature.parameters.values()}
    return Parameters(tuple(named), kinds.VAR_POSITIONAL in others, kinds.VAR_KEYWORD in others)


def _constant(default: ast.expr) -> object:
    return default.value if isinstance(default, ast.Constant) else UNKNOWN


def _from_argument(argument: ast.arg, default: object, *, positional: bool = True, keyword: bool = True) -> Parameter:
    note = argument.annotation
    kind = "" if note is None else ast.unparse(note).strip("'")  # some are written in quotes
    return Parameter(argument.arg, positional, keyword, default, kind, note)


def _text(annotation: object) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
