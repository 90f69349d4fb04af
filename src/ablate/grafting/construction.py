"""Build a module for a place: the class or function at a dotted path, called with the channels and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from inspect import getattr_static
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ablate.grafting.insertion import GraftError
from ablate.grafting.module_calls import (
    IMPORT,
    IMPORT_SECONDS,
    ModuleError,
    calling,
    is_of_user,
    reason,
    start_clock,
    stop_clock,
)
from ablate.grafting.module_import import import_module_of
from ablate.settings.graft import ModuleSpec
from ablate.sources.parameters import Parameters, channel_arguments, from_callable, output_arguments
from ablate.sources.python_imports import split_target
from ablate.sources.working_folder import allow


def load_class(target: str) -> Callable[..., nn.Module]:
    """Return the class at a dotted path, or the function that builds a module.

    Raises:
        GraftError: There is no such name, importing it fails, or it is neither of the two.
    """
    start_clock(f"{target} {IMPORT}", IMPORT_SECONDS)
    try:
        found: Any = reduce(getattr, split_target(target)[1].split("."), import_module_of(target))
    except SystemExit as error:  # a script, which runs when it is imported
        problem = (
            "its file ends the process when it is imported; what is a script belongs below if __name__ == '__main__'"
        )
        raise GraftError(f"module._target_: '{target}' cannot be imported: {problem}") from error
    except BaseException as error:
        if is_of_user(error):
            raise
        text = reason(error)
        problem = text.partition(": ")[2] or text if isinstance(error, ImportError | AttributeError) else text
        raise GraftError(f"module._target_: '{target}' cannot be imported: {problem}") from error
    finally:
        stop_clock()
    if isinstance(found, type) and not issubclass(found, nn.Module) and not _may_make_another(found):
        raise GraftError(f"module._target_: '{target}' is not a torch.nn.Module class")
    if not callable(found) or isinstance(found, nn.Module):
        kind = type(found).__name__
        raise GraftError(f"module._target_: '{target}' is {kind}; a class or a function that builds a module is needed")
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Supply:
    """What the place of a replaced layer gives to a constructor.

    Attributes:
        channels: Of the map that the layer receives; of each one where it receives several, as a list.
        returned: Channels of the map that it returns; None where that is not for the constructor to know.
        facts: What else a constructor may ask for by name; an option of the module's file comes first.
    """

    channels: int | list[int]
    returned: int | None
    facts: Mapping[str, object]


def construct(module: ModuleSpec, channels: int | Supply, seed: int, where: str) -> nn.Module:
    """Build a module with weights that depend on the seed alone.

    Args:
        module: Its class and options.
        channels: Of the map that it receives; or what the layer gives that it replaces.
        seed: Seeds its weights; the global random state is left as it was.
        where: Where it goes, such as ``at neck_p4``; part of a message.

    Raises:
        GraftError: It cannot be imported; it raises, makes no module, or makes parameters in its first forward only;
            or it takes one number of channels where the layer that it replaces receives and returns different ones.
    """
    allow(module.targets)  # a control builds the class that it imitates
    function, arguments = load_class(module.target), module.arguments
    supply = channels if isinstance(channels, Supply) else Supply(channels, None, {})
    positional, named = _supplied(_parameters(function), arguments, supply, where, module.target)
    arguments |= named
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with calling(module.target, f"{where}: constructor with {_in_words(supply)}"):
            built: object = function(*positional, **arguments)
    if not isinstance(built, nn.Module):
        raise ModuleError(module.target, f"{where}: it returned {type(built).__name__}; a torch.nn.Module is needed")
    lazy = [name for name, tensor in [*built.named_parameters(), *built.named_buffers()] if is_lazy(tensor)]
    if lazy:
        raise ModuleError(module.target, f"{where}: {made_too_late(lazy)}")
    return built


def _supplied(
    parameters: Parameters, options: Mapping[str, object], supply: Supply, where: str, target: str
) -> tuple[list[object], dict[str, object]]:
    """Return the positional and the named arguments that a place gives, beside a module's options."""
    known = {parameter.name for parameter in parameters.named if parameter.keyword} - set(options)
    named = {name: value for name, value in supply.facts.items() if name in known}
    taken = {*options, *named}
    by_place = channel_arguments(parameters, taken)
    returned = () if supply.returned is None else output_arguments(parameters, taken)
    named |= {name: supply.channels for name in by_place.names if name not in returned}
    named |= dict.fromkeys(returned, supply.returned)
    positional: list[object] = [supply.channels] if by_place.first else []
    if supply.returned is None or returned or "replaced" in named or isinstance(supply.channels, list):
        return positional, named
    if parameters.any_positional and not parameters.named:  # written in C, or it takes anything
        return [supply.channels, supply.returned], named
    if positional and supply.channels != supply.returned:
        raise ModuleError(
            target,
            f"{where}: its constructor takes one number of channels; the layer that it would replace maps "
            f"(B, {supply.channels}, H, W) to {supply.returned} channels, and its own output has {supply.channels}",
        )
    return positional, named


def _in_words(supply: Supply) -> str:
    """Return the channels that a constructor got."""
    if isinstance(supply.channels, list):
        return f"maps of {', '.join(map(str, supply.channels))} channels"
    text = f"{supply.channels} channels"
    return text if supply.returned is None else f"{text} in and {supply.returned} out"


def made_too_late(names: list[str]) -> str:
    """Return why parameters of these names, made in the first forward, are not trained."""
    few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"makes parameters in its first forward ({few}); optimizer and average of weights (EMA) are made before "
        "it and would not have them: make them in the constructor"
    )


def _may_make_another(cls: type) -> bool:
    """Whether calling a class may give an object of another class: by a `__new__` or a metaclass of its own."""
    return type(cls) is not type or isinstance(getattr_static(cls, "__new__"), staticmethod)


def _parameters(function: Callable[..., nn.Module]) -> Parameters:
    """Return what a class or function takes; nothing for a class without a constructor of its own."""
    inherits = isinstance(function, type) and getattr_static(function, "__init__") is vars(nn.Module)["__init__"]
    if inherits and getattr_static(function, "__new__") is vars(object)["__new__"]:
        return Parameters(())
    return from_callable(function)
