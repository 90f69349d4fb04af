"""The words of `python -m ablate latency`, and the settings that a sweep's own command measured with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.cli.checkpoint_words import NAMES, checkpoint_words
from ablate.errors import ConfigError, nearest
from ablate.storage.layout import SweepFolder
from ablate.storage.plain_values import Plain

if TYPE_CHECKING:
    from ablate.settings.schema import LatencySettings


@dataclass(frozen=True)
class LatencyWords:
    """The words of `ablate latency`: the device, and the settings of the measurement that they set."""

    device: str
    values: Plain
    trust: bool = False


def latency_words(words: Sequence[str]) -> LatencyWords:
    """Read words such as latency.batch=1,8, with types checked; a value may stand for a list of one."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from ablate.cli.messages import needed_kind
    from ablate.settings.schema import LatencySettings, schema_node
    from ablate.settings.validation import check_latency

    read, names = checkpoint_words(words), []
    schema = schema_node().latency
    valid = [f"latency.{name}" for name in schema]
    for word in read.others:
        key, sign, text = word.partition("=")
        if key not in valid or not sign:
            every = ", ".join(("root", *NAMES, *valid))
            raise ConfigError(f"{key}: no such key. {nearest(key, valid)}valid: {every}")
        name = key.removeprefix("latency.")
        try:
            value = yaml.safe_load(text)
            if isinstance(getattr(LatencySettings(), name), list) and not isinstance(value, list):
                value = [yaml.safe_load(item) for item in text.split(",")]
            schema[name] = value
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(f"{word}: {needed_kind(str(error)) or str(error).splitlines()[0]}") from error
        names.append(name)
    latency = OmegaConf.to_object(schema)
    assert isinstance(latency, LatencySettings)
    check_latency(latency)
    return LatencyWords(read.device, {name: getattr(latency, name) for name in names}, read.trust)


def recorded_latency(directory: Path) -> LatencySettings:
    """Return the settings that a sweep's command measured with; what is recorded of another type has its default."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from ablate.records.loading import load_manifest
    from ablate.settings.schema import LatencySettings, schema_node

    settings = schema_node().latency
    for name, value in load_manifest(SweepFolder(directory)).latency.items():
        with suppress(OmegaConfBaseException):
            if "${" not in repr(value):  # OmegaConf would put a variable of the environment there
                settings[name] = value
    latency = OmegaConf.to_object(settings)
    assert isinstance(latency, LatencySettings)
    return latency
