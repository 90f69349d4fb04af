"""`ablate.load`: the network of a checkpoint for programs of one's own."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from ablate.checkpoints.file_check import CheckpointError, UnsafeCheckpoint
from ablate.checkpoints.stored_network import ANY, read_checkpoint, read_own
from ablate.errors import ConfigError
from ablate.grafting.insertion import GraftError
from ablate.grafting.stored_modules import UntrustedModule
from ablate.grafting.surgery import grafts_in
from ablate.settings.graft import targets_of
from ablate.training.network import restore


def load(path: str | os.PathLike[str], *, trust: bool = False) -> nn.Module:
    """Return the network of a checkpoint of ablate's or of Ultralytics', for programs of one's own.

    The checkpoint is read as tensors and plain values; what it names is not run. The network is on the CPU, in full
    precision and in evaluation mode. `network.names` has the names of the classes by number, `network.yaml` what it was
    built from, `network.args` the arguments that it was trained with, `network.stride` its strides.

    Args:
        path: Such as ``best.pt``.
        trust: Load it as Ultralytics does, which imports and runs whatever it names.

    Returns:
        A module that takes images (B, 3, H, W), RGB from 0 to 1, H and W multiples of 32. The first thing that it
        returns are the detections: (B, 300, 6) with x1, y1, x2, y2 in pixels, confidence and class for a network that
        ends without NMS, as YOLO26 does; else (B, 4 + classes, N) with x, y, w, h and a confidence for each class.

    Raises:
        ConfigError: There is no such file, it holds no network, it names what is no part of one, or its network needs
            a class whose module has not been imported, or what is no class of modules.
    """
    file = Path(path).expanduser()
    try:
        if trust:
            return _loaded(file)
        targets = targets_of(grafts_in(read_checkpoint(file, parts=ANY).network.yaml))
        network: nn.Module = restore(read_own(file, targets).network)
        return network.requires_grad_(True)
    except UntrustedModule as error:
        raise ConfigError(f"{path}: {error}; {error.instead}") from error
    except UnsafeCheckpoint as error:
        raise ConfigError(f"{path}: {error}: trust=True") from error
    except (CheckpointError, ConfigError, GraftError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _loaded(file: Path) -> nn.Module:
    """Load a network as Ultralytics does, with all that its file names."""
    with file.open("rb"):  # Ultralytics would look for a file of this name elsewhere
        pass
    entries = read_checkpoint(file, trust=True).entries
    network = entries.get("ema") or entries.get("model")
    if not isinstance(network, nn.Module):
        raise CheckpointError("it holds no network under 'ema' or 'model'")
    return network.float().eval().requires_grad_(True)
