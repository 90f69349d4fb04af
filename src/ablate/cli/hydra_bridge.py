"""The Hydra application: compose, check, run or plan."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli.override_words import check_words
from ablate.errors import ConfigError, nearest
from ablate.settings.graft_syntax import quote_list, quote_path
from ablate.settings.option_files import SCHEMAS, known_keys
from ablate.settings.schema import conf_dir, option_file, options, schema_node
from ablate.settings.training_arguments import OWNED
from ablate.settings.validation import check_each, check_same

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ablate.data.catalogue import DataSet
    from ablate.execution.launch import Launch
    from ablate.execution.make_request import Request
    from ablate.study.trial import Trial

LOCAL = "hydra_plugins.ablate_plugins.launcher.LocalLauncher"

_planning: dict[str, Any] | None = None  # set by `plan`: the same program up to the point where something starts
_words: list[str] = []  # the command line as the user wrote it
_single: list[tuple[DictConfig, Launch, dict[str, Any]]] = []  # a command without -m, which runs once Hydra is done


def run(arguments: Sequence[str], *, plan: dict[str, Any] | None = None) -> int:
    """Run Hydra on the command line's overrides.

    Args:
        arguments: Overrides and Hydra's own flags.
        plan: None to run; else the plan's options, and nothing starts.

    Returns:
        The exit code: 0 done, 1 some trials failed, 2 bad input, 130 interrupted.
    """
    global _planning
    _planning = plan
    _words[:] = arguments
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us; we say them in one line
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ablate.execution.make_request import Request
    from ablate.launching.fields import check_fields

    ConfigStore.instance().store(name="ablate", node=schema_node())
    program = sys.argv
    try:
        sys.argv = [program[0], *_for_hydra(arguments)]
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_task)()
        if _single:
            config, launch, fields = _single.pop()
            check_fields(fields)
            if config.controls:
                raise ConfigError("controls: they join a sweep, where the baseline is too: add -m (or --multirun)")
            return finish(Request(make_trials(lambda cell: config, [()])), launch)
    except KeyboardInterrupt as interrupt:
        said = "interrupted; what is finished is kept, and the same command goes on from the last checkpoints"
        print("\n" + "\n".join([said, *getattr(interrupt, "__notes__", [])]), file=sys.stderr)  # noqa: T201
        return 130
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        return fail(explain(error, arguments))
    except ValueError as error:
        if type(error).__module__.startswith("ablate.") or "can be specified" in str(error):  # DataError; Hydra's flags
            return fail(str(error))
        raise
    except SystemExit as end:
        if end.code == 1 and any(word.startswith(("--cfg", "-c")) for word in arguments):
            return 2  # Hydra has said that there is no such part to show
        return end.code if isinstance(end.code, int) else 0
    finally:
        sys.argv = program
    return 0


def make_trials(load: Callable[[Sequence[str]], DictConfig], cells: Sequence[Sequence[str]]) -> list[Trial]:
    """Compose the cells of a grid, check them and find their data; nothing is written but the built-in data's cache.

    Raises:
        ConfigError: One cannot be composed or cannot be meant; the message names its module's own options.
        DataError: A data set is missing or damaged, or there is no place for the cache.
    """
    from hydra.errors import HydraException

    from ablate.cli.hydra_compose import Composer
    from ablate.data.cache import make_cache
    from ablate.data.catalogue import resolve
    from ablate.settings.trial_settings import TrialSettings
    from ablate.study.trial import Trial

    composer = Composer(load, complete, cells)
    configs = []
    for cell in cells:
        try:
            configs.append(composer(cell))
        except HydraException as error:
            raise ConfigError(f"{explain(error, cell)} (in {' '.join(cell)})") from error
    check_each(configs)
    settings = [TrialSettings.from_plain(config) for config in configs]
    check_same(settings)
    make_cache()
    sets: dict[str, DataSet] = {}
    trials = []
    for each in settings:
        key = repr(each.data)
        if key not in sets:
            sets[key] = resolve(each.data.to_plain(), download=_planning is None)
        trials.append(Trial.of(each, sets[key]))
    return trials


def finish(request: Request, launch: Launch) -> int:
    """Plan or run the trials of a command; return the exit code."""
    if _planning is not None:
        from ablate.execution.plan_table import show_plan

        return show_plan(
            request.trials,
            left_out=request.left_out,
            notes=request.notes,
            controls=request.controls,
            launch=launch,
            **_planning,
        )
    from ablate.execution.run_sweep import run_sweep

    return run_sweep(request, launch, _words)


def plain(config: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as plain values, without Hydra's own part."""
    from ablate.cli.hydra_compose import contents

    content = contents(config)
    complete(content)
    return content


