"""`hydra/launcher=ray`: trials on a Ray cluster, or on this machine through Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.config_store import ConfigStore

from .launcher import JobLauncher

if TYPE_CHECKING:
    from ablate.launching.jobs import Observer
    from ablate.launching.ray import RayBackend


@dataclass
class RayLauncherConfig:
    """Fields of `hydra.launcher` for the Ray launcher."""

    _target_: str = "hydra_plugins.ablate_plugins.ray_launcher.RayLauncher"
    address: str | None = None  # null: this machine alone; auto: the cluster this machine belongs to; or host:port
    num_cpus: Any = "auto"  # cores for each trial; auto: a node's cores shared out among its GPUs, or 4 without a GPU
    num_gpus: Any = "auto"  # GPUs for each trial: 0.5 lets two share one, 2 is distributed training; auto: one, if any
    timeout: float | None = None  # seconds that one try of a trial may take
    max_retries: int = 1  # tries after a kill, a lost node or a transient error, each from the last checkpoint
    stagger: float = 1.0  # seconds between the starts of two workers


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayLauncherConfig, provider="ablate")


class _Resources(NamedTuple):
    """Cores and GPUs of each trial; "auto" as in `RayLauncherConfig`."""

    num_cpus: int | str
    num_gpus: float | str


class RayLauncher(JobLauncher):
    """Trials on the nodes of a Ray cluster: a worker process for each share of a node (see `RayLauncherConfig`)."""

    def __init__(
        self, address: str | None = None, num_cpus: Any = "auto", num_gpus: Any = "auto", **limits: Any
    ) -> None:
        super().__init__(**limits)
        self._address, self._resources = address, _Resources(num_cpus, num_gpus)
        self._counted: dict[str, int] = {}
        self._running: RayBackend | None = None

    def backend(self, device: str, shared: Path | None = None) -> "RayBackend":
        """Return actors on the nodes; all of these must see the `shared` folder."""
        from ablate.launching.ray import RayBackend
        from ablate.settings.environment import cpu_threads

        resources = self._resources_for(device)
        return RayBackend(self._address, **resources._asdict(), cores=cpu_threads(), shared=shared)

    def check(self, device: str) -> None:
        """Raise an error of ours where trials cannot run that ask for this device: reach the cluster, look at it."""
        self._counted[device] = self._count(device)

    def slots(self, device: str) -> int:
        """Return how many trials that ask for this device run at a time; while trials run, on the nodes of now."""
        if self._running is not None:
            return max(len(self._running.slots()), 1)
        if device not in self._counted:
            self.check(device)
        return self._counted[device]

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: "Observer") -> None:
        """Run jobs until each has ended; report their events to the observer."""
        from ablate.launching.jobs import run_jobs

        shared = Path(payloads[0].settings.command.root).absolute()
        self._running = self.backend(device, shared)
        try:
            run_jobs(self._running, function, payloads, observer, self.limits)
        finally:
            self._running = None

    def _count(self, device: str) -> int:
        from ablate.launching.nodes import large_enough, this_machine
        from ablate.settings.environment import cpu_threads

        resources = self._resources_for(device)
        if self._address is None:  # a cluster of our own is not started for a look at it
            return len(large_enough([this_machine(cpu_threads())], *resources))
        with self.backend(device) as there:
            return len(there.slots())

    def _resources_for(self, device: str) -> _Resources:
        """Return the resources of each trial.

        Raises:
            ConfigError: A value is not valid, or Ray is not installed.
        """
        from importlib.util import find_spec

        from ablate.errors import ConfigError

        if find_spec("ray") is None:
            raise ConfigError("hydra/launcher=ray: Ray is not installed; pip install 'ablate-yolo[ray]'")
        if device not in ("auto", "cpu"):
            raise ConfigError(f"device={device}: Ray chooses the GPUs; say how many with hydra.launcher.num_gpus")
        cpus, gpus = self._resources
        if cpus != "auto" and not (isinstance(cpus, int) and cpus >= 1):
            raise ConfigError(f"hydra.launcher.num_cpus={cpus}: must be auto or a whole number from 1")
        if gpus != "auto" and not (isinstance(gpus, int | float) and gpus >= 0 and (gpus <= 1 or gpus == int(gpus))):
            raise ConfigError(
                f"hydra.launcher.num_gpus={gpus}: must be auto, a part of one GPU (0.5), or a whole number"
            )
        return _Resources(cpus, 0 if device == "cpu" else gpus)
