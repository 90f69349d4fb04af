"""Where ablate meets Hydra: the command line in its grammar, its task, and what it has composed.

A `Command` is the task that Hydra calls, and all that is known of one command line. Hydra hands it to the sweeper,
which asks it for the trials and lets it plan or run them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache, partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli.messages import explain, fail
from ablate.cli.module_glob import expand_glob
from ablate.cli.override_words import check_words
from ablate.cli.unreadable import is_read
from ablate.errors import AblateError, ConfigError
from ablate.redaction import without_secrets
from ablate.settings.architecture import stock_file
from ablate.settings.fold import is_table
from ablate.settings.graft import quote, split
from ablate.settings.imported_network import read_imported
from ablate.settings.losses import PARTS
from ablate.settings.schema import conf_dir, schema_node
from ablate.settings.validation import check_each, check_same
from ablate.storage.files import FileState, file_state
from ablate.storage.plain_values import Plain

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ablate.execution.launch import Launch
    from ablate.execution.make_request import Request
    from ablate.study.fold_data import DataFinder
    from ablate.study.trial import Trial

LOCAL = "hydra_plugins.ablate_plugins.launcher.LocalLauncher"
LOSS_KEYS = tuple(f"loss.{part}" for part in PARTS)
PATH_KEYS = ("data.path", "model.architecture", "model.weights", "root", "split")


def run(arguments: Sequence[str], *, plan: bool = False, as_json: bool = False, measure: bool = False) -> int:
    """Run Hydra on the command line's overrides.

    Args:
        arguments: Overrides and Hydra's own flags.
        plan: Show what would run; nothing starts.
        as_json: Show the plan as JSON.
        measure: Measure for a plan the latencies that controls are to match.

    Returns:
        The exit code: 0 done, 1 some trials failed, 2 bad input, 130 interrupted.
    """
    if "--version" in arguments:
        from ablate import __version__

        print(f"ablate {__version__}")  # noqa: T201
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors are raised, and printed here in one line
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return Command(arguments, plan=plan, as_json=as_json, measure=measure).run()
    except KeyboardInterrupt as interrupt:
        message = "interrupted; finished trials are kept; the same command resumes from the last checkpoints"
        print("\n" + "\n".join([message, *getattr(interrupt, "__notes__", [])]), file=sys.stderr)  # noqa: T201
        return 130
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        return fail(explain(error, arguments))
    except ValueError as error:
        if isinstance(error, AblateError) or "can be specified" in str(error):  # the latter: of two flags of Hydra's
            return fail(str(error))
        raise
    except SystemExit as end:
        if end.code == 1 and any(word.startswith(("--cfg", "-c")) for word in arguments):
            return 2  # Hydra has printed that there is no such part to show
        return end.code if isinstance(end.code, int) else 0


@dataclass(frozen=True)
class _Single:
    """What Hydra has composed for a command without -m, which runs once Hydra is done."""

    config: DictConfig
    launcher: DictConfig


class Command:
    """One command line, and the task that Hydra calls for it.

    Args:
        words: The command line as the user wrote it.
        plan: Show what would run; nothing starts, and nothing is downloaded.
        as_json: Show the plan as JSON.
        measure: Measure for a plan the latencies that controls are to match.
    """

    def __init__(
        self, words: Sequence[str], *, plan: bool = False, as_json: bool = False, measure: bool = False
    ) -> None:
        self.words = list(words)
        self.measures = measure or not plan
        self._only_measures = measure
        self.plan = plan
        self.as_json = as_json
        self._single: _Single | None = None

    def run(self) -> int:
        """Let Hydra compose and sweep; return the exit code."""
        import hydra
        from hydra.core.config_store import ConfigStore
        from omegaconf import OmegaConf

        from ablate.execution.make_request import Request
        from ablate.launching.fields import check_fields
        from ablate.study.fold_data import DataFinder

        ConfigStore.instance().store(name="ablate", node=schema_node())
        with _program_arguments(for_hydra(self.words)), _shown_without_secrets(self.words):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(self)()
            if self._single is None:
                return 0
            single = self._single
            fields: Any = OmegaConf.to_container(single.launcher, resolve=True)
            launch = _local_launch(fields)
            check_fields(fields)
            if single.config.controls:
                raise ConfigError("controls: they join a sweep, where the baseline is too: add -m (or --multirun)")
            if single.config.until is not None:
                raise ConfigError("until=decided: it compares the variants of a sweep: add -m (or --multirun)")
            if single.config.folds:
                raise ConfigError(
                    f"folds={single.config.folds}: each fold is a trial of a sweep: add -m (or --multirun)"
                )
            trials = self.make_trials(lambda cell: single.config, DataFinder(download=not self.plan), [()])
            return self.finish(Request(trials), launch)

    def __call__(self, config: DictConfig) -> Any:
        """Hydra's task: run one trial of a sweep, for any launcher; without -m only keep its configuration."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        if HydraConfig.get().mode == RunMode.MULTIRUN:
            from ablate.execution.run_trial import run_trial
            from ablate.settings.trial_settings import TrialSettings

            return run_trial(TrialSettings.from_plain(plain(config)))
        self._single = _Single(config, HydraConfig.get().launcher)
        return None

    def make_trials(
        self, load: Callable[[Sequence[str]], DictConfig], finder: DataFinder, cells: Sequence[Sequence[str]]
    ) -> list[Trial]:
        """Compose a grid's cells, check them and find their data; nothing is written but the built-in data's cache.

        Raises:
            ConfigError: One cannot be composed or is not valid.
            DataError: A data set is missing or damaged, or there is no place for the cache.
        """
        from hydra.errors import HydraException

        from ablate.cli.hydra_compose import Composer
        from ablate.data.cache import make_cache
        from ablate.settings.trial_settings import TrialSettings
        from ablate.study.trial import Trial

        composer = Composer(load, partial(complete, download=not self.plan), cells)
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
        return [Trial.of(each, finder.find(each)) for each in settings]

    def weights_file(self, weights: str) -> str:
        """Return a checkpoint's absolute path; fetch a published one unless this is only a plan."""
        return _weights_file(weights, download=not self.plan)

    def finish(self, request: Request, launch: Launch) -> int:
        """Plan or run the trials of the command; return the exit code."""
        if self._only_measures and "latency" not in request.trials[0].settings.command.controls:
            raise ConfigError("--measure: nothing is to be measured without controls of latency: 'controls=[latency]'")
        if self.plan:
            from ablate.execution.plan_table import show_plan

            return show_plan(request, launch, as_json=self.as_json)
        from ablate.execution.run_sweep import run_sweep

        return run_sweep(request, launch, self.words)