def complete(content: dict[str, Any]) -> None:
    """Make the paths of a configuration absolute, and find the checkpoint that it names; in place."""
    _absolute(content)
    if content["model"]["weights"] is not None:
        content["model"]["weights"] = weights_file(str(content["model"]["weights"]))


def weights_file(weights: str) -> str:
    """Return a checkpoint's absolute path; fetch a published one unless this is only a plan."""
    from ablate.data.data_errors import NotDownloaded
    from ablate.data.weights import find_weights

    try:
        return find_weights(weights, download=_planning is None)
    except NotDownloaded:
        return weights


def explain(error: Exception, arguments: Sequence[str] = ()) -> str:
    """Return one line about what is wrong with the input: an error of Hydra, of OmegaConf or our own."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import MissingMandatoryValue

    text = str(error)
    if isinstance(error, ConfigError):
        return text
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        valid = sorted({*options(group), "local", "ray"}) if group == "hydra/launcher" else options(group)
        if group == "optimizer" and name == "auto":
            return f"optimizer=auto: refused, because it picks its own learning rate; valid: {', '.join(valid)}"
        if name.startswith("submitit_"):
            return f"{group}: hydra-submitit-launcher is not installed; pip install 'ablate[slurm]'"
        return f"{group}={name}: no such option. {nearest(name, valid)}valid: {', '.join(valid)}"
    if isinstance(error, MissingMandatoryValue):
        return f"{getattr(error, 'full_key', None) or 'a value'} is missing: {_first_line(text)}"
    if text.startswith("Ambiguous value for argument"):
        return f"{text.split(chr(39))[1]}: several values are a sweep: add -m (or --multirun)"
    key = _unknown_key(text)
    if key is not None:
        return _explain_key(key, arguments)
    full_key = getattr(error, "full_key", None)
    line = _first_line(text)
    composed = re.match(r"(In '[^']+'): \w+ raised while composing config:\s*(\S.*)", text)
    if composed:  # an option file sets what nothing reads; what that is stands in the second line
        return f"{composed[1]}: {composed[2]}"
    if error.__cause__ is not None:
        cause = _first_line(str(error.__cause__))
        line = _explain_value(line, cause) or f"{line}: {cause}"
    return f"{full_key}: {line}" if full_key and full_key not in line else line


def fail(message: str) -> int:
    """Say on stderr what is wrong with the input; return the exit code for it."""
    print(f"ablate: {message}", file=sys.stderr)  # noqa: T201
    return 2


def _task(config: DictConfig) -> Any:
    """Hydra's task: run one trial of a sweep, for any launcher; without -m only keep its configuration."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from ablate.execution.run_trial import run_trial
        from ablate.settings.trial_settings import TrialSettings

        return run_trial(TrialSettings.from_plain(plain(config)))
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    fields: Any = OmegaConf.to_container(HydraConfig.get().launcher, resolve=True)
    launcher = instantiate(HydraConfig.get().launcher)
    launch = launcher if hasattr(launcher, "backend") else instantiate({"_target_": LOCAL})
    _single.append((config, launch, fields))
    return None


