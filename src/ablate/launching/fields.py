"""The fields of `hydra.launcher` that our launchers share: are their values possible?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.errors import ConfigError
from ablate.settings.argument_checks import satisfies, shown

AUTO = "auto"


@dataclass(frozen=True)
class Number:
    """A field that holds a number.

    Attributes:
        constraint: Its range, such as ``">= 1"``.
        whole: Whether it is a whole number.
        auto: Whether it may be ``auto``.
    """

    constraint: str
    whole: bool = True
    auto: bool = False


NUMBERS = {
    "trials_per_gpu": Number(">= 1"),
    "gpus_per_trial": Number(">= 1"),
    "cpu_workers": Number(">= 1 and <= 4096", auto=True),
    "memory_gb": Number("> 0", whole=False),
    "timeout": Number("> 0", whole=False),
    "max_retries": Number(">= 0"),
    "stagger": Number(">= 0", whole=False),
    "num_cpus": Number("> 0", whole=False, auto=True),
    "num_gpus": Number(">= 0", whole=False, auto=True),
}


def check_fields(launcher: Mapping[str, Any]) -> None:
    """Check the fields of a launcher; those that are not ours, such as Slurm's, are left to it.

    Raises:
        ConfigError: A value is impossible.
    """
    for name, number in NUMBERS.items():
        value = launcher.get(name)
        if value is not None and not (number.auto and value == AUTO):
            _check_number(f"hydra.launcher.{name}={shown(value)}", value, number)
    gpus = launcher.get("gpus", AUTO)
    if gpus != AUTO and not _are_numbers(gpus):
        raise ConfigError(
            f"hydra.launcher.gpus={shown(gpus)}: auto, or a list of different GPU numbers is needed, such as [0,1]"
        )


def _check_number(where: str, value: Any, number: Number) -> None:
    kinds = int if number.whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds):
        also = "auto, or " if number.auto else ""
        raise ConfigError(f"{where}: {also}a {'whole ' * number.whole}number is needed")
    if not satisfies(value, number.constraint):
        raise ConfigError(f"{where} is out of range: it must be {number.constraint}")


def _are_numbers(gpus: Any) -> bool:
    if not isinstance(gpus, list) or len(set(map(str, gpus))) < len(gpus):
        return False
    return bool(gpus) and all(isinstance(gpu, int) and not isinstance(gpu, bool) and gpu >= 0 for gpu in gpus)
