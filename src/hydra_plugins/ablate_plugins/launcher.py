"""`hydra/launcher=local` and `ray`: where the trials of a sweep run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from ablate.launching.devices import Slot
    from ablate.launching.jobs import Backend, Observer
    from ablate.launching.sharing import Layout


@dataclass
class LocalLauncherConfig:
    """Fields of `hydra.launcher` for the local launcher."""

    _target_: str = "hydra_plugins.ablate_plugins.launcher.LocalLauncher"
    gpus: Any = "auto"  # which GPUs, by number: [0,1]; auto: all that are visible
    trials_per_gpu: int = 1  # small models may share a GPU
    gpus_per_trial: int = 1  # distributed training within a trial
    cpu_workers: Any = "auto"  # trials at a time where there is no GPU; auto: measured
    memory_gb: float | None = None  # a trial that uses more is ended as out_of_memory
    timeout: float | None = None  # seconds that one try of a trial may take
    max_retries: int = 1  # tries after a kill or a transient error, each from the last checkpoint
    stagger: float = 1.0  # seconds between the starts of two workers


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConfig, provider="ablate")


class JobLauncher(Launcher):  # type: ignore[misc]
    """What our launchers share: limits, and a backend that they name; `ablate.execution` does the rest.

    Args:
        timeout: Seconds that one try of a trial may take, or None.
        max_retries: Tries after a kill or a transient error.
        stagger: Seconds between the first starts of two slots.
    """

    def __init__(self, timeout: float | None = None, max_retries: int = 1, stagger: float = 0.0) -> None:
        from ablate.launching.jobs import Limits

        self.limits = Limits(timeout=timeout, max_retries=max_retries, stagger=stagger)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composing needs; check the launcher's own fields.

        Raises:
            ConfigError: One has an impossible value.
        """
        from ablate.launching.fields import check_fields

        check_fields(OmegaConf.to_container(config.hydra.launcher, resolve=True))  # type: ignore[arg-type]
        self.hydra_context, self.config = hydra_context, config

    def backend(self, device: str) -> "Backend":
        """Return where trials run that ask for this device (``auto``, ``cpu``, ``0`` or ``0,1``)."""
        raise NotImplementedError

    def check(self, device: str) -> None:
        """Raise NoSuchDevice where trials cannot run that ask for this device."""
        self.backend(device)

    def slots(self, device: str) -> int:
        """Return how many trials that ask for this device run at a time."""
        return max(len(self.backend(device).slots()), 1)

    def local_slots(self, device: str) -> "Sequence[Slot]":
        """Return those of them that are on this machine, where one may look how long trials take."""
        return []

    def open_cores(self, device: str) -> int | None:
        """Return the cores to share among trials; None where the number of trials at a time is set."""
        return None

    def share(self, layout: "Layout") -> None:
        """Settle how trials share the cores."""
        raise NotImplementedError

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: "Observer") -> None:
        """Run jobs until each has ended; report their events to the observer."""
        from ablate.launching.jobs import run_jobs

        run_jobs(self.backend(device), function, payloads, observer, self.limits)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs through Hydra's interface, for other sweepers than ours; one result each, for failed trials too."""
        from ablate.cli.hydra_bridge import plain
        from ablate.execution.run_trial import RUN
        from ablate.execution.trial_job import TrialJob
        from ablate.launching.jobs import run_jobs
        from ablate.settings.trial_settings import TrialSettings

        loader = self.hydra_context.config_loader
        configs = [loader.load_sweep_config(self.config, list(overrides)) for overrides in job_overrides]
        settings = [TrialSettings.from_plain(plain(config)) for config in configs]
        jobs = [TrialJob(each) for each in settings]
        device = settings[0].device
        outcomes = run_jobs(self.backend(device), RUN, jobs, limits=self.limits)
        returns = []
        for config, overrides, outcome in zip(configs, job_overrides, outcomes, strict=True):
            status = JobStatus.FAILED if outcome.failure else JobStatus.COMPLETED
            value = RuntimeError(outcome.message) if outcome.failure else outcome.result
            hydra_config = OmegaConf.masked_copy(config, "hydra")
            returns.append(JobReturn(overrides, config, hydra_config, status=status, _return_value=value))
        return returns


class LocalLauncher(JobLauncher):
    """Trials on this machine: a worker process for each device slot (see `LocalLauncherConfig`)."""

    def __init__(
        self,
        gpus: Any = "auto",
        trials_per_gpu: int = 1,
        gpus_per_trial: int = 1,
        cpu_workers: Any = "auto",
        memory_gb: float | None = None,
        **limits: Any,
    ) -> None:
        super().__init__(**limits)
        self._share = {"gpus": gpus, "trials_per_gpu": trials_per_gpu, "gpus_per_trial": gpus_per_trial}
        self._cpu_workers = cpu_workers
        self._memory_gb = memory_gb
        self._layout: Layout | None = None

    def backend(self, device: str) -> "Backend":
        """Return worker processes on this machine's slots."""
        from ablate.launching.local import LocalBackend

        return LocalBackend(self.local_slots(device), self._memory_gb)

    def local_slots(self, device: str) -> "list[Slot]":
        """Return this machine's slots."""
        from ablate.launching.devices import make_slots
        from ablate.settings.environment import cpu_threads

        cpu = {"cpu_workers": self._cpu_workers, "cores": cpu_threads(), "layout": self._layout}
        return make_slots(device=device, **cpu, **self._share)

    def open_cores(self, device: str) -> int | None:
        """Return this machine's cores where trials run on them and the user has given no number of threads."""
        from ablate.launching.devices import DEVICE
        from ablate.settings.environment import user_threads, visible_cores

        if self._cpu_workers != "auto" or user_threads() is not None:
            return None
        on_cpu = all(slot.environment[DEVICE] == "cpu" for slot in self.local_slots(device))
        return visible_cores() if on_cpu else None

    def share(self, layout: "Layout") -> None:
        """Settle how trials share the cores."""
        self._layout = layout
