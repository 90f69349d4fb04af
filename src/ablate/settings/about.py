"""What the file of a module or a loss says about it beside its options: family, what it can be, and its paper.

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
LOSS_FAMILIES = {"box": "box loss", "cls": "classification loss"}  # folder in conf/loss -> family
_LOSS_KINDS = {"box": ("box", "assigner"), "cls": ("cls",)}


@dataclass(frozen=True)
class About:
    """What the file of a module or a loss says about it.

    Attributes:
        family: One of `FAMILIES` or `LOSS_FAMILIES`; empty where the file names none.
        kinds: What the module can be, each one of `KINDS`; of a loss ``box``, ``cls``, ``assigner``.
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
        return cls._read(content, where, FAMILIES, KINDS)

    @classmethod
    def of_loss(cls, content: object, where: str, folder: str) -> About:
        """Return the same of a loss, whose file is in the folder ``box`` or ``cls``.

        Raises:
            ConfigError: It is no mapping, or a key or a value in it is not valid.
        """
        return cls._read(content, where, (LOSS_FAMILIES[folder], "control"), _LOSS_KINDS[folder])

    @classmethod
    def _read(cls, content: object, where: str, families: Sequence[str], possible: Sequence[str]) -> About:
        if content is None:
            return cls(kinds=(possible[0],))
        valid = ("family", "kind", "paper")
        if not isinstance(content, Mapping):
            example = f"{{family: {families[0]}, kind: {possible[0]}}}"
            raise ConfigError(f"{where}: {content}: a mapping is needed, such as {example}")
        for key in content:
            if key not in valid:
                raise ConfigError(f"{where}.{key}: no such key. {nearest(str(key), valid)}valid: {', '.join(valid)}")
        family, kind, paper = content.get("family", ""), content.get("kind", possible[0]), content.get("paper", "")
        if family != "":
            _check_choice(family, families, f"{where}.family")
        kinds = kind if isinstance(kind, list) else [kind]
        if not kinds:
            raise ConfigError(f"{where}.kind=[]: at least one kind is needed; valid: {', '.join(possible)}")
        for each in kinds:
            _check_choice(each, possible, f"{where}.kind")
        if not isinstance(paper, str):
            raise ConfigError(f"{where}.paper={paper}: a text is needed, in quotes")
        return cls(family, tuple(dict.fromkeys(kinds)), paper)


def _check_choice(value: object, valid: Sequence[str], where: str) -> None:
    if value not in valid:
        raise ConfigError(f"{where}={value}: {nearest(str(value), valid)}valid: {', '.join(valid)}")


def selected(word: str, valid: Sequence[str], lead: str = "") -> list[str]:
    """Return the values of a word that selects, such as ``family=attention,mixer`` or ``kind=[insert]``.

    Args:
        word: The word.
        valid: The values that there are; empty where any is valid.
        lead: Begins the message of an error.

    Raises:
        ConfigError: It has no value, or one that there is not.
    """
    key, _, text = word.partition("=")
    values = [value.strip() for value in text.strip().removeprefix("[").removesuffix("]").split(",") if value.strip()]
    if not values:
        raise ConfigError(f"{lead}{word}: a value is needed" + (f"; valid: {', '.join(valid)}" if valid else ""))
    for value in values if valid else ():
        _check_choice(value, valid, f"{lead}{key}")
    return values
