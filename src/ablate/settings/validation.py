"""Check a composed configuration without importing torch: an error of one line for each mistake."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ablate.errors import ConfigError, count, nearest
from ablate.settings.architecture import check_architecture_file
from ablate.settings.argument_checks import check_kind, check_precision, check_train, satisfies, shown
from ablate.settings.budget import seconds_of
from ablate.settings.fold_checks import check_folds
from ablate.settings.graft import GraftSpec, grafts_of_config
from ablate.settings.imported_network import NETWORK, ImportedNetwork
from ablate.settings.judge import check_judge, epochs_of_mean
from ablate.settings.loss_checks import check_loss
from ablate.settings.losses import PARTS
from ablate.settings.metric import check_metric
from ablate.settings.module_checks import check_module
from ablate.settings.option_files import (
    GROUPS,
    SCHEMAS,
    fields_of_data,
    known_keys,
    unknown_key,
)
from ablate.settings.point_checks import check_points
from ablate.settings.points import REPLACE_LAYER, layers_of
from ablate.settings.schema import (
    CONTROLS,
    HIGHEST_RATE,
    Config,
    InsertionConfig,
    LatencySettings,
    OptimizerSettings,
    options,
)
from ablate.settings.trial_settings import TrialSettings
from ablate.settings.tuning import Tuning
from ablate.sources.module_source import module_source
from ablate.storage.plain_values import Plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


# Schemes of MLflow's stores; a text without :// is a folder.
STORES = ("http", "https", "sqlite", "postgresql", "postgres", "mysql", "mssql", "oracle", "file", "databricks")


def check(config: Plain) -> None:
    """Check a resolved configuration.

    Raises:
        ConfigError: Its one line says what is wrong, where, and which values are valid.
    """
    _check_data_texts(config.get("data"))
    for group in ("", *GROUPS, "loss", "latency"):
        _check_keys(group, config.get(group) if group else config)
    sections = {name: schema(**config[name]) for name, schema in SCHEMAS.items() if name}
    settings = Config(**{**config, **sections})
    _check_fields("", settings)
    for name, section in sections.items():
        _check_fields(f"{name}.", section)
    _check_arithmetic(settings.optimizer)
    check_latency(settings.latency)
    _check_store(settings.tracking.uri)
    _check_insertion(settings.insertion, settings.module)
    check_train(settings.train)
    _check_data(settings.data)
    check_architecture_file(settings.model.architecture)
    check_module(settings.module, insertion=settings.insertion)
    for graft in settings.grafts:
        _check_graft(graft)
    if settings.head is not None:
        _check_graft(GraftSpec.from_head(settings.head).to_plain())
    grafts = grafts_of_config(config)
    check_points(grafts)
    if settings.train.get("freeze") and any(graft.module.is_network for graft in grafts):
        raise ConfigError("train.freeze: it names layers by number, which are others in a network that was imported")
    for part in PARTS:
        check_loss(part, getattr(settings.loss, part))
    for control in settings.controls:
        if control not in CONTROLS:
            raise ConfigError(f"controls: {control}: {nearest(str(control), CONTROLS)}valid: {', '.join(CONTROLS)}")
    _check_judging(settings)
    check_folds(settings)
    check_device(settings.device)
    check_precision(settings.train.get("amp"), settings.device)
    if settings.sweep is not None and not _is_folder_name(settings.sweep):
        needs = "a name of up to 120 letters, digits and . _ - + @ = is needed, which does not begin with a dot, - or ="
        raise ConfigError(f"sweep={settings.sweep}: {needs}; it becomes a folder")


def _check_judging(settings: Config) -> None:
    """Check how long a sweep runs, and which epochs and learning rates its trials have.

    Raises:
        ConfigError: Options do not go together, or one has no effect.
    """
    check_judge(settings.judge)
    check_metric(settings.metric, settings.judge)
    epochs = settings.train.get("epochs")
    if isinstance(epochs, int) and (epochs_of_mean(settings.judge) or 0) > epochs:
        raise ConfigError(f"judge={settings.judge}: a training has {count(epochs, 'epoch')} (train.epochs)")
    if settings.budget is not None:
        seconds_of(settings.budget)
        if settings.until is None:
            raise ConfigError(f"budget={settings.budget}: it ends a sweep whose seeds are added: add until=decided")
    if settings.until is None and settings.max_seeds != Config().max_seeds:
        raise ConfigError(f"max_seeds={settings.max_seeds}: it limits seeds that are added: add until=decided")
    if settings.tune == 1:
        raise ConfigError("tune=1: one learning rate leaves nothing to choose; valid: 0 (none) or 2 to 9")
    tuning = Tuning.of_command(settings.tune, 1)
    highest = max(tuning.rates(settings.optimizer.lr0)) if tuning else 0.0
    if highest > HIGHEST_RATE:
        raise ConfigError(
            f"tune={settings.tune}: it would try optimizer.lr0={highest:g}; at most {HIGHEST_RATE} is valid"
        )


def _is_folder_name(name: str) -> bool:
    """Tell whether a name, in letters of any alphabet, can be that of a folder and a word of a command line."""
    if not 1 <= len(name) <= 120 or len(name.encode()) > 255 or name[0] in ".-=":
        return False
    return all(c in "._-+@=" or unicodedata.category(c)[0] in "LMN" for c in name)


def check_each(configs: Sequence[Plain]) -> None:
    """Check every configuration of a command; of those that differ only by their seed, the first one completely.

    Raises:
        ConfigError: See `check`.
    """
    seed = next(entry for entry in fields(Config) if entry.name == "seed")
    checked: set[str] = set()
    for config in configs:
        rest = repr({name: value for name, value in config.items() if name != "seed"})
        if rest in checked:
            _check_value("seed", config.get("seed"), seed)
        else:
            check(config)
            checked.add(rest)


def check_same(settings: Sequence[TrialSettings]) -> None:
    """Check that the settings of a command are the same in all of its trials.

    Raises:
        ConfigError: They differ, such as with `root=${module.name}`.
    """
    command = settings[0].command
    for other in {id(each.command): each.command for each in settings if each.command != command}.values():
        key, first, second = _difference(asdict(command), asdict(other))
        values = f"{shown(first)} in one trial and {shown(second)} in another"
        raise ConfigError(f"{key}: takes one value for the whole command, but it is {values}")


def _difference(one: Plain, other: Plain) -> tuple[str, object, object]:
    """Return the first field in which two mappings differ, and its two values."""
    key = next(name for name in one if one[name] != other[name])
    if isinstance(one[key], Mapping):
        leaf, first, second = _difference(one[key], other[key])
        return f"{key}.{leaf}", first, second
    return key, one[key], other[key]


def check_device(device: str) -> None:
    """Check the name of a device.

    Raises:
        ConfigError: It is not valid.
    """
    if not re.fullmatch(r"auto|cpu|(cuda:)?\d+(,\d+)*", device):
        raise ConfigError(f"device={device}: valid are auto, cpu, or GPU numbers such as 0 or cuda:1 or 0,1")


def check_latency(latency: LatencySettings) -> None:
    """Check the settings of a latency measurement.

    Raises:
        ConfigError: Its one line says what is wrong, where, and which values are valid.
    """
    _check_fields("latency.", latency)
    if latency.enabled and "onnx" in latency.backend:
        for package in ("onnx", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"latency.backend=onnx: {package} is not installed: pip install 'ablate-yolo[export]'"
                )


def _check_keys(group: str, values: object) -> None:
    """Check that a group has all of its keys and no other; an empty name is that of the configuration itself."""
    where = f"{group}." if group else ""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{group or 'the configuration'}={values}: a mapping of keys to values is needed")
    valid = known_keys(group, str(values.get("name")))
    for key in values:
        if valid and key not in valid:
            raise unknown_key(str(key), where, group, valid)
    for key in valid if group in SCHEMAS or group == "train" else ():
        if key not in values:
            raise ConfigError(f"{where}{key} is missing: a key cannot be deleted; write {where}{key}=<value>")


def _check_fields(prefix: str, section: DataclassInstance) -> None:
    """Check the values of a section against the choices and ranges of its fields; `prefix` leads the messages."""
    for entry in fields(section):
        value = getattr(section, entry.name)
        where = f"{prefix}{entry.name}"
        check_kind(where, value, str(entry.type))
        if entry.metadata.get("several"):
            if not isinstance(value, list) or not value:
                raise ConfigError(f"{where}={value}: a list with at least one value is needed, such as [{_one(entry)}]")
            for item in value:
                _check_value(where, item, entry)
        elif isinstance(value, str) and not value.strip():
            raise ConfigError(f"{where}=: a value is needed; leave it out for the default, {shown(entry.default)}")
        elif value is not None:
            _check_value(where, value, entry)


def _check_value(where: str, value: Any, entry: Field[Any]) -> None:
    choices, constraint = entry.metadata.get("choices"), entry.metadata.get("range")
    if choices and value not in choices:
        if where.endswith("name") and str(value).lower() == "auto":
            raise ConfigError(
                f"{where}=auto: refused, because 'auto' picks its own learning rate and momentum; "
                f"valid: {', '.join(options('optimizer'))}"
            )
        raise ConfigError(f"{where}={value}: {nearest(str(value), choices)}valid: {', '.join(choices)}")
    if constraint and not satisfies(value, constraint):
        raise ConfigError(f"{where}={value} is out of range: it must be {constraint}")


def _check_store(uri: str | None) -> None:
    """Check the address of MLflow's store; the message does not repeat it, for it may hold a password."""
    scheme, separator, _ = (uri or "").partition("://")
    if not separator:
        return
    if scheme.split("+")[0] not in STORES:
        guess = nearest(scheme, STORES)
        raise ConfigError(f"tracking.uri={scheme}://...: MLflow has no such store. {guess}valid: {', '.join(STORES)}")
    try:
        parts = urlsplit(str(uri))
        place, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"tracking.uri={scheme}://...: {str(error).lower()}") from error
    if scheme in ("http", "https") and not place:
        raise ConfigError(f"tracking.uri={scheme}://: a server is needed, such as {scheme}://127.0.0.1:5000")


