"""The launcher that `hydra/launcher` names, and one line where it names none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ablate.errors import AblateError, ConfigError


def make_launcher(make: Callable[[], Any], target: object) -> Any:
    """Return the launcher that Hydra makes.

    Args:
        make: Lets Hydra make it.
        target: The class that it is to be of, as configured.

    Raises:
        ConfigError: That is no launcher.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return make()
    except (AblateError, OmegaConfBaseException):
        raise
    except (HydraException, RuntimeError, ImportError, TypeError, AssertionError) as error:
        if isinstance(error.__cause__, AblateError | OmegaConfBaseException):
            raise error.__cause__ from error
        what = f"{target} is none that Hydra can make" if target else "its file names no _target_"
        raise ConfigError(f"hydra/launcher: {what}; valid: local, ray, slurm, slurm_local") from error
