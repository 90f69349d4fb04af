"""Build a module for a place: the class or function at a dotted path, called with the channels and its options."""

from __future__ import annotations

from collections.abc import Callable
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
from ablate.sources.parameters import Parameters, channel_arguments, from_callable
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


def construct(module: ModuleSpec, channels: int, seed: int, where: str) -> nn.Module:
    """Build a module with weights that depend on the seed alone.

    Args:
        module: Its class and options.
        channels: Of the map that it receives.
        seed: Seeds its weights; the global random state is left as it was.
        where: Where it goes, such as ``at neck_p4``; part of a message.

    Raises:
        GraftError: It cannot be imported; it raises, makes no module, or makes parameters in its first forward only.
    """
    allow(module.targets)  # a control builds the class that it imitates
    function, arguments = load_class(module.target), module.arguments
    given = channel_arguments(_parameters(function), arguments)
    arguments |= dict.fromkeys(given.names, channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with calling(module.target, f"{where}: constructor with {channels} channels"):
            built: object = function(*([channels] if given.first else []), **arguments)
    if not isinstance(built, nn.Module):
        raise ModuleError(module.target, f"{where}: it returned {type(built).__name__}; a torch.nn.Module is needed")
    lazy = [name for name, tensor in [*built.named_parameters(), *built.named_buffers()] if is_lazy(tensor)]
    if lazy:
        raise ModuleError(module.target, f"{where}: {made_too_late(lazy)}")
    return built


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