def _check_data_texts(data: object) -> None:
    """Check that what names a data set is text: its name, which says what other keys it has, its file and address."""
    if not isinstance(data, Mapping) or "name" not in data:
        return
    for key in ("name", "path", "url"):
        value = data.get(key)
        if not isinstance(value, str) and (key == "name" or value is not None):
            raise ConfigError(f"data.{key}={shown(value)}: a text is needed; put quotes around a number: '5'")


def _check_data(data: Plain) -> None:
    """Check that no field of a data set of ours is null which has a value; the data set itself is read later."""
    if not isinstance(data.get("download", False), bool):
        raise ConfigError(f"data.download={data['download']}: true or false is needed")
    for key, value in fields_of_data(str(data.get("name"))).items():
        if value is not None and data.get(key, value) is None:
            raise ConfigError(f"data.{key}=null: a value is needed; its default is {shown(value)}")


def _one(entry: Field[Any]) -> Any:
    """Return a valid value of a list."""
    return entry.default_factory()[0] if callable(entry.default_factory) else ""


def _check_arithmetic(optimizer: OptimizerSettings) -> None:
    """Check that only MuSGD, which orthogonalises, has an arithmetic of the orthogonalisation."""
    if optimizer.orthogonalise != "auto" and optimizer.name != "MuSGD":
        raise ConfigError(
            f"optimizer.orthogonalise={optimizer.orthogonalise}: {optimizer.name} does not orthogonalise, only MuSGD "
            "does; valid: auto"
        )


