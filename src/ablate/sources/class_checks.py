"""Can the class of a module be what a graft needs? As far as its source tells; the preflight tells the rest."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from ablate.errors import ConfigError
from ablate.sources.definitions import Definition, constructor, inherits_only_module, is_network_module

_FORM = "class Mine(torch.nn.Module): def __init__(self, channels, ...)"


def check_class(definition: Definition, target: str, options: Mapping[str, object], key: str) -> None:
    """Check that a target is a class of network modules whose constructor takes the channels and the given options.

    Args:
        definition: Where the target is defined.
        target: Its dotted path.
        options: The module's options, by name.
        key: Leads the name of an option in a message.

    Raises:
        ConfigError: It is a function, no `torch.nn.Module`, takes no channels, or needs an option that is not given.
    """
    if definition.is_function:
        raise ConfigError(f"module._target_: {target} is a function; a class is needed: {_FORM}")
    if is_network_module(definition) is False:
        bases = ", ".join(map(ast.unparse, getattr(definition.node, "bases", []))) or "nothing"
        raise ConfigError(f"module._target_: {target} is no torch.nn.Module: it derives from {bases}; needed: {_FORM}")
    init = constructor(definition)
    if init is None:
        if inherits_only_module(definition):
            raise ConfigError(f"module._target_: {target} has no constructor that takes the channels; needed: {_FORM}")
        return
    positional = [*init.args.posonlyargs, *init.args.args][1:]  # without self
    if not positional and init.args.vararg is None:
        raise ConfigError(f"module._target_: the constructor of {target} takes no channels; needed: {_FORM}")
    for name in _required(init):
        if name not in options:
            raise ConfigError(f"{key}{name}: {target} needs a value for it, and none is given")


def _required(init: ast.FunctionDef) -> list[str]:
    """Return the options that a constructor has no default for; the first argument is the channels."""
    positional = [*init.args.posonlyargs, *init.args.args]
    without_default = positional[: len(positional) - len(init.args.defaults)][2:]
    keywords = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    return [*(a.arg for a in without_default), *(a.arg for a, default in keywords if default is None)]
