"""Can a module's class, or the function that builds it, be called as a graft calls it? As far as its source tells.

Where source does not tell, nothing is refused: the preflight imports the module in a process of its own and builds it.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping

from ablate.errors import ConfigError
from ablate.sources.definitions import Definition, constructor, is_network_module
from ablate.sources.parameters import channel_arguments

logger = logging.getLogger(__name__)


def check_class(definition: Definition, target: str, options: Mapping[str, object], key: str) -> None:
    """Check that a target is a class of network modules, or a function, that needs no option that is not given.

    Args:
        definition: Where the target is defined.
        target: Its dotted path.
        options: The module's options, by name.
        key: Leads the name of an option in a message.

    Raises:
        ConfigError: It is a class and no `torch.nn.Module`, or needs an option that is not given.
    """
    if is_network_module(definition) is False:
        bases = ", ".join(map(ast.unparse, getattr(definition.node, "bases", []))) or "nothing"
        needed = "class Mine(torch.nn.Module): def __init__(self, channels, ...)"
        raise ConfigError(f"module._target_: {target} is no torch.nn.Module: it derives from {bases}; needed: {needed}")
    parameters = constructor(definition)
    if parameters is None:
        logger.info("%s: its source does not tell what it takes; the preflight builds it", target)
        return
    channels = channel_arguments(parameters, options)
    first = parameters.first if channels.first else None
    for parameter in parameters.named:
        if parameter.required and parameter is not first and parameter.name not in (*channels.names, *options):
            raise ConfigError(f"{key}{parameter.name}: {target} needs a value for it, and none is given")
