"""`hydra/sweeper=ablate`: from Hydra's overrides to a sweep of trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from .submitit_launcher import job_launcher


@dataclass
class AblateSweeperConfig:
    """Fields of `hydra.sweeper`; the grid itself is the command's overrides."""

    _target_: str = "hydra_plugins.ablate_plugins.sweeper.AblateSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="ablate", node=AblateSweeperConfig, provider="ablate")


class AblateSweeper(Sweeper):  # type: ignore[misc]
    """Expand the overrides to a grid with its baselines, and hand it to `ablate.execution`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composing needs, and make the launcher."""
        from ablate.cli.hydra_bridge import Command
        from ablate.cli.launchers import make_launcher

        assert isinstance(task_function, Command), "this sweeper expands the commands of ablate"
        self.command, self.hydra_context, self.config = task_function, hydra_context, config
        make = partial(
            Plugins.instance().instantiate_launcher,
            hydra_context=hydra_context,
            task_function=task_function,
            config=config,
        )
        self.launcher = job_launcher(make_launcher(make, OmegaConf.select(config, "hydra.launcher._target_")))

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep that the overrides describe; end the program with its exit code."""
        from ablate.cli.hydra_bridge import plain
        from ablate.console import Terminal
        from ablate.execution.latency_matches import LatencyMatcher
        from ablate.execution.make_request import make_request
        from ablate.study.fold_data import DataFinder

        loader = self.hydra_context.config_loader

        def load(cell: Sequence[str]) -> DictConfig:
            config: DictConfig = loader.load_sweep_config(self.config, list(cell))
            return config

        parsed = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        axes = {override.get_key_element(): _values(override) for override in parsed}
        finder = DataFinder(download=not self.command.plan)
        request = make_request(
            axes,
            plain(self.config, download=not self.command.plan),
            partial(self.command.make_trials, load, finder),
            self.command.weights_file,
            finder,
            LatencyMatcher(self.launcher, self.command.measures, Terminal(stderr=self.command.as_json)),
        )
        raise SystemExit(self.command.finish(request, self.launcher))


def _values(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            from ablate.errors import ConfigError

            raise ConfigError(f"{key}: a sweep over a continuous interval is no grid; list its values: {key}=a,b,c")
        return list(dict.fromkeys(f"{key}={value}" for value in override.sweep_string_iterator()))
    if override.is_delete():
        return [override.input_line or key]
    return [f"{key}={override.get_value_element_as_str()}"]
