"""`hydra/launcher=slurm`, and hydra-submitit-launcher's own `submitit_slurm` and `submitit_local`: trials as its jobs.

That launcher submits all jobs at once, returns results when the last has ended, and none if one job's process died.
Here only its fields and its job submission are used; jobs are run and recorded as with every launcher.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .launcher import JobLauncher

if TYPE_CHECKING:
    from ablate.launching.jobs import Observer
    from ablate.launching.submitit import SubmititBackend


def job_launcher(launcher: Any) -> JobLauncher:
    """Return a launcher of ours for one that Hydra has made.

    Raises:
        ConfigError: It is of another kind than ours and those of hydra-submitit-launcher.
    """
    if isinstance(launcher, JobLauncher):
        return launcher
    from ablate.cli.hydra_internals import submitit_cluster
    from ablate.errors import ConfigError

    cluster = submitit_cluster(launcher)
    if cluster is not None:
        return SubmititLauncher(cluster, launcher.params)
    kind = type(launcher)
    raise ConfigError(
        f"hydra/launcher: sweeps run on local, ray or slurm; {kind.__module__}.{kind.__name__} is neither"
    )


class SubmititLauncher(JobLauncher):
    """Trials as jobs that submitit submits.

    Tries after a kill are Slurm's own business: it queues a job again that lost its node or made room for another.

    Args:
        cluster: ``slurm`` or ``local``.
        parameters: The fields of hydra-submitit-launcher.
    """

    def __init__(self, cluster: str, parameters: dict[str, Any]) -> None:
        super().__init__(max_retries=0)
        self._cluster, self._parameters = cluster, parameters

    def backend(self, device: str, root: Path = Path("multirun")) -> "SubmititBackend":
        """Return a queue whose files are kept below `root`."""
        from ablate.errors import ConfigError
        from ablate.launching.submitit import SubmititBackend
        from ablate.settings.environment import cpu_threads

        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"device={device}: Slurm chooses the GPUs; say how many with hydra.launcher.gpus_per_node"
            )
        folder = str(root.absolute() / self._parameters["submitit_folder"])
        parameters = {**self._parameters, "submitit_folder": folder}
        return SubmititBackend(self._cluster, parameters, cores=cpu_threads(), device=device)

    def check(self, device: str) -> None:
        """Raise an error of ours where trials cannot run that ask for this device."""
        from shutil import which

        from ablate.launching.remote import NoCluster

        self.backend(device)
        if self._cluster == "slurm" and which("srun") is None:
            raise NoCluster("hydra/launcher=slurm: no srun here; say this on a login node, or try slurm_local")

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: "Observer") -> None:
        """Run jobs until each has ended; report their events to the observer."""
        from ablate.launching.jobs import run_jobs

        root = Path(payloads[0].settings.command.root)
        run_jobs(self.backend(device, root), function, payloads, observer, self.limits)
