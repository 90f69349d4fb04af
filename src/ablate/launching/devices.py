"""The devices of a machine and the slots in which trials share them, each with the environment of its process.

No torch here: a process that queries CUDA for its devices has initialised it, and could not be given fewer later.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ablate.errors import AblateError
from ablate.launching.sharing import Layout
from ablate.settings.environment import CPU_THREADS, SHARING, passive_waiting

DEVICE = "ABLATE_DEVICE"  # in a worker: the device to train on, as Ultralytics counts those it can see
SLOT = "ABLATE_SLOT"  # in a worker: the name of its slot, for people
LOADERS = "ABLATE_LOADER_WORKERS"  # in a worker: how many data-loading processes it may start


class NoSuchDevice(AblateError, ValueError):
    """A requested device does not exist on this machine, or cannot be shared as requested."""


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time.

    Attributes:
        name: Its device for people, such as ``cpu``, ``gpu 1`` or ``gpu 0+1``; numbered where several share one. A slot
            is known by it.
        environment: What its worker process finds in its environment.
    """

    name: str
    environment: Mapping[str, str] = field(compare=False, default_factory=dict)

    def __str__(self) -> str:
        return self.name


def query_gpus(field: str) -> list[str]:
    """Return a field of `nvidia-smi --query-gpu` for each installed GPU; empty where there is none.

    It does not initialise CUDA in this process.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in output.splitlines() if line.strip()]


def no_such_gpu(setting: str, count: int) -> str:
    """Return the message for a setting, such as ``device=3``, that names a GPU which this machine does not have."""
    return f"{setting}: this machine has {count or 'no'} CUDA device{'s' * (count != 1)}"


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; empty where there is none."""
    installed = query_gpus("index")
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return installed
    named = [name.strip() for name in chosen.split(",") if name.strip()]
    return [name for name in named if not name.lstrip("-").isdigit() or name in installed]


def make_slots(
    *,
    device: str = "auto",
    gpus: str | Sequence[int] = "auto",
    trials_per_gpu: int = 1,
    gpus_per_trial: int = 1,
    cpu_workers: str | int = "auto",
    cores: int,
    layout: Layout | None = None,
    visible: Sequence[str] | None = None,
) -> list[Slot]:
    """Return the slots of this machine.

    Args:
        device: The trials' setting: ``auto``, ``cpu``, or GPU numbers (``1``; ``0,1`` for one trial on both).
        gpus: Which GPUs to use, by number among those that are visible, or ``auto`` for all.
        trials_per_gpu: How many trials share a GPU.
        gpus_per_trial: How many GPUs one trial has (distributed training).
        cpu_workers: Trials at a time where there is no GPU; ``auto``: those of `layout`, else one.
        cores: CPU cores to share out.
        layout: How the cores are shared where there is no GPU and `cpu_workers` is ``auto``.
        visible: The GPUs that there are (see `visible_gpus`, which is called if this is None).

    Raises:
        NoSuchDevice: A GPU that is not there, or numbers that contradict each other.
    """
    if trials_per_gpu > 1 and gpus_per_trial > 1:
        raise NoSuchDevice("trials_per_gpu and gpus_per_trial cannot both be more than 1")
    available = [] if device == "cpu" else list(visible_gpus() if visible is None else visible)
    wanted = [int(n) for n in device.removeprefix("cuda:").split(",")] if device not in ("auto", "cpu") else []
    if wanted:
        gpus, gpus_per_trial = wanted, len(wanted)
    numbers = list(range(len(available))) if gpus == "auto" else [int(number) for number in gpus]
    if any(number >= len(available) for number in numbers):
        raise NoSuchDevice(
            no_such_gpu(f"device={device}" if wanted else f"hydra.launcher.gpus={numbers}", len(available))
        )
    if not numbers:
        return _cpu_slots(cpu_workers, cores, layout)
    if len(numbers) < gpus_per_trial:
        raise NoSuchDevice(f"gpus_per_trial={gpus_per_trial}, but there are {len(numbers)} GPUs to use: {numbers}")
    groups = [numbers[i : i + gpus_per_trial] for i in range(0, len(numbers) - gpus_per_trial + 1, gpus_per_trial)]
    share = max(cores // (len(groups) * trials_per_gpu), 1)
    slots = []
    for group in groups:
        name = "gpu " + "+".join(map(str, group))
        environment = {
            "CUDA_VISIBLE_DEVICES": ",".join(available[number] for number in group),
            DEVICE: ",".join(map(str, range(len(group)))),
            LOADERS: str(max(share // len(group) - 1, 1)),
            **_threads(share),
        }
        parts = [f" ({part + 1}/{trials_per_gpu})" for part in range(trials_per_gpu)] if trials_per_gpu > 1 else [""]
        slots += [Slot(name + part, environment) for part in parts]
    return slots


def _cpu_slots(cpu_workers: str | int, cores: int, layout: Layout | None) -> list[Slot]:
    environment = {DEVICE: "cpu"}
    if cpu_workers != "auto":
        layout = Layout(int(cpu_workers), max(cores // int(cpu_workers), 1))
    elif layout is not None:
        environment[SHARING] = str(layout.trials)
    else:
        layout = Layout(1, cores)
    environment |= _threads(layout.threads)
    names = [f"cpu {number + 1}" for number in range(layout.trials)] if layout.trials > 1 else ["cpu"]
    return [Slot(name, environment) for name in names]


def thread_variables(count: int) -> dict[str, str]:
    """Return the environment variables of a worker process with this number of threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", CPU_THREADS), str(max(count, 1)))


def _threads(count: int) -> dict[str, str]:
    return thread_variables(count) | passive_waiting(os.environ)
