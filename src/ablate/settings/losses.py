"""Losses: which function trains the boxes, which the classes, and by which overlap objects are assigned to predictions.

A loss is written in three ways, all of which are read and written here:

- on the command line: ``loss.box=wiou`` or ``loss.box=inner[of=siou,ratio=0.75]``; as a component ``wiou@box``;
- in a configuration, `config.yaml` and `result.json`: ``{"loss": {"box": {"name", "_target_", "<option>": ...}}}``;
- in a network's yaml: the same, of the parts that are not stock.

A loss of the stock network is None here: Ultralytics' own code computes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path

from ablate.errors import ConfigError, nearest
from ablate.settings.about import About
from ablate.settings.graft import bracket_options, module_names
from ablate.settings.schema import LossConfig, conf_dir, option_file, option_path, options
from ablate.sources.module_source import module_source
from ablate.storage.plain_values import Plain, plain_copy

FACTOR_OF = {"box": "box_loss", "cls": "cls_loss", "assigner": "assigner"}  # the factor that each part varies
PARTS = tuple(FACTOR_OF)
FORM = "name[option=value,...]"
_NO_OPTIONS = ("name", "_target_", "about", "defaults")  # keys of a loss's file that its class does not take
_NEEDS = "a loss file needs name, _target_ (package.module.Class), and every option with a value"
_LOSS = re.compile(r"(?P<name>[^\[\]@=]+)(\[(?P<options>.*)\])?")
_COMPONENT = re.compile(rf"(?P<loss>[^@]+)@(?P<part>{'|'.join(PARTS)})")


@dataclass(frozen=True)
class LossSpec:
    """A loss's class with its options.

    Attributes:
        target: Dotted path of the class.
        options: Keyword arguments of the class, without `of`.
        name: Name of its file in `conf/loss/box/` or `conf/loss/cls/`; None for a mapping of the user's without one.
        of: The loss of boxes that a wrapper such as `inner` changes; None for any other loss.
    """

    target: str
    options: Mapping[str, object] = field(default_factory=dict)
    name: str | None = None
    of: LossSpec | None = None

    @classmethod
    def from_text(cls, text: str, part: str, where: str = "") -> LossSpec:
        """Return the loss that a text such as ``wiou`` or ``inner[of=siou,ratio=0.75]`` means.

        Options that are not given have the values of the loss's file. Whether the options exist is not looked at here.

        Args:
            text: In the form `FORM`.
            part: ``box``, ``cls`` or ``assigner``.
            where: Leads the message of an error; by default the key and its value.

        Raises:
            ConfigError: The text has another form, or there is no such loss of this part.
        """
        where = where or f"loss.{part}={text}"
        match = _LOSS.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{where}: no loss; the form is {FORM}, such as {LossConfig().__dict__[part]}")
        name = match["name"].strip()
        _check_name(name, part, where)
        content = {
            **_loss_file(_folder(part), name, Path.cwd()),
            **bracket_options(match["options"] or "", where, _NO_OPTIONS, FORM),
        }
        return cls.from_plain(content, where, part)

    @classmethod
    def from_plain(cls, content: Plain, where: str = "loss", part: str = "box") -> LossSpec:
        """Return the loss of a configuration or of a network's yaml.

        Raises:
            ConfigError: The loss that a wrapper is of does not exist, or has no overlap for the assigner.
        """
        values = {key: plain_copy(value) for key, value in content.items() if key not in _NO_OPTIONS}
        inner, of = values.pop("of", None), None
        if isinstance(inner, dict):
            of = cls.from_plain(inner, where, part)
        elif inner is not None:
            of = cls.from_text(str(inner), part, f"{where}: of={inner}")
        return cls(str(content.get("_target_")), values, content.get("name"), of)

    @property
    def title(self) -> str:
        """Return the loss's name, else that of its class."""
        return self.name or self.target.rpartition(".")[2]

    @property
    def text(self) -> str:
        """Return the loss in the syntax of the command line, with the options that differ from its file."""
        folder = "cls" if self.name in options("loss/cls") and self.name not in options("loss/box") else "box"
        path = None if self.name is None else option_path(f"loss/{folder}", self.name)
        if path is None:
            return self.title
        defaults = LossSpec.from_plain(_loss_file(folder, str(self.name), Path.cwd()))
        changed = [f"of={self.of.text}"] if self.of is not None and self.of != defaults.of else []
        changed += [f"{key}={value}" for key, value in self.options.items() if defaults.options.get(key) != value]
        return f"{self.title}[{','.join(changed)}]" if changed else self.title

    @property
    def arguments(self) -> dict[str, object]:
        """Return the keyword arguments of the class that are plain values: all but `of`."""
        return {name: plain_copy(value) for name, value in self.options.items()}

    @property
    def targets(self) -> list[str]:
        """Return the classes that the loss is made from."""
        return [self.target, *([] if self.of is None else self.of.targets)]

    @property
    def key(self) -> Plain:
        """Return what of the loss can change a result: class, options and source, and those of the loss in it.

        Part of a trial's signature: what is returned for a loss must stay as it is.

        Raises:
            ConfigError: The class cannot be found.
        """
        options = {"_target_": self.target, **self.arguments}
        key: Plain = {"loss": options, "source": module_source(self.target).sha256}
        return key if self.of is None else {**key, "of": self.of.key}

    def to_plain(self) -> Plain:
        """Return the loss as a configuration holds it; `from_plain` is the inverse."""
        name = {} if self.name is None else {"name": self.name}
        of = {} if self.of is None else {"of": self.of.to_plain()}
        return {**name, "_target_": self.target, **of, **self.arguments}


