"""`hydra/launcher=local`: trials one after the other on this machine, each in a process that may die."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from ablate.sweeping.sweep import Observer


@dataclass
class LocalLauncherConfig:
    """Fields of `hydra.launcher` for the local launcher."""

    _target_: str = "hydra_plugins.ablate_plugins.launcher.LocalLauncher"
    timeout: float | None = None  # seconds that one trial may take


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConfig, provider="ablate")


class LocalLauncher(Launcher):  # type: ignore[misc]
    """Compose each job's configuration and run it through `ablate.launching.local`."""

    observer: "Observer | None" = None  # set by ablate's sweeper

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composing needs."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; return one result each, also where a trial failed."""
        from ablate.app import plain
        from ablate.launching.local import run_jobs

        loader = self.hydra_context.config_loader
        configs = [loader.load_sweep_config(self.config, list(overrides)) for overrides in job_overrides]
        callbacks: dict[str, Any] = {}
        if self.observer is not None:
            callbacks = {
                "on_start": self.observer.start,
                "on_poll": self.observer.poll,
                "on_end": self.observer.end,
            }
        outcomes = run_jobs(
            "ablate.trial:run_trial", [plain(config) for config in configs], timeout=self.timeout, **callbacks
        )
        returns = []
        for config, overrides, outcome in zip(configs, job_overrides, outcomes, strict=True):
            status = JobStatus.FAILED if outcome.failure else JobStatus.COMPLETED
            value = RuntimeError(outcome.message) if outcome.failure else outcome.result
            hydra_config = OmegaConf.masked_copy(config, "hydra")
            returns.append(JobReturn(overrides, config, hydra_config, status=status, _return_value=value))
        return returns
