"""What the file of a module says about it beside its options: its family, what it can be in a network, and its paper.

    about: {family: attention, kind: insert, paper: "Ouyang et al., ICASSP 2023, arXiv:2305.13563"}

None of it reaches the module's class or a trial's signature: it selects (`module=glob(*) family=attention`), and it
is listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.errors import ConfigError, nearest

KINDS = ("insert", "block", "downsample", "upsample", "fuse", "head")
FAMILIES = (
    "attention",  # weights features by each other or by a summary of them; output of equal shape
    "mixer",  # mixes tokens over the image, or a block with attention inside
    "convolution",  # replaces a convolution
    "block",  # replaces a block of layers
    "downsampler",
    "upsampler",
    "fusion",
    "head",
    "control",  # no proposal of its own: what others are judged by
)


@dataclass(frozen=True)
class About:
    """What a module's file says about it.

    Attributes:
        family: One of `FAMILIES`; empty where the file names none.
        kinds: What the module can be, each one of `KINDS`.
        paper: Where it is described; empty where the file does not say.
    """

    family: str = ""
    kinds: tuple[str, ...] = ("insert",)
    paper: str = ""

    @classmethod
    def from_plain(cls, content: object, where: str) -> About:
        """Return what the key `about` of a file holds, None where it is not there; `where` leads the message.

        Raises:
            ConfigError: It is no mapping, or a key or a value in it is not valid.
        """
        if content is None:
            return cls()
        valid = ("family", "kind", "paper")
        if not isinstance(content, Mapping):
            raise ConfigError(f"{where}: {content}: a mapping is needed, such as {{family: attention, kind: insert}}")
        for key in content:
            if key not in valid:
                raise ConfigError(f"{where}.{key}: no such key. {nearest(str(key), valid)}valid: {', '.join(valid)}")
        family, kind, paper = content.get("family", ""), content.get("kind", "insert"), content.get("paper", "")
        if family != "":
            _check_choice(family, FAMILIES, f"{where}.family")
        kinds = kind if isinstance(kind, list) else [kind]
        if not kinds:
            raise ConfigError(f"{where}.kind=[]: at least one kind is needed; valid: {', '.join(KINDS)}")
        for each in kinds:
            _check_choice(each, KINDS, f"{where}.kind")
        if not isinstance(paper, str):
            raise ConfigError(f"{where}.paper={paper}: a text is needed, in quotes")
        return cls(family, tuple(dict.fromkeys(kinds)), paper)


def _check_choice(value: object, valid: Sequence[str], where: str) -> None:
    if value not in valid:
        raise ConfigError(f"{where}={value}: {nearest(str(value), valid)}valid: {', '.join(valid)}")
