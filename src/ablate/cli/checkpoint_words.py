"""The words that all commands share which run a sweep's checkpoints: where, and whether their files are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ablate.errors import ConfigError
from ablate.settings.validation import check_device

NAMES = ("device", "trust_weights")


@dataclass(frozen=True)
class CheckpointWords:
    """How checkpoints are run.

    Attributes:
        device: Where, as `device=` names it.
        trust: Whether they may name what is no part of a network.
        others: The words that say something else.
    """

    device: str = "auto"
    trust: bool = False
    others: tuple[str, ...] = ()


def checkpoint_words(words: Sequence[str]) -> CheckpointWords:
    """Read device=<device> and trust_weights=true among words.

    Raises:
        ConfigError: There is no such device, or trust_weights is neither true nor false.
    """
    read = CheckpointWords()
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or key not in NAMES:
            read = replace(read, others=(*read.others, word))
        elif key == "device":
            check_device(text)
            read = replace(read, device=text)
        elif text in ("true", "false"):
            read = replace(read, trust=text == "true")
        else:
            raise ConfigError(f"{word}: {key} is true or false")
    return read