def _local_launch(fields: Plain) -> Launch:
    """Return how a single trial is run: by the launcher of these fields, or on this machine where it is not ours."""
    from hydra.utils import instantiate

    from ablate.cli.launchers import make_launcher
    from ablate.execution.launch import Launch

    launcher = make_launcher(lambda: instantiate(fields), fields.get("_target_"))
    local: Launch = launcher if isinstance(launcher, Launch) else instantiate({"_target_": LOCAL})
    return local


def plain(config: DictConfig, *, download: bool = True) -> Plain:
    """Return a composed configuration as plain values, without Hydra's own part."""
    from ablate.cli.hydra_compose import contents

    content = contents(config)
    complete(content, download=download)
    return content


def complete(content: Plain, *, download: bool = True) -> None:
    """Make the paths of a configuration absolute, and find the checkpoint that it names; in place."""
    _absolute(content)
    _import_network(content)
    model: Plain = content["model"]
    if (weights := model["weights"]) is not None:
        model["weights"] = _weights_file(str(weights), download=download)
        if not content.get("trust_weights"):
            _check_weights(Path(model["weights"]), str(weights))


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command in Hydra's grammar.

    `device=0,1` are two GPUs of one trial, not a sweep. Grafts in a list and paths with special characters need quotes.
    `-m` may stand anywhere. In a sweep over modules, an option of a module belongs to each trial: Hydra first composes
    a configuration without the swept values, in which the module is none and has no options.

    Raises:
        ConfigError: A word is not valid.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [quote_path(quote_loss(quote_list(argument))) for argument in arguments]
    words = [re.sub(r"^device=(\d+(?:,\d+)+)$", r"device='\1'", argument) for argument in words]
    words = check_words(expand_glob(words))
    flags = [argument for argument in words if argument in ("-m", "--multirun")]
    if not flags:
        return words
    words = [flags[0], *(argument for argument in words if argument not in flags)]
    parser = OverridesParser.create()
    for index, argument in enumerate(words):
        if re.match(r"module\.\w+=", argument) and not parser.parse_override(argument).is_sweep_override():
            key, _, value = argument.partition("=")
            words[index] = f"{key}=null,null" if value == "null" else f"{key}=choice({value})"  # choice takes no null
    return words


def quote_list(argument: str) -> str:
    """Quote the elements of `grafts=[...]` and `components=[...]`, which Hydra's grammar would not take as they are.

    Any other argument, and what is quoted already, is returned as it is.
    """
    key, _, value = argument.partition("=")
    lists = split(value)
    if key not in ("grafts", "components") or re.search(r"[\"'\\]", value):
        return argument
    if not lists or not all(words.startswith("[") and words.endswith("]") for words in lists):
        return argument
    return f"{key}={','.join(quote(split(words[1:-1])) for words in lists)}"