@dataclass(frozen=True)
class LossSettings:
    """The losses of a trial; None where it is the stock network's own.

    Attributes:
        box: How far a predicted box is from that of its object.
        cls: How far the scores of the classes are from their targets.
        assigner: The overlap by which objects are assigned to predictions.
    """

    box: LossSpec | None = None
    cls: LossSpec | None = None
    assigner: LossSpec | None = None

    @classmethod
    def from_plain(cls, content: Plain) -> LossSettings:
        """Return the losses of the section `loss`; a part that it lacks is stock.

        Raises:
            ConfigError: There is no such loss.
        """
        stock = asdict(LossConfig())
        losses: dict[str, LossSpec | None] = {}
        for part in PARTS:
            value = content.get(part, stock[part])
            is_stock = value is None or (isinstance(value, str) and value.strip() in (stock[part], f"{stock[part]}[]"))
            if not is_stock:
                losses[part] = LossSpec.from_plain(value) if isinstance(value, dict) else _from_text(value, part)
        return cls(**losses)

    @property
    def parts(self) -> dict[str, LossSpec]:
        """Return the losses that are not stock, by part."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {part: loss for part, loss in values.items() if loss is not None}

    @property
    def components(self) -> list[str]:
        """Return the losses that are not stock as components, such as ``wiou[delta=3]@box``."""
        return [f"{loss.text}@{part}" for part, loss in self.parts.items()]

    @property
    def factors(self) -> dict[str, str]:
        """Return the level of each factor that is not stock: `box_loss`, `cls_loss`, `assigner`."""
        return {FACTOR_OF[part]: loss.text for part, loss in self.parts.items()}

    @property
    def targets(self) -> list[str]:
        """Return the dotted paths of the classes that the losses are made from, each once."""
        return list(dict.fromkeys(target for loss in self.parts.values() for target in loss.targets))

    @property
    def key(self) -> Plain:
        """Return what can change a result; empty where every loss is stock. Part of a trial's signature."""
        return {part: loss.key for part, loss in self.parts.items()}

    def to_plain(self) -> Plain:
        """Return the section `loss` as `config.yaml` and `result.json` hold it; `from_plain` is the inverse."""
        return {**asdict(LossConfig()), **{part: loss.to_plain() for part, loss in self.parts.items()}}

    def to_yaml(self) -> Plain:
        """Return what a network's yaml holds: the losses that are not stock. `from_plain` reads it."""
        return {part: loss.to_plain() for part, loss in self.parts.items()}