def _check_insertion(insertion: InsertionConfig, module: Plain, where: str = "") -> None:
    """Check an insertion point and the wiring there; `where` leads the message."""
    valid = [name for name in options("insertion") if name != "customary"]
    name = insertion.name
    if name == "customary":
        name = str(module.get("insertion") or "none")
        if name == "none" and insertion.at is None and module.get("_target_") is not None:
            file = f"the file of module {module.get('name')} names no customary one: insertion: <place>"
            raise ConfigError(f"{where}insertion is missing: {file}; valid: {', '.join(valid)}")
    if insertion.at is not None:
        if not insertion.at or min(insertion.at) < 0:
            raise ConfigError(f"{where}insertion.at={insertion.at}: layer indices from 0 are needed, such as [4,6]")
    elif name == REPLACE_LAYER:
        raise ConfigError(f"{where}insertion={name}: it needs the layers to replace, such as {name}6")
    elif name not in valid and layers_of(str(name)) is None and module.get("_target_") is not None:
        source = " (named as customary by the module's file)" if insertion.name == "customary" else ""
        raise ConfigError(f"{where}insertion={name}{source}: {nearest(str(name), valid)}valid: {', '.join(valid)}")


def _check_imported(module: Plain, where: str) -> None:
    """Check a network that was imported: its layers, and from source the classes that they need."""
    network = ImportedNetwork.from_options(module, where.removesuffix(": "))
    network.allow_code()
    for target in network.targets:
        module_source(target)


def _check_graft(entry: object) -> None:
    """Check an entry of `grafts`: a text of the user's, or a mapping as in a trial's recorded configuration."""
    if not isinstance(entry, str | dict):
        raise ConfigError(f"grafts: {entry!r} is no graft; a list is needed, such as [hmha@c3k2,acmix@head]")
    graft = GraftSpec.from_text(entry).to_plain() if isinstance(entry, str) else entry
    module, insertion = graft.get("module"), graft.get("insertion")
    if not isinstance(module, dict) or not isinstance(insertion, dict):
        raise ConfigError(f"grafts: {entry!r}: a mapping needs module and insertion, each a mapping; or hmha@c3k2")
    for key in graft:
        if key not in ("module", "insertion"):
            raise ConfigError(
                f"grafts: {key}: no such key. {nearest(str(key), ['module', 'insertion'])}valid: module, insertion"
            )
    _check_keys("insertion", insertion)
    where = f"grafts: {entry if isinstance(entry, str) else module.get('name')}: "
    if module.get("_target_") == NETWORK:
        _check_imported(module, where)
        return
    place = InsertionConfig(**insertion)
    _check_fields(where, place)
    _check_insertion(place, module, where)
    check_module(module, where, place)