def quote_loss(argument: str) -> str:
    """Quote losses with options, such as `loss.box=wiou[delta=3],ciou`, which Hydra's grammar would not take."""
    key, _, value = argument.partition("=")
    if key not in LOSS_KEYS or "[" not in value or re.search(r"[\"'\\(]", value):
        return argument
    return f"{key}={','.join(quote([word])[1:-1] if '[' in word else word for word in split(value))}"


def quote_path(argument: str) -> str:
    """Quote a path that Hydra's grammar would not take as it is, or would take for something else.

    `data.path=my data (v2).yaml` needs quotes. So does `a,b.yaml` where there is such a file, which is then no sweep
    over two; and `${x}` in the name of a file that is there is no interpolation. What Hydra reads as it stands, and any
    other argument, is returned as it is.
    """
    key, _, value = argument.partition("=")
    if key not in PATH_KEYS or re.fullmatch(r"[\w./~-]*", value, re.ASCII):
        return argument
    mark = value[0] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else ""
    path = value[1:-1].replace(f"\\{mark}", mark) if mark else value
    if _exists(path):
        return f"{key}={_quoted_path(path)}"
    if mark or is_read(argument):
        return argument
    paths = path.split(",")
    return f"{key}={','.join(map(_quoted_path, paths if all(map(_exists, paths)) else [path]))}"


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111 - False, no error, for what cannot be a path


def _quoted_path(path: str) -> str:
    """A path as a quoted word of Hydra's grammar; where it exists as it is written, nothing in it is interpolated."""
    if _exists(path):
        path = path.replace("${", "\\${")
    path = re.sub(r"(\\+)(?='|$)", r"\1\1", path).replace("'", "\\'")
    return f"'{path}'"


@contextmanager
def _program_arguments(words: Sequence[str]) -> Iterator[None]:
    """Let these be the program's arguments, which Hydra reads, while the block runs."""
    program = sys.argv
    try:
        sys.argv = [program[0], *words]
        yield
    finally:
        sys.argv = program


@contextmanager
def _shown_without_secrets(words: Sequence[str]) -> Iterator[None]:
    """Print what Hydra shows of a configuration without secrets: the password in the address of a store."""
    if not any(word.startswith(("--cfg", "-c", "--info", "-i")) for word in words):
        yield
        return
    shown = StringIO()
    try:
        with redirect_stdout(shown):
            yield
    finally:
        print(without_secrets(shown.getvalue()), end="")  # noqa: T201


def _check_weights(path: Path, weights: str) -> None:
    """Refuse a checkpoint that is none, or that names code, before torch is imported."""
    if (state := file_state(path)) is not None and (problem := _weights_problem(path, state)):
        raise ConfigError(f"model.weights={weights}: {problem}")


@lru_cache(maxsize=16)
def _weights_problem(path: Path, state: FileState) -> str:
    """Return what is wrong with a file in this state; empty where nothing is."""
    from ablate.checkpoints.file_check import CheckpointError, UnsafeCheckpoint, check_file

    try:
        check_file(path)
    except UnsafeCheckpoint as error:
        return f"{error}: trust_weights=true"
    except (CheckpointError, OSError) as error:
        return str(error)
    return ""


def _weights_file(weights: str, *, download: bool) -> str:
    from ablate.data.data_errors import NotDownloaded
    from ablate.data.weights import find_weights

    try:
        return find_weights(weights, download=download)
    except NotDownloaded:
        return weights


def _import_network(content: Plain) -> None:
    """Put a network that was imported among the grafts of its stock ancestor, whose baseline it is compared with."""
    imported = read_imported(str(content["model"]["architecture"]))
    if imported is not None:
        name, network = imported
        content["model"] |= {"name": Path(network.ancestor).stem, "architecture": network.ancestor}
        content["grafts"] = [network.to_graft(name), *(content.get("grafts") or [])]


def _absolute(content: Plain) -> None:
    """Make relative paths absolute, so that a worker in another folder finds them.

    The bare name of a network of Ultralytics is no file of the working folder.
    """
    for section, key in (("data", "path"), ("model", "weights"), ("model", "architecture")):
        value = content[section].get(key)
        is_stock = key == "architecture" and stock_file(str(value)) is not None
        if value and not is_stock and Path(str(value)).expanduser().is_file():
            content[section][key] = str(Path(value).expanduser().absolute())
    if is_table(str(content["split"])):
        content["split"] = str(Path(content["split"]).expanduser().absolute())
