"""Check a module's options against its source, without importing it.

They are read by the syntax tree: the annotations of its constructor say the types (`bool`, `int`), the choices
(`Literal["a", "b"]`) and the ranges (`Annotated[int, ">= 1"]`), so a user's own module is checked as well as ours.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import asdict

from ablate.errors import ConfigError, nearest
from ablate.settings.argument_checks import shown
from ablate.settings.class_options import Option, check_option, option_of
from ablate.settings.graft import SIZE_MATCHED, GraftSpec, InsertionSpec, ModuleSpec
from ablate.settings.option_files import check_plain, misspelt_reserved
from ablate.settings.point_checks import check_kind
from ablate.settings.points import FACTS, HEAD_FACTS, Point, point_of
from ablate.settings.schema import InsertionConfig, option_file
from ablate.sources.class_checks import check_class
from ablate.sources.definitions import constructor
from ablate.sources.module_source import module_source
from ablate.sources.parameters import channel_arguments
from ablate.storage.plain_values import Plain


def check_module(module: Plain, where: str = "", insertion: InsertionConfig | None = None) -> None:
    """Check a module's options against its source.

    Args:
        module: As a configuration holds it.
        where: Leads the message.
        insertion: Where it goes; None: where its file says.

    Raises:
        ConfigError: Its one line says what is wrong, where, and which values are valid.
    """
    target, name = module.get("_target_"), module.get("name")
    if target is None and not where and name == "none":
        return
    key = where or "module."
    if not isinstance(target, str):
        raise ConfigError(f"{key}_target_={shown(target)}: package.module.Class is needed; no class: module=none only")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{key}name={shown(name)}: a text is needed, which names the module in the reports")
    if name == "none":
        raise ConfigError(f"{key}_target_={target}: the module is none; choose a module's file: module=<its name>")
    like = module.get("like") if target == SIZE_MATCHED else None
    if like is not None and not isinstance(like, str | Mapping):
        raise ConfigError(f"{key}like={like}: the name of a module is needed, such as hmha")
    if isinstance(like, Mapping) and like.get("_target_") is None:
        raise ConfigError(f"{key}like: {like}: no _target_ says which class it is to be like")
    if module.get("about") not in (None, option_file("module", name).get("about")):
        raise ConfigError(f"{key}about: it describes the module in its file, and is no option")
    options = {name: value for name, value in module.items() if name != "about" and (name != "like" or like is None)}
    check_plain(options, key)
    spec = ModuleSpec.from_plain(module, f"{key}like")
    place = asdict(insertion or InsertionConfig())
    graft = GraftSpec(spec, InsertionSpec.from_plain(place, spec.default_insertion))
    check_kind(graft)
    _check_arguments(spec, key, point_of(graft.insertion.name))
    if spec.like is not None:
        check_module(spec.like.to_plain(), f"{key}like: ")


def _check_arguments(module: ModuleSpec, key: str, point: Point | None) -> None:
    """Check a module's options; at a point that replaces, the layer that stood there may give some of them."""
    target, arguments = module.target, module.arguments
    facts = () if point is None or not point.replaces else HEAD_FACTS if point.kind == "head" else FACTS
    given = {**dict.fromkeys(facts), **arguments}
    check_class(module_source(target).definition, target, given, key)
    valid = module_options(target, given)
    if valid is None:
        for name in arguments:
            if reserved := misspelt_reserved(name):
                raise ConfigError(f"{key}{name}: no such key. did you mean '{reserved}'?")
        return
    for name, value in arguments.items():
        if name not in valid:
            guess = nearest(name, [*valid, "insertion"])
            raise ConfigError(f"{key}{name}: {target} has no such option. {guess}valid: {', '.join(valid) or 'none'}")
        check_option(f"{key}{name}", value, valid[name])


def module_options(target: str, given: Container[str] = ()) -> dict[str, Option] | None:
    """Return the options that the class or function at a dotted path takes beside the channels, read from its source.

    None where the source alone does not tell: the class inherits its constructor, or takes any keyword. Such a module
    is checked when the network is built.

    Args:
        target: The dotted path.
        given: Names of the options that have a value.

    Raises:
        ConfigError: There is no such module or class, or its file is no Python.
    """
    parameters = constructor(module_source(target).definition)
    if parameters is None or parameters.any_keyword:
        return None
    channels = channel_arguments(parameters, given)
    first = parameters.first if channels.first else None
    return {
        parameter.name: option_of(parameter.annotation)
        for parameter in parameters.named
        if parameter is not first and parameter.name not in channels.names
    }