def loss_names(part: str) -> list[str]:
    """Return the names of the losses that a part can have, with those of ./conf where a user keeps her own.

    The overlap of an assigner is that of a box loss whose file says so: ``about: {kind: [box, assigner]}``.
    """
    if part != "assigner":
        return options(f"loss/{part}")
    return [name for name in options("loss/box") if _is_overlap(name)]


def about_loss(name: str, folder: str) -> About:
    """Return what the file of a loss in the folder ``box`` or ``cls`` says about it.

    Raises:
        ConfigError: It is no YAML mapping, or what it says about the loss is not valid.
    """
    content = option_file(f"loss/{folder}", name)
    return About.of_loss(content.get("about"), f"conf/loss/{folder}/{name}.yaml: about", folder)


def loss_family(name: str, part: str) -> str:
    """Return the family that the file of a loss names, such as ``box loss`` or ``control``; empty where it does not."""
    return about_loss(name, _folder(part)).family


def split_component(text: str) -> tuple[str, str] | None:
    """Return loss and part of a component such as ``wiou[delta=3]@box``; None for any other text."""
    match = _COMPONENT.fullmatch(text.strip())
    return (match["loss"].strip(), match["part"]) if match else None


def _from_text(value: object, part: str) -> LossSpec:
    if not isinstance(value, str):
        raise ConfigError(f"loss.{part}={value}: the name of a loss is needed; valid: {', '.join(loss_names(part))}")
    return LossSpec.from_text(value, part)


def _folder(part: str) -> str:
    return "box" if part == "assigner" else part


def _is_overlap(name: str) -> bool:
    """Tell whether a loss of boxes serves the assigner; one whose file is wrong is not judged until it is named."""
    try:
        return "assigner" in about_loss(name, "box").kinds
    except ConfigError:
        return False


def _check_name(name: str, part: str, where: str) -> None:
    """Check that a part can have a loss of this name.

    Raises:
        ConfigError: There is none, it is that of another part, or it has no overlap for the assigner.
    """
    valid = loss_names(part)
    if name in valid:
        return
    if part == "assigner" and name in options("loss/box"):
        about_loss(name, "box")  # says what is wrong with its file
        reason = f"the assigner needs an overlap from 0 to 1, and {name} has none (kind: [box, assigner] in its file)"
        raise ConfigError(f"{where}: {reason}; valid: {', '.join(valid)}")
    home = next((other for other in ("box", "cls") if other != part and name in options(f"loss/{other}")), None)
    if home is not None:
        raise ConfigError(f"{where}: {name} is a loss of {home}: loss.{home}={name}; valid here: {', '.join(valid)}")
    if name in module_names():
        raise ConfigError(f"{where}: {name} is a module, no loss; valid here: {', '.join(valid)}")
    raise ConfigError(f"{where}: no such loss. {nearest(name, valid)}valid: {', '.join(valid)}")


@cache
def _loss_file(folder: str, name: str, place: Path) -> Plain:
    """Return what a loss's file holds, read once for each working folder, where a user may keep her own.

    Raises:
        ConfigError: It lacks what it needs, or is never read because a loss of ours has its name.
    """
    group, title = f"loss/{folder}", f"conf/loss/{folder}/{name}.yaml"
    content = option_file(group, name)
    ours, users = conf_dir() / group / f"{name}.yaml", place / "conf" / group / f"{name}.yaml"
    if ours.is_file() and users.is_file() and ours.read_bytes() != users.read_bytes():
        raise ConfigError(f"{title} is never read: ablate has a loss {name}; give the file another name")
    for key in ("name", "_target_"):
        if not isinstance(content.get(key), str):
            raise ConfigError(f"{title}: {key} is missing or no text; {_NEEDS}")
    if content["name"] != name:
        raise ConfigError(f"{title}: name: {content['name']}: it must be that of the file: name: {name}")
    for key, value in content.items():
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise ConfigError(f"{title}: {key}: {value}: a loss file is read by itself; write the value")
    about_loss(name, folder)
    return content
