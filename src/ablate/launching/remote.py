"""Run a job in a process that is not a child of the driver.

What a child process inherits (working folder, module search path, environment, share of the machine) is passed
explicitly here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import AblateError
from ablate.launching.devices import DEVICE, LOADERS, thread_variables
from ablate.launching.jobs import Outcome, attempt
from ablate.settings.environment import INTEL_WAIT, WAIT_POLICY, passive_waiting

OURS = "ABLATE_"  # settings of ours that the user has made in the environment


class NoCluster(AblateError, ValueError):
    """The cluster cannot be reached or lacks what is requested; the message is one line."""


@dataclass(frozen=True)
class WorkerContext:
    """What a job's process needs from its driver.

    Attributes:
        folder: The driver's working folder.
        path: The driver's module search path.
        environment: Environment variables of the job.
    """

    folder: str
    path: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def of_driver(cls, *, cpus: int, gpus: int) -> WorkerContext:
        """Return the context of this process, for jobs with so many cores and GPUs each."""
        waiting = (WAIT_POLICY, INTEL_WAIT, "GOMP_SPINCOUNT")  # how threads wait, where the user has set it
        settings = {name: value for name, value in os.environ.items() if name.startswith(OURS) or name in waiting}
        return cls(str(Path.cwd()), tuple(sys.path), {**settings, **share(cpus=cpus, gpus=gpus)})


def share(*, cpus: int, gpus: int) -> dict[str, str]:
    """Return the environment of a job: its share of a machine on which it sees only the GPUs assigned to it."""
    threads = thread_variables(cpus)
    if not gpus:
        return {DEVICE: "cpu", **threads}
    return {DEVICE: ",".join(map(str, range(gpus))), LOADERS: str(max(cpus // gpus - 1, 1)), **threads}


def run_in_context(context: WorkerContext, function: str, payload: Any) -> Outcome:
    """Set working directory, environment and `sys.path`, then run the job."""
    os.environ.update(context.environment)
    os.environ.update(passive_waiting(os.environ))
    if Path(context.folder).is_dir():
        os.chdir(context.folder)
    sys.path.extend(entry for entry in context.path if entry not in sys.path)
    return attempt(function, payload)
