"""Check losses without importing torch: an error of one line for each mistake."""

from __future__ import annotations

import ast

from ablate.errors import ConfigError, nearest
from ablate.settings.argument_checks import shown
from ablate.settings.class_options import check_option, option_of
from ablate.settings.losses import LossSpec, loss_names
from ablate.settings.option_files import check_plain
from ablate.sources.definitions import constructor, is_network_module
from ablate.sources.module_source import module_source


def check_loss(part: str, value: object) -> None:
    """Check the loss of a part: that there is one of this name, and its options against its source.

    Args:
        part: ``box``, ``cls`` or ``assigner``.
        value: A text of the user's, or a mapping as in a trial's recorded configuration.

    Raises:
        ConfigError: Its one line says what is wrong, where, and which values are valid.
    """
    where = f"loss.{part}={value}" if isinstance(value, str) else f"loss.{part}"
    if isinstance(value, dict) and isinstance(value.get("_target_"), str):
        _check(LossSpec.from_plain(value, where), where)
    elif isinstance(value, str):
        _check(LossSpec.from_text(value, part), where)
    else:
        raise ConfigError(f"{where}={shown(value)}: the name of a loss is needed; valid: {', '.join(loss_names(part))}")


def _check(loss: LossSpec, where: str) -> None:
    check_plain(loss.options, f"{where}: ")
    try:
        definition = module_source(loss.target).definition
    except ConfigError as error:
        raise ConfigError(f"{where}: {str(error).removeprefix('module.')}") from error
    if is_network_module(definition) is False:
        bases = ", ".join(map(ast.unparse, getattr(definition.node, "bases", []))) or "nothing"
        raise ConfigError(f"{where}: {loss.target} is no torch.nn.Module: it derives from {bases}")
    parameters = constructor(definition)
    if parameters is not None and not parameters.any_keyword:
        taken = {parameter.name: option_of(parameter.annotation) for parameter in parameters.named}
        if (loss.of is None) == ("of" in taken):
            needs = f"{loss.title} takes no other loss (of)" if loss.of else f"{loss.title} needs another one: of=siou"
            raise ConfigError(f"{where}: {needs}")
        valid = [name for name in taken if name != "of"]
        for name, value in loss.options.items():
            if name not in valid:
                guess = f"{nearest(name, valid)}valid: {', '.join(valid) or 'none'}"
                raise ConfigError(f"{where}: {name}: {loss.title} has no such option. {guess}")
            check_option(f"{where}: {name}", value, taken[name])
        for parameter in parameters.named:
            if parameter.required and parameter.name not in ("of", *loss.options):
                raise ConfigError(f"{where}: {parameter.name}: {loss.target} needs a value for it, and none is given")
    if loss.of is not None:
        _check(loss.of, where)