def _for_hydra(arguments: Sequence[str]) -> list[str]:
    """Say some things in the way that Hydra understands.

    `device=0,1` are two GPUs of one trial, not a sweep. Grafts in a list and odd paths need quotes. `-m` may stand
    anywhere. And an option of a module, in a sweep over modules, belongs to each trial: Hydra first composes a
    configuration without what is swept, where the module is none and has no options.

    Raises:
        ConfigError: A word cannot be meant.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    said = [quote_path(quote_list(argument)) for argument in arguments]
    said = [re.sub(r"^device=(\d+(?:,\d+)+)$", r"device='\1'", argument) for argument in said]
    said = check_words(said)
    flags = [argument for argument in said if argument in ("-m", "--multirun")]
    if not flags:
        return said
    said = [flags[0], *(argument for argument in said if argument not in flags)]
    parser = OverridesParser.create()
    for index, argument in enumerate(said):
        if re.match(r"module\.\w+=", argument) and not parser.parse_override(argument).is_sweep_override():
            key, _, value = argument.partition("=")
            said[index] = f"{key}=null,null" if value == "null" else f"{key}=choice({value})"  # choice takes no null
    return said


def _absolute(content: dict[Any, Any]) -> None:
    """Let relative paths mean the folder that the user stands in, wherever a worker runs."""
    for section, key in (("data", "path"), ("model", "weights"), ("model", "architecture")):
        value = content[section].get(key)
        if value and Path(str(value)).expanduser().is_file():
            content[section][key] = str(Path(value).expanduser().absolute())


def _unknown_key(text: str) -> str | None:
    """Return the key that Hydra does not know, from its message."""
    match = re.search(r"Could not (?:override|delete from config\.) '([^']+)'", text)
    return match[1] if match else None


_KINDS = {
    "is not a subclass of int": "a whole number is needed",
    "is not a subclass of str": "a text is needed",
    "to string": "a text is needed",
    "is not a subclass of LatencySettings": "single values are latency.<key>=<value>, such as latency.enabled=false",
    "Cannot merge DictConfig with ListConfig": "a list is needed, in brackets",
    "is not Optional": "a value is needed, not null",
    "could not be converted to Integer": "a whole number is needed",
    "could not be converted to Float": "a number is needed",
    "is not a valid bool": "true or false is needed",
    "is not a ListConfig": "a list is needed, in brackets",
}


def _explain_value(text: str, cause: str) -> str | None:
    """Return what is wrong with a value of another type than its key's, from Hydra's message and its cause."""
    merged = re.match(r"Error merging override \+*(.+)", text)
    kind = needed_kind(cause)
    return f"{merged[1]}: {kind}" if merged and kind else None


def needed_kind(cause: str) -> str | None:
    """Return what kind of value is needed where OmegaConf says that another one was given; None for another error."""
    return next((kind for words, kind in _KINDS.items() if words in cause), None)


def _explain_key(key: str, arguments: Sequence[str]) -> str:
    parent, _, leaf = key.rpartition(".")
    if key.partition(".")[0] == "hydra":
        return f"{key}: no such key of Hydra or of the launcher; see all with --cfg hydra"
    if parent == "train" and leaf in OWNED:
        return f"train.{leaf}: set it with {OWNED[leaf]}"
    if parent in SCHEMAS or parent == "train":
        valid = known_keys(parent)
    elif parent in ("module", "data"):
        valid = _keys_of_chosen(parent, arguments)
    else:
        leaf, valid = parent.partition(".")[0], known_keys("")
    listing = f"valid: {', '.join(valid)}" if valid and len(valid) < 40 else "see all fields with --cfg job"
    return f"{key}: no such key. {nearest(leaf, valid)}{listing}"


def _keys_of_chosen(group: str, arguments: Sequence[str]) -> list[str]:
    """Return the keys of the options of a group that a command chooses."""
    chosen = [value.split(",") for key, _, value in (a.partition("=") for a in arguments) if key == group]
    names = chosen[-1] if chosen else ["shapes" if group == "data" else "none"]
    keys: dict[str, None] = {}
    for name in names:
        keys |= dict.fromkeys(option_file(group, name))
    return [key for key in keys if not key.startswith("_")]


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "invalid configuration"
