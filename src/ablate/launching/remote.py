"""A job in a process that is no child of the driver's: what it must be told, and how it ends.

What a child process inherits (the working folder, where modules are found, which share of the machine is its own) is
carried along here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.launching.devices import DEVICE, LOADERS, thread_variables
from ablate.launching.jobs import Outcome, attempt
from ablate.settings.environment import INTEL_WAIT, WAIT_POLICY, passive_waiting

OURS = "ABLATE_"  # settings of ours that the user has made in the environment


class NoCluster(ValueError):
    """The cluster is not there, or has not what is asked for; the message is one line."""


@dataclass(frozen=True)
class Home:
    """What a job's process is told.

    Attributes:
        folder: The driver's working folder.
        path: Where the driver finds modules.
        environment: What the job finds in its environment.
    """

    folder: str
    path: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def here(cls, *, cpus: int, gpus: int) -> Home:
        """Return this process's home, for jobs with so many cores and GPUs each."""
        waiting = (WAIT_POLICY, INTEL_WAIT, "GOMP_SPINCOUNT")  # how threads wait, where the user has said so
        own = {name: value for name, value in os.environ.items() if name.startswith(OURS) or name in waiting}
        return cls(str(Path.cwd()), tuple(sys.path), {**own, **share(cpus=cpus, gpus=gpus)})


def share(*, cpus: int, gpus: int) -> dict[str, str]:
    """Return what a job is told of its share of a machine on which it sees only its own GPUs."""
    threads = thread_variables(cpus)
    if not gpus:
        return {DEVICE: "cpu", **threads}
    return {DEVICE: ",".join(map(str, range(gpus))), LOADERS: str(max(cpus // gpus - 1, 1)), **threads}


def run(home: Home, function: str, payload: Any) -> Outcome:
    """Make this process feel at home, then run a job in it."""
    os.environ.update(home.environment)
    os.environ.update(passive_waiting(os.environ))
    if Path(home.folder).is_dir():
        os.chdir(home.folder)
    sys.path.extend(entry for entry in home.path if entry not in sys.path)
    return attempt(function, payload)
